package server

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
	"go.uber.org/goleak"
)

// Real sockets, for what a pipe does not have: two directions that end apart, a
// buffer in the kernel, resets. Time is real here, so nothing depends on it.

// listen serves a socket of that network until the test ends, and then looks for
// goroutines that are left. "tcp blocking" is one whose connections have lost
// O_NONBLOCK to somebody who shares them.
func listen(t testing.TB, network string, settings Settings) *testServer {
	t.Helper()
	if t, ok := t.(*testing.T); ok {
		t.Cleanup(func() { goleak.VerifyNone(t) })
	}
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	network, blocking := strings.CutSuffix(network, " blocking")
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if blocking {
		l = wiretest.BlockingListener{Listener: l}
	}
	return startServer(t, l, settings)
}

func (ts *testServer) connect() *peer {
	ts.t.Helper()
	nc, err := net.Dial(ts.l.Addr().Network(), ts.l.Addr().String())
	if err != nil {
		ts.t.Fatal(err)
	}
	return newPeer(ts.t, nc)
}

// closeWrite ends what the peer sends; it still reads.
func (p *peer) closeWrite() {
	p.t.Helper()
	if err := p.nc.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		p.t.Fatal(err)
	}
}

// A program that tells when it runs and ends when it is let.
func gated(running, release chan struct{}) runnerFunc {
	return func(ctx context.Context, req *protocol.Request) (uint32, error) {
		running <- struct{}{}
		select {
		case <-release:
			return hello(ctx, req)
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func TestHalfClosedUnixClientGetsItsAnswer(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	s := listen(t, "unix", testSettings(gated(running, release)))
	p := s.connect()
	p.send(get(1, true), get(2, true), begin(3, true), params(3), part(3, "x"))
	p.closeWrite()
	<-running
	<-running
	p.wantAnswer(3, "", 0) // its STDIN will never end
	close(release)
	p.wantAnswer(1, helloAnswer, 0)
	p.wantAnswer(2, helloAnswer, 0)
	p.wantClosed()
	s.wantErrors()
}

func TestHalfClosedUnixClientGoes(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	s := listen(t, "unix", testSettings(gated(running, release)))
	p := s.connect()
	p.send(get(1, true))
	<-running
	p.closeWrite()
	p.nc.Close()
	if r := s.want(Aborted, 0, complete(0)); !errors.Is(r.Reason, ErrClientGone) {
		t.Errorf("result is %+v", r)
	}
}

// Without a request there is nothing to wait for.
func TestHalfClosedIdleClient(t *testing.T) {
	s := listen(t, "unix", testSettings(hello))
	p := s.connect()
	p.closeWrite()
	p.wantClosed()
}

// Nothing but its FIN would tell that a TCP client is gone.
func TestFINOfATCPClient(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	s := listen(t, "tcp", testSettings(gated(running, release)))
	p := s.connect()
	p.send(get(1, true))
	<-running
	p.closeWrite()
	if r := s.want(Aborted, 0, complete(0)); !errors.Is(r.Reason, ErrClientGone) {
		t.Errorf("result is %+v", r)
	}
	s.wantErrors()
}

// A client that writes all before it reads gets its answer, not a reset.
func TestLingersForWhatIsStillSent(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			settings := liveSettings(hello)
			settings.Limits.Body = 0
			s := listen(t, network, settings)
			nc, err := net.Dial(network, s.l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			late := []byte(strings.Repeat(string(part(1, strings.Repeat("x", 60_000))), 100))
			for _, b := range [][]byte{begin(1, false), params(1), late} {
				if _, err := nc.Write(b); err != nil {
					t.Fatalf("after an answer: %v", err)
				}
			}
			p := newPeer(t, nc)
			p.wantAnswer(1, helloAnswer, 0)
			p.wantClosed()
			if p.ended != io.EOF {
				t.Errorf("connection ends with %v", p.ended)
			}
			nc.Close()
		})
	}
}

// A client that closes with an answer unread resets the connection. That breaks
// no protocol.
func TestResetIsNoProtocolError(t *testing.T) {
	written := make(chan struct{})
	s := listen(t, "unix", testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
		hello(ctx, req)
		close(written)
		return untilDone(ctx, req)
	}))
	nc, err := net.Dial("unix", s.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc.Write(get(1, true))
	<-written
	nc.Close()
	s.want(Aborted, 200, complete(0))
	s.stop()
	<-s.served
	s.wantErrors()
}

