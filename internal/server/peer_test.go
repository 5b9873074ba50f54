package server

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// bubble runs f where time is fake and a goroutine that is left is a failure.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

type runnerFunc func(ctx context.Context, req *protocol.Request) (uint32, error)

func (f runnerFunc) Run(ctx context.Context, req *protocol.Request) (uint32, error) {
	return f(ctx, req)
}

const (
	plainHeader = "Content-Type: text/plain\r\n\r\n"
	helloAnswer = plainHeader + "hello"
)

// hello is a program that looks at nothing.
func hello(_ context.Context, req *protocol.Request) (uint32, error) {
	_, err := io.WriteString(req.Stdout, helloAnswer)
	return 0, err
}

// echo answers with its body.
func echo(_ context.Context, req *protocol.Request) (uint32, error) {
	if _, err := io.WriteString(req.Stdout, plainHeader); err != nil || req.Stdin == nil {
		return 0, err
	}
	_, err := io.Copy(req.Stdout, req.Stdin)
	return 0, err
}

// untilDone is a program that ends when it has to.
func untilDone(ctx context.Context, _ *protocol.Request) (uint32, error) {
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

// writes is a program that writes its answer part by part and exits with status.
func writes(status uint32, parts ...string) runnerFunc {
	return func(_ context.Context, req *protocol.Request) (uint32, error) {
		for _, p := range parts {
			if _, err := io.WriteString(req.Stdout, p); err != nil {
				return status, err
			}
		}
		return status, nil
	}
}

// allInPlace has the tests run with Settings.InPlace, but those that say when to the moment.
var allInPlace = flag.Bool("inplace", false, "run requests in place")

// testSettings are settings as a pool has them, smaller.
func testSettings(run runnerFunc) Settings {
	return Settings{
		Runner: run, InPlace: *allInPlace,
		Limits: Limits{
			RequestBuffering: true, Multiplex: true, MaxReqs: 8, Queue: 8, QueueTimeout: 10 * time.Second,
			Params: 16 << 10, Body: 1 << 20, BodyMemory: 4 << 10,
			ReadTimeout: 30 * time.Second, WriteTimeout: time.Minute,
		},
		Grace: 5 * time.Second,
	}
}

// liveSettings are those of a pool without request_buffering.
func liveSettings(run runnerFunc) Settings {
	s := testSettings(run)
	s.Limits.RequestBuffering = false
	return s
}

// A testServer is a Server with a listener and all that its hooks have told.
type testServer struct {
	*Server
	at     *Address
	t      testing.TB
	l      net.Listener
	stop   context.CancelFunc
	served chan error
	done   chan Result

	mu     sync.Mutex
	errors []string // kinds of protocol errors
}

// startServer serves l until the test ends; a nil l takes what dial gives it.
func startServer(t testing.TB, l net.Listener, settings Settings, change ...func(*Options)) *testServer {
	t.Helper()
	ts := &testServer{t: t, l: l, served: make(chan error, 1), done: make(chan Result, 1<<14)}
	if l == nil {
		ts.l = newPipeListener()
	}
	opt := Options{Hooks: Hooks{
		Done: func(r *Result) { ts.done <- *r },
		ProtocolError: func(kind string) {
			ts.mu.Lock()
			defer ts.mu.Unlock()
			ts.errors = append(ts.errors, kind)
		},
	}}
	for _, f := range change {
		f(&opt)
	}
	ts.Server = New(settings, opt)
	ctx, stop := context.WithCancel(context.Background())
	ts.stop, ts.at = stop, NewAddress(ts.Server)
	go func() { ts.served <- ts.at.Serve(ctx, ts.l); close(ts.served) }()
	t.Cleanup(func() {
		stop()
		if err := <-ts.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return ts
}

// serve is a server in a bubble.
func serve(t *testing.T, settings Settings) *testServer {
	t.Helper()
	return startServer(t, nil, settings)
}

// result is what the next request came to.
func (ts *testServer) result() Result {
	ts.t.Helper()
	select {
	case r := <-ts.done:
		return r
	case <-time.After(time.Hour):
		ts.t.Fatal("no request ended")
		return Result{}
	}
}

// noMoreResults fails when a request was reported that the test did not ask for.
func (ts *testServer) noMoreResults() {
	ts.t.Helper()
	synctest.Wait()
	if len(ts.done) > 0 {
		ts.t.Fatalf("reported besides: %+v", <-ts.done)
	}
}

// wantErrors checks which kinds of protocol errors were reported so far.
func (ts *testServer) wantErrors(kinds ...string) {
	ts.t.Helper()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if got, want := strings.Join(ts.errors, " "), strings.Join(kinds, " "); got != want {
		ts.t.Errorf("protocol errors are %.200q, want %q", got, want)
	}
}

// dial connects over a pipe.
func (ts *testServer) dial() *peer {
	ts.t.Helper()
	return newPeer(ts.t, ts.l.(*pipeListener).Dial())
}

// The other end of a connection, and what it sees.
type (
	pipeListener = wiretest.PipeListener
	record       = wiretest.Record
)

var (
	newPipeListener = wiretest.NewPipeListener
	readRecord      = wiretest.ReadRecord
)

// A peer is a wiretest.Peer, by the words of these tests.
type peer struct {
	*wiretest.Peer
	t     testing.TB
	nc    net.Conn
	ended error // how the connection has ended, after wantClosed
}

// A reply is what has come of an answer.
type reply struct {
	stdout, stderr string
	first          string // content of the first STDOUT record
	end            protocol.End
}

func newPeer(t testing.TB, nc net.Conn) *peer {
	return &peer{Peer: wiretest.NewPeer(t, nc), t: t, nc: nc}
}

func (p *peer) send(parts ...[]byte) { p.t.Helper(); p.Send(parts...) }
func (p *peer) next() record         { p.t.Helper(); return p.Next() }
func (p *peer) wantClosed()          { p.t.Helper(); p.ended = p.WantClosed() }
func (p *peer) wantSilence()         { p.t.Helper(); p.WantSilence() }

// answer reads until the request has ended.
func (p *peer) answer(id uint16) reply {
	p.t.Helper()
	a := p.Answer(id)
	return reply{a.Stdout, a.Stderr, a.First, a.End}
}

// wantAnswer checks a whole answer of a program.
func (p *peer) wantAnswer(id uint16, stdout string, appStatus uint32) {
	p.t.Helper()
	p.WantAnswer(id, stdout, appStatus)
}

// wantOwn checks that the answer is a complete one of the server's own.
func (p *peer) wantOwn(id uint16, status int, end protocol.End) {
	p.t.Helper()
	a := p.answer(id)
	head, body, _ := strings.Cut(a.stdout, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	if a.end != end || !strings.HasPrefix(lines[0], fmt.Sprintf("Status: %d ", status)) ||
		len(lines) < 2 || lines[1] != "Content-Type: text/plain" || body == "" {
		p.t.Fatalf("answer %d is %q, %+v; want a complete %d, %+v", id, a.stdout, a.end, status, end)
	}
	if retry := len(lines) > 2 && lines[2] == "Retry-After: 1"; retry != (status == 503) {
		p.t.Fatalf("answer %d is %q: Retry-After belongs to a 503", id, a.stdout)
	}
}

// What a web server sends.
var (
	rec    = wiretest.Rec
	begin  = wiretest.Begin
	pairs  = wiretest.Pairs
	params = wiretest.Params
	abort  = wiretest.Abort
	part   = wiretest.Stdin
	get    = wiretest.Get
)

func post(id uint16, keep bool, body string) []byte { return wiretest.Post(id, keep, body) }

func complete(appStatus uint32) protocol.End { return protocol.End{AppStatus: appStatus} }
