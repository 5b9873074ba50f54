package fcgi_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
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
	return serveOn(t, newPipeListener(), s)
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

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept takes what dial gives.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *pipeListener) Close() error { l.once.Do(func() { close(l.closed) }); return nil }

// Addr is one.
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "pipe"} }

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

// A wire is a web server that does what a test says. It reads all the time, and
// checks every byte that it gets.
type wire struct {
	t       testing.TB
	nc      net.Conn
	records chan wiretest.Record
	ended   error // why records is closed
	open    map[uint16]*reply
	done    map[uint16]reply
}

// A reply is what came for one request.
type reply struct {
	stdout, stderr strings.Builder
	outs           int // records of STDOUT with something in them
	end            protocol.End
}

// dial connects to the server.
func (v *served) dial() *wire {
	v.t.Helper()
	var nc net.Conn
	if l, ok := v.l.(*pipeListener); ok {
		near, far := net.Pipe()
		l.conns <- far
		nc = near
	} else {
		var err error
		if nc, err = net.Dial(v.l.Addr().Network(), v.l.Addr().String()); err != nil {
			v.t.Fatal(err)
		}
	}
	w := &wire{t: v.t, nc: nc, records: make(chan wiretest.Record, 1<<14), open: make(map[uint16]*reply), done: make(map[uint16]reply)}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		defer close(w.records)
		src := bufio.NewReader(nc)
		for {
			rec, err := wiretest.ReadRecord(src)
			if err != nil {
				w.ended = err
				return
			}
			w.records <- rec
		}
	}()
	v.t.Cleanup(func() {
		nc.Close()
		for range w.records { // or the reader could wait for us
		}
		<-gone
	})
	return w
}

func (w *wire) send(parts ...[]byte) {
	w.t.Helper()
	for _, b := range parts {
		if _, err := w.nc.Write(b); err != nil {
			w.t.Fatalf("server does not take %d bytes: %v", len(b), err)
		}
	}
}

// next is the next record.
func (w *wire) next() wiretest.Record {
	w.t.Helper()
	select {
	case rec, ok := <-w.records:
		if !ok {
			w.t.Fatalf("no more records: %v", w.ended)
		}
		return rec
	case <-time.After(time.Hour):
		w.t.Fatal("nothing comes")
		panic("unreachable")
	}
}

// reply reads until the request has ended.
func (w *wire) reply(id uint16) reply {
	w.t.Helper()
	for {
		if r, ok := w.done[id]; ok {
			delete(w.done, id)
			return r
		}
		rec := w.next()
		r := w.open[rec.ID]
		if r == nil {
			r = new(reply)
			w.open[rec.ID] = r
		}
		switch rec.Type {
		case protocol.TypeStdout:
			r.stdout.WriteString(rec.Content)
			r.outs += min(1, len(rec.Content))
		case protocol.TypeStderr:
			r.stderr.WriteString(rec.Content)
		case protocol.TypeEndRequest:
			r.end, _ = protocol.ParseEnd([]byte(rec.Content))
			w.done[rec.ID] = *r
			delete(w.open, rec.ID)
		default:
			w.t.Fatalf("unexpected %v", rec)
		}
	}
}

// want checks a whole answer.
func (w *wire) want(id uint16, stdout string, appStatus uint32) {
	w.t.Helper()
	r := w.reply(id)
	if got := r.stdout.String(); got != stdout || r.end != (protocol.End{AppStatus: appStatus}) {
		w.t.Fatalf("answer %d is %.300q, %+v; want %.300q, appStatus %d", id, got, r.end, stdout, appStatus)
	}
}

// wantPage checks that the answer is a page of the server's own.
func (w *wire) wantPage(id uint16, status int, appStatus uint32) {
	w.t.Helper()
	r := w.reply(id)
	got := r.stdout.String()
	if !strings.HasPrefix(got, fmt.Sprintf("Status: %d ", status)) || !strings.HasSuffix(got, "\n") || r.end.AppStatus != appStatus {
		w.t.Fatalf("answer %d is %.300q, %+v; want a page with %d, appStatus %d", id, got, r.end, status, appStatus)
	}
}

// wantSilence checks, in a bubble, that nothing has come and nothing is on its way.
func (w *wire) wantSilence() {
	w.t.Helper()
	synctest.Wait()
	select {
	case rec, ok := <-w.records:
		w.t.Fatalf("%v comes, connection open: %v", rec, ok)
	default:
	}
}

// wantClosed waits until the server has closed the connection.
func (w *wire) wantClosed() {
	w.t.Helper()
	if rec, ok := <-w.records; ok {
		w.t.Fatalf("%v comes instead of the end of the connection", rec)
	}
	if errors.Is(w.ended, wiretest.ErrWire) {
		w.t.Fatal(w.ended)
	}
}
