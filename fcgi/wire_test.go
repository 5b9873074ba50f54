package fcgi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/wiretest"
)

const (
	plain       = "Content-Type: text/plain\r\n\r\n"
	helloAnswer = plain + "hello"
)

// hello looks at nothing.
func hello(_ context.Context, req *fcgi.Request) (uint32, error) {
	_, err := io.WriteString(req.Stdout, helloAnswer)
	return 0, err
}

// echo answers with its body.
func echo(_ context.Context, req *fcgi.Request) (uint32, error) {
	io.WriteString(req.Stdout, plain)
	_, err := io.Copy(req.Stdout, req.Stdin)
	return 0, err
}

// untilDone ends when it has to.
func untilDone(ctx context.Context, _ *fcgi.Request) (uint32, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

// A served is a Server at work.
type served struct {
	t    testing.TB
	l    net.Listener
	stop context.CancelFunc
	end  chan error // of Serve
	log  *logBuffer
}

// serveOn serves l until the test ends, and wants no error of Serve then.
func serveOn(t testing.TB, l net.Listener, s *fcgi.Server) *served {
	t.Helper()
	return serveWith(context.Background(), t, l, s)
}

// serveWith is serveOn with the context that Serve's is derived from.
func serveWith(ctx context.Context, t testing.TB, l net.Listener, s *fcgi.Server) *served {
	t.Helper()
	v := &served{t: t, l: l, end: make(chan error, 1), log: new(logBuffer)}
	if s.Log == nil {
		s.Log = slog.New(slog.NewTextHandler(v.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	ctx, stop := context.WithCancel(ctx)
	v.stop = stop
	go func() { v.end <- s.Serve(ctx, l); close(v.end) }()
	t.Cleanup(func() {
		stop()
		if err := <-v.end; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return v
}

// serve is serveOn for a bubble, where pipes are dialled.
func serve(t testing.TB, s *fcgi.Server) *served {
	t.Helper()
	return serveOn(t, wiretest.NewPipeListener(), s)
}

// sockets runs f with a listener of each kind.
func sockets(t *testing.T, f func(t *testing.T, l net.Listener)) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) { f(t, listen(t, network)) })
	}
}

func listen(t testing.TB, network string) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A logBuffer collects a log.
type logBuffer struct {
	mu  sync.Mutex // guards the field below
	buf bytes.Buffer
}

// Write collects p.
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// lines are those with all of words.
func (b *logBuffer) lines(words ...string) (found []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
next:
	for line := range strings.Lines(b.buf.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		found = append(found, line)
	}
	return found
}

// A wire is a wiretest.Peer, by the words of these tests.
type wire struct {
	*wiretest.Peer
	t  testing.TB
	nc net.Conn
}

// dial connects to the server.
func (v *served) dial() *wire {
	v.t.Helper()
	if l, ok := v.l.(*wiretest.PipeListener); ok {
		nc := l.Dial()
		return &wire{wiretest.NewPeer(v.t, nc), v.t, nc}
	}
	nc, err := net.Dial(v.l.Addr().Network(), v.l.Addr().String())
	if err != nil {
		v.t.Fatal(err)
	}
	return &wire{wiretest.NewPeer(v.t, nc), v.t, nc}
}

func (w *wire) send(parts ...[]byte)            { w.t.Helper(); w.Send(parts...) }
func (w *wire) next() wiretest.Record           { w.t.Helper(); return w.Next() }
func (w *wire) reply(id uint16) wiretest.Answer { w.t.Helper(); return w.Answer(id) }
func (w *wire) wantSilence()                    { w.t.Helper(); w.WantSilence() }
func (w *wire) wantClosed()                     { w.t.Helper(); w.WantClosed() }

// want checks a whole answer.
func (w *wire) want(id uint16, stdout string, appStatus uint32) {
	w.t.Helper()
	w.WantAnswer(id, stdout, appStatus)
}

// wantPage checks that the answer is a page of the server's own.
func (w *wire) wantPage(id uint16, status int, appStatus uint32) {
	w.t.Helper()
	r := w.reply(id)
	got := r.Stdout
	if !strings.HasPrefix(got, fmt.Sprintf("Status: %d ", status)) || !strings.HasSuffix(got, "\n") || r.End.AppStatus != appStatus {
		w.t.Fatalf("answer %d is %.300q, %+v; want a page with %d, appStatus %d", id, got, r.End, status, appStatus)
	}
}