// An answer is spliced from a pipe through ReadFrom, header and all.
func TestAnswerFromAPipe(t *testing.T) {
	body := strings.Repeat("0123456789", 50_000)
	s := listen(t, "unix", testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
		r, w, err := os.Pipe()
		if err != nil {
			return 1, err
		}
		defer r.Close()
		go func() {
			defer w.Close()
			io.WriteString(w, "A: b\n")
			io.WriteString(w, "\n"+body)
		}()
		_, err = io.Copy(req.Stdout, r)
		return 0, err
	}))
	p := s.connect()
	for range 3 {
		p.send(get(1, true))
		p.wantAnswer(1, "A: b\r\n\r\n"+body, 0)
	}
}

// Requests on one connection, with bodies of all sizes that come in any order,
// are answered each with its own.
func TestThousandRequestsOnOneConnection(t *testing.T) {
	before := openFiles(t)
	settings := testSettings(echo)
	settings.Limits.Queue, settings.Limits.QueueTimeout = 1000, 0
	settings.SpoolDir = t.TempDir()
	s := listen(t, "unix", settings)
	p := s.connect()
	const n = 1000
	digests := make(map[uint16][32]byte, n)
	rest := make(map[uint16]string, n)
	letters := make([]byte, 256<<10)
	for i := range letters {
		letters[i] = byte(rand.Uint32())
	}
	for id := range uint16(n) {
		size := rand.IntN(1 << rand.IntN(19))
		from := rand.IntN(len(letters) - size + 1)
		body := string(letters[from : from+size])
		rest[id+1], digests[id+1] = body, sha256.Sum256([]byte(plainHeader+body))
	}
	var sender sync.WaitGroup
	sender.Go(func() {
		for id, body := range rest {
			p.nc.Write(append(begin(id, true), params(id, "CONTENT_LENGTH", fmt.Sprint(len(body)))...))
		}
		for len(rest) > 0 {
			for id, body := range rest { // in no order
				size := min(len(body), 1+rand.IntN(32<<10))
				p.nc.Write(part(id, body[:size]))
				if rest[id] = body[size:]; size == 0 {
					delete(rest, id)
				}
			}
		}
	})
	for id, want := range digests {
		if a := p.answer(id); sha256.Sum256([]byte(a.stdout)) != want || a.end != complete(0) {
			t.Fatalf("answer %d is wrong: %d bytes, %+v", id, len(a.stdout), a.end)
		}
	}
	sender.Wait()
	s.stop()
	<-s.served
	p.wantClosed()
	s.wantErrors()
	if got := len(s.done); got != n {
		t.Errorf("%d requests were reported", got)
	}
	s.l.Close()
	p.nc.Close()
	if after := openFiles(t); after > before {
		t.Errorf("%d files are left open", after-before)
	}
}

// dialRaw connects without reading what comes.
func dialRaw(t testing.TB, s *testServer) net.Conn {
	t.Helper()
	nc, err := net.Dial(s.l.Addr().Network(), s.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	return nc
}

// A maskedListener's connections are sockets whose bytes are not what they carry.
type maskedListener struct{ net.Listener }

func (l maskedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return maskedConn{nc.(*net.UnixConn)}, nil
}

type maskedConn struct{ *net.UnixConn }

func (c maskedConn) Read(p []byte) (int, error) {
	n, err := c.UnixConn.Read(p)
	mask(p[:n])
	return n, err
}

func (c maskedConn) Write(p []byte) (int, error) {
	p = bytes.Clone(p)
	mask(p)
	return c.UnixConn.Write(p)
}

func mask(p []byte) {
	for i := range p {
		p[i] ^= 0x55
	}
}

// A connection that has a descriptor and methods of its own is read and written by
// these.
func TestConnThatIsNotItsSocket(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, maskedListener{l}, testSettings(echo))
	nc, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, maskedConn{nc.(*net.UnixConn)})
	body := strings.Repeat("x", 100<<10)
	p.send(post(1, true, body))
	p.wantAnswer(1, plainHeader+body, 0)
	s.wantErrors()
}
