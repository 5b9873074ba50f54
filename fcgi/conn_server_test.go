package fcgi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/server"
)

// echo is an application that answers with its STDIN.
type echo struct{}

func (echo) Run(_ context.Context, req *protocol.Request) (uint32, error) {
	if _, err := io.WriteString(req.Stdout, "Content-Type: application/octet-stream\r\n\r\n"); err != nil {
		return 1, err
	}
	if req.Stdin == nil {
		return 0, nil
	}
	n, err := io.Copy(req.Stdout, req.Stdin)
	return uint32(n), err
}

// startEcho serves echo, and reports the number of connections that it has got.
func startEcho(t *testing.T, network string, limits server.Limits) (address string, conns func() int64) {
	t.Helper()
	listen := "127.0.0.1:0"
	if network == "unix" {
		listen = t.TempDir() + "/s"
	}
	ln, err := net.Listen(network, listen)
	if err != nil {
		t.Fatal(err)
	}
	s := server.New(server.Settings{Runner: echo{}, Limits: limits, SpoolDir: t.TempDir(), Grace: time.Second}, server.Options{})
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- server.NewAddress(s).Serve(ctx, ln) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return ln.Addr().String(), func() int64 { return s.Snapshot().ConnectionsTotal }
}

// Two hundred calls at once, one connection: each gets its own body back,
// whether they share it or take turns.
func TestManyAtOnce(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		for _, multiplex := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s multiplex=%v", network, multiplex), func(t *testing.T) {
				limits := server.Limits{Multiplex: multiplex, MaxReqs: 64, Queue: 1000, Params: 16 << 10, Body: 2 << 20, BodyMemory: 64 << 10}
				address, conns := startEcho(t, network, limits)
				c, err := Dial(t.Context(), network+":"+address)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Wait()
				defer c.Close()
				var wg sync.WaitGroup
				for seed := range uint64(200) {
					wg.Go(func() {
						if err := echoBody(t.Context(), c, seed); err != nil {
							t.Errorf("body %d: %v", seed, err)
						}
					})
				}
				wg.Wait()
				if got := conns(); got != 2 { // and that of the question
					t.Errorf("%d connections", got)
				}
				c.mu.Lock()
				defer c.mu.Unlock()
				if c.mpx == mpxYes != multiplex {
					t.Errorf("mpx %d", c.mpx)
				}
				if c.requests.used != 0 || c.reading || multiplex && len(c.requests.slots) < 2 {
					t.Errorf("%d ids of %d are taken, reading %v", c.requests.used, len(c.requests.slots), c.reading)
				}
			})
		}
	}
}

// Requests that are aborted inside their bodies do no harm to those that are not.
func TestManyAborted(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			limits := server.Limits{Multiplex: true, Queue: 1000, Params: 16 << 10, Body: 2 << 20, BodyMemory: 64 << 10}
			address, conns := startEcho(t, network, limits)
			c, err := Dial(t.Context(), network+":"+address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Wait()
			defer c.Close()
			if _, err := c.Values(t.Context(), MpxsConns); err != nil {
				t.Fatal(err)
			}
			stdin, w := io.Pipe()
			last := start(t.Context(), c, &Request{Stdin: stdin}) // never alone
			var wg sync.WaitGroup
			for seed := range uint64(60) {
				wg.Go(func() {
					if err := echoBody(t.Context(), c, seed); err != nil {
						t.Errorf("body %d: %v", seed, err)
					}
				})
				wg.Go(func() {
					ctx, cancel := context.WithCancelCause(t.Context())
					defer cancel(nil)
					cut := &cuttingStream{left: int(seed) * 5000, cut: func() { cancel(errEnough) }}
					req := &Request{Stdin: io.LimitReader(zeros{}, 1<<20), Stdout: cut}
					if seed%2 == 0 {
						req.Stdin, req.Stdout = cut, nil
					}
					if _, err := c.Do(ctx, req); err != errEnough {
						t.Errorf("aborted %d: %v", seed, err)
					}
				})
			}
			wg.Wait()
			w.Close()
			if <-last.done; last.err != nil || conns() != 1 {
				t.Errorf("%v, %d connections", last.err, conns())
			}
		})
	}
}

// A cuttingStream is an endless Stdin, or a Stdout, that calls cut when left bytes
// have passed.
type cuttingStream struct {
	left int
	cut  func()
}

func (s *cuttingStream) Read(p []byte) (int, error) { return s.Write(p) }

func (s *cuttingStream) Write(p []byte) (int, error) {
	if s.left -= len(p); s.left < 0 {
		s.cut()
	}
	return len(p), nil
}

// echoBody sends a random body of up to 1 MiB and compares what comes back.
func echoBody(ctx context.Context, c *Conn, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 1))
	size := int64(random.IntN(1<<20 + 1))
	if seed%4 == 0 {
		size = int64(random.IntN(100))
	}
	sent := sha256.New()
	got := &bodyDigest{hash: sha256.New()}
	var body [32]byte
	for i := range body {
		body[i] = byte(random.Uint32())
	}
	result, err := c.Do(ctx, &Request{
		Params: Params{{"REQUEST_METHOD", "POST"}, {"CONTENT_LENGTH", strconv.FormatInt(size, 10)}},
		Stdin:  io.TeeReader(io.LimitReader(rand.NewChaCha8(body), size), sent),
		Stdout: got,
	})
	switch {
	case err != nil:
		return err
	case result != Result{AppStatus: uint32(size)}:
		return fmt.Errorf("%+v, want appStatus %d", result, size)
	case !bytes.Equal(sent.Sum(nil), got.hash.Sum(nil)):
		return fmt.Errorf("%d bytes came back otherwise", size)
	}
	return nil
}

// A bodyDigest is a Stdout that hashes the body of a CGI response.
type bodyDigest struct {
	header []byte
	past   bool
	hash   hash.Hash
}

func (d *bodyDigest) Write(p []byte) (int, error) {
	if d.past {
		return d.hash.Write(p)
	}
	d.header = append(d.header, p...)
	if _, body, found := bytes.Cut(d.header, []byte("\r\n\r\n")); found {
		d.past = true
		d.hash.Write(body)
	}
	return len(p), nil
}
