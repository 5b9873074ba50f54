package server

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// certificate is a server's of which nobody asks more.
var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// dialTLS connects over a pipe with TLS, with the handshake done.
func (ts *testServer) dialTLS() *tls.Conn {
	ts.t.Helper()
	near, far := net.Pipe()
	ts.l.(*pipeListener).Take(tls.Server(far, &tls.Config{Certificates: []tls.Certificate{certificate()}}))
	nc := tls.Client(near, &tls.Config{InsecureSkipVerify: true})
	if err := nc.Handshake(); err != nil {
		ts.t.Fatal(err)
	}
	ts.t.Cleanup(func() { near.Close() })
	return nc
}

// A client that takes something all the time gets its answer, however long that
// takes: a write that was broken off could not go on.
func TestTLSSlowReader(t *testing.T) {
	certificate()
	bubble(t, func(t *testing.T) {
		body := bytes.Repeat([]byte("0123456789abcdef"), 16<<10)
		settings := testSettings(writes(0, "A: b\r\n\r\n", string(body)))
		settings.Limits.WriteTimeout = 10 * time.Second
		s := serve(t, settings)
		nc := s.dialTLS()
		if _, err := nc.Write(get(1, true)); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		for {
			rec, err := readRecord(&slowReader{nc})
			if err != nil {
				t.Fatalf("after %d bytes: %v", got.Len(), err)
			}
			if rec.Type == protocol.TypeEndRequest {
				break
			}
			got.WriteString(rec.Content)
		}
		if want := append([]byte("A: b\r\n\r\n"), body...); !bytes.Equal(got.Bytes(), want) {
			t.Errorf("got %d bytes, want %d", got.Len(), len(want))
		}
	})
}

// A slowReader takes 4 KiB a second at most.
type slowReader struct{ io.Reader }

func (r *slowReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p[:min(len(p), 4<<10)])
	time.Sleep(time.Duration(n) * time.Second / (4 << 10))
	return n, err
}

// Clients that read nothing do not hold up each other's end, nor that of Serve.
func TestTLSShutdownOfIdleConnections(t *testing.T) {
	certificate()
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		settings.Grace = 0
		s := serve(t, settings)
		for range 6 {
			nc := s.dialTLS()
			if _, err := nc.Write(get(1, true)); err != nil {
				t.Fatal(err)
			}
			for r := (record{}); r.Type != protocol.TypeEndRequest; {
				var err error
				if r, err = readRecord(nc); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		s.stop()
		s.wantServed(lingerTime)
	})
}

// A farewell is a connection like a tls.Conn whose client reads nothing: Close has
// something to say and waits until it can, or the connection under it is closed.
type farewell struct {
	net.Conn
	under *underConn
}

type underConn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *farewell) NetConn() net.Conn { return c.under }

func (c *farewell) Close() error { <-c.under.closed; return nil }

func (c *farewell) CloseWrite() error { return c.Close() }

func (c *underConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// One that takes nothing of its answer is cut: nothing waits for its Close.
func TestCloseThatWaitsIsNotWaitedFor(t *testing.T) {
	l := newPipeListener()
	settings := testSettings(writes(0, helloAnswer))
	settings.Limits.WriteTimeout = 50 * time.Millisecond
	settings.Grace = 0
	s := startServer(t, l, settings)
	for _, keep := range []bool{true, false} {
		near, far := net.Pipe()
		t.Cleanup(func() { near.Close() })
		l.Take(&farewell{far, &underConn{Conn: far, closed: make(chan struct{})}})
		if _, err := near.Write(get(1, keep)); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if r := s.result(); r.Outcome != OK && r.Outcome != Aborted {
			t.Errorf("got %+v", r)
		}
	}
	s.stop()
	if err := <-s.served; err != nil {
		t.Error(err)
	}
}

// The end of a connection is told in the words of TLS: a client can tell it from
// one that was cut.
func TestTLSCloseIsTold(t *testing.T) {
	certificate()
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		p := newPeer(t, s.dialTLS())
		p.send(get(1, false))
		p.wantAnswer(1, helloAnswer, 0)
		p.wantClosed()
		if p.ended != io.EOF {
			t.Errorf("connection ends with %v", p.ended)
		}
		kept := newPeer(t, s.dialTLS())
		kept.send(get(1, true))
		kept.wantAnswer(1, helloAnswer, 0)
		s.stop()
		kept.wantClosed()
		if kept.ended != io.EOF {
			t.Errorf("kept connection ends with %v", kept.ended)
		}
	})
}
