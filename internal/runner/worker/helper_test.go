package worker_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/spawn"
)

// What the tests of the runners have in common, by short names.
type (
	output      = runnertest.Output
	neverReader = runnertest.NeverReader
	failing     = runnertest.Failing
)

const patience = runnertest.Patience

var (
	params       = runnertest.Params
	tempDir      = runnertest.TempDir
	mustDo       = runnertest.Must
	countEntries = runnertest.CountEntries
	hasChildren  = runnertest.HasChildren
	whole        = runnertest.Whole
	random       = runnertest.Random
)

// background is what a test gives to Run when nothing ends it.
var background = context.Background()

// TestMain is also the main function of the helper program.
func TestMain(m *testing.M) {
	runnertest.Main(m, map[string]func() int{"worker": beWorker})
}

// beWorker is a FastCGI program on descriptor 0. The param DO says what it does with a
// request. Variables of its environment say how it behaves as a process:
//
//   - ACCEPTS is how many connections it has at once;
//   - BROKEN names a file; while that exists, it does not start;
//   - SIPS has it read little at a time;
//   - EXIT_AFTER is how many requests it answers;
//   - DEAF has it ignore TERM;
//   - SLEEPS_UNLESS names a folder: without that, it makes it and sleeps;
//   - UP names a folder, in which it makes a file named by its pid once it accepts.
func beWorker() int {
	if why, err := os.ReadFile(os.Getenv("BROKEN")); err == nil {
		fmt.Fprintf(os.Stderr, "%s", why)
		return 3
	}
	if os.Getenv("DEAF") != "" {
		ignoreTerm()
	}
	if name := os.Getenv("SLEEPS_UNLESS"); name != "" {
		if os.Mkdir(name, 0o700) == nil || !isThere(name) {
			time.Sleep(time.Hour)
		}
	}
	l, err := net.FileListener(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Stdin.Close()
	if dir := os.Getenv("UP"); dir != "" {
		os.WriteFile(filepath.Join(dir, strconv.Itoa(os.Getpid())), nil, 0o600)
	}
	room := make(chan struct{}, 1000)
	if n, err := strconv.Atoi(os.Getenv("ACCEPTS")); err == nil {
		room = make(chan struct{}, n)
	}
	for {
		room <- struct{}{}
		conn, err := l.Accept()
		if err != nil {
			if os.Getenv("DEAF") == "stone" {
				select {}
			}
			return 1
		}
		countAccepted()
		go func() {
			serveConn(conn)
			<-room
		}()
	}
}

var answered, accepted atomic.Int64

// leaving is set before the last connection is closed. From then on the process reads nothing
// any more: one that has a thread for each connection could read a request that it loses.
var leaving atomic.Bool

// another is closed when the next connection is accepted, if somebody waits for that.
var another atomic.Pointer[chan struct{}]

func nextAccepted() <-chan struct{} {
	c := make(chan struct{})
	another.Store(&c)
	return c
}

func countAccepted() {
	accepted.Add(1)
	if c := another.Swap(nil); c != nil {
		close(*c)
	}
}

func isThere(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func digest(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func serveConn(conn net.Conn) {
	defer conn.Close()
	r := protocol.NewReader(conn)
	if os.Getenv("SIPS") != "" {
		r = protocol.NewReader(sipper{conn})
	}
	if leaving.Load() {
		select {}
	}
	late := &lateness{}
	if os.Getenv("DEAF") == "idle" { // hears TERM only between two connections, like php-cgi
		defer os.Exit(0)
	}
	for serveOne(conn, r, late) {
		limit, err := strconv.Atoi(os.Getenv("EXIT_AFTER"))
		if n := answered.Add(1); err == nil && int(n) >= limit {
			leaving.Store(true)
			conn.Close() // as php-cgi does, a moment after its last answer
			os.Exit(0)
		}
	}
}

// A sipper reads little at a time, so that the rest stands in the socket.
type sipper struct{ io.Reader }

func (s sipper) Read(p []byte) (int, error) { return s.Reader.Read(p[:min(len(p), 512)]) }

// A helperRequest is what the helper has read of a request.
type helperRequest struct {
	id     uint16
	late   *lateness
	params protocol.Params
	stdin  []byte
}

// A lateness is what a request has left to write, once the next one has come.
type lateness struct{ records []byte }

func serveOne(conn net.Conn, r *protocol.Reader, late *lateness) bool {
	req := helperRequest{late: late}
	var params []byte
	begun := false
	for {
		rec, err := r.Next()
		if err != nil {
			return false
		}
		if rec.Type == protocol.TypeBeginRequest {
			begun, req.id = true, rec.ID
		}
		switch {
		case !begun: // what was not read of the last one
		case rec.Type == protocol.TypeParams && len(rec.Content) > 0:
			params = append(params, rec.Content...)
		case rec.Type == protocol.TypeParams:
			req.params, _ = protocol.ParseParams(string(params))
			if req.params.Get("DO") == "early" { // answers without STDIN
				return req.reply(conn, "early")
			}
			if req.params.Get("DO") == "half-read" { // and reads on when it has another connection
				another := nextAccepted()
				sent := req.reply(conn, "half")
				select {
				case <-another:
				case <-time.After(patience):
				}
				return sent
			}
		case rec.Type == protocol.TypeStdin && len(rec.Content) > 0:
			req.stdin = append(req.stdin, rec.Content...)
		case rec.Type == protocol.TypeStdin:
			conn.Write(late.records)
			late.records = nil
			return req.serve(conn, r)
		}
	}
}

func (q *helperRequest) reply(conn net.Conn, text string) bool {
	out := protocol.AppendRecord(nil, protocol.TypeStdout, q.id, []byte("Content-Type: text/plain\r\n\r\n"+text))
	out = protocol.AppendRecord(out, protocol.TypeStdout, q.id, nil)
	_, err := conn.Write(protocol.AppendEnd(out, q.id, protocol.End{}))
	return err == nil
}

var ballast []byte

func (q *helperRequest) serve(conn net.Conn, r *protocol.Reader) bool {
	what, arg, _ := strings.Cut(q.params.Get("DO"), " ")
	raw := func(b []byte) bool { conn.Write(b); io.Copy(io.Discard, conn); return false }
	end := func(e protocol.End) bool { _, err := conn.Write(protocol.AppendEnd(nil, q.id, e)); return err == nil }
	switch what {
	case "late":
		q.late.records = protocol.AppendRecord(nil, protocol.TypeStdout, q.id, []byte("Content-Type: text/plain\r\n\r\nlate"))
		q.late.records = protocol.AppendEnd(q.late.records, q.id, protocol.End{})
		return q.reply(conn, "parent")
	case "lone": // an answer without STDOUT, which comes too late
		q.late.records = protocol.AppendRecord(nil, protocol.TypeStdout, q.id, []byte("Content-Type: text/plain\r\n\r\nlate"))
		return end(protocol.End{})
	case "speak": // when it is idle and somebody has opened a fifo for writing
		sent := q.reply(conn, "soon")
		if f, err := os.Open(arg); err == nil {
			f.Close()
		}
		conn.Write([]byte("x"))
		os.WriteFile(arg+".done", nil, 0o600)
		return sent
	case "size":
		return q.reply(conn, strconv.Itoa(len(q.params.Get(arg))))
	case "conns":
		return q.reply(conn, strconv.FormatInt(accepted.Load(), 10))
	case "missing": // as php-cgi
		out := protocol.AppendRecord(nil, protocol.TypeStdout, q.id, []byte("Status: 404 Not Found\r\nContent-type: text/html\r\n\r\nNo input file specified.\n"))
		_, err := conn.Write(protocol.AppendEnd(out, q.id, protocol.End{}))
		return err == nil
	case "stream": // until nobody takes it; then it waits, and has a last word
		for {
			time.Sleep(time.Millisecond)
			if _, err := conn.Write(protocol.AppendRecord(nil, protocol.TypeStdout, q.id, []byte("A: b\r\n\r\n"))); err != nil {
				break
			}
		}
		os.WriteFile(arg+".here", nil, 0o600)
		if f, err := os.Open(arg); err == nil {
			f.Close()
		}
		return false
	case "pid":
		return q.reply(conn, strconv.Itoa(os.Getpid()))
	case "env":
		return q.reply(conn, os.Getenv(arg))
	case "param":
		v, ok := q.params.Lookup(arg)
		return q.reply(conn, fmt.Sprintf("%s %v", v, ok))
	case "digest":
		return q.reply(conn, fmt.Sprintf("%d %s", len(q.stdin), digest(string(q.stdin))))
	case "sleep":
		d, _ := time.ParseDuration(arg)
		time.Sleep(d)
		return q.reply(conn, "slept")
	case "wait": // until somebody has a fifo open for writing
		if f, err := os.Open(arg); err == nil {
			f.Close()
		}
		return q.reply(conn, "waited")
	case "grow":
		ballast = bytes.Repeat([]byte{1}, 200<<20)
		return q.reply(conn, fmt.Sprint(len(ballast)))
	case "long":
		return q.reply(conn, strings.Repeat("x", 60_000))
	case "status":
		n, _ := strconv.ParseUint(arg, 10, 8)
		return end(protocol.End{AppStatus: 7, Status: protocol.Status(n)})
	case "fail":
		out := protocol.AppendRecord(nil, protocol.TypeStdout, q.id, []byte("Status: 500 No\r\n\r\n"))
		_, err := conn.Write(protocol.AppendEnd(out, q.id, protocol.End{}))
		return err == nil
	case "stderr":
		conn.Write(protocol.AppendRecord(nil, protocol.TypeStderr, q.id, []byte("one\ntwo\n")))
		return q.reply(conn, "said")
	case "exit":
		n, _ := strconv.Atoi(arg)
		os.Exit(n)
	case "once":
		if os.Remove(arg) == nil {
			os.Exit(1)
		}
		return q.reply(conn, "survived")
	case "hangup":
		return false
	case "half":
		conn.Write(protocol.AppendRecord(nil, protocol.TypeStdout, q.id, []byte("Content-Type: text/plain\r\n\r\nhalf")))
		return false
	case "hang":
		conn.Write(protocol.AppendRecord(nil, protocol.TypeStderr, q.id, []byte("waiting")))
		io.Copy(io.Discard, conn)
	case "obey": // ABORT_REQUEST
		conn.Write(protocol.AppendRecord(nil, protocol.TypeStderr, q.id, []byte("waiting")))
		for {
			rec, err := r.Next()
			if err != nil {
				return false
			}
			if rec.Type == protocol.TypeAbortRequest {
				return end(protocol.End{})
			}
		}
	case "junk":
		return raw([]byte("HTTP/1.1 200 OK\r\n\r\n"))
	case "id":
		return raw(protocol.AppendEnd(nil, q.id+1, protocol.End{}))
	case "length":
		return raw(protocol.AppendRecord(nil, protocol.TypeEndRequest, q.id, []byte("x")))
	case "type":
		return raw(protocol.AppendRecord(nil, protocol.TypeStdin, q.id, []byte("x")))
	case "twice":
		once := protocol.AppendRecord(nil, protocol.TypeStdout, q.id, []byte("Content-Type: text/plain\r\n\r\nonce"))
		once = protocol.AppendEnd(once, q.id, protocol.End{})
		return raw(append(once, once...))
	}
	return q.reply(conn, "ok")
}

// A pool is a Pool that is supervised until the test ends.
type pool struct {
	*worker.Pool
	opt  worker.Options
	dir  string
	logs *logtest.Entries
	stop func() // ends Supervise and waits for that
	test testing.TB

	spawner spawn.Local

	mu      sync.Mutex // guards the fields below
	exits   map[string]int
	started int
	changed chan struct{}
}

// workers starts a pool of the helper program.
func workers(t testing.TB, change ...func(*worker.Options)) *pool {
	t.Helper()
	self, err := os.Executable()
	mustDo(t, err)
	log, logs := logtest.New()
	p := &pool{dir: tempDir(t), logs: logs, test: t, exits: map[string]int{}, changed: make(chan struct{})}
	p.opt = worker.Options{
		Command: []string{self}, Env: []string{"HELPER=worker", "GORACE=atexit_sleep_ms=0"},
		Scale: worker.ScaleStatic, Max: 1, SpawnRate: 1000, StopGrace: patience, RunDir: p.dir,
		StartTimeout: patience, Log: log,
	}
	p.opt.Hooks, p.opt.Spawner = p.hooks(), &p.spawner
	for _, f := range change {
		f(&p.opt)
	}
	p.Pool = worker.New(p.opt)
	ctx, cancel := context.WithCancel(background)
	ended := make(chan error, 1)
	go func() { ended <- p.Supervise(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("Supervise: %v", err)
			}
		case <-time.After(patience):
			t.Error("Supervise does not return")
		}
		if n := countEntries(t, p.dir); n != 0 {
			t.Errorf("%d files are left", n)
		}
		if n := p.spawner.Len(); n != 0 {
			t.Errorf("%d programs are left", n)
		}
	})
	t.Cleanup(p.stop)
	return p
}

func (p *pool) tell(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
}

// await waits until is says that it is so.
func (p *pool) await(what string, is func(s worker.Snapshot) bool) worker.Snapshot {
	p.test.Helper()
	var s worker.Snapshot
	defer func() {
		if p.test.Failed() {
			p.test.Logf("the pool is %+v", s)
		}
	}()
	polltest.Until(p.test, what, func() bool {
		s = p.Snapshot()
		return is(s)
	})
	return s
}

// ask sends one request and returns the body of the answer.
func (p *pool) ask(ctx context.Context, do string, change ...func(*protocol.Request)) (string, error) {
	var out output
	req := protocol.Request{
		Role: protocol.RoleResponder, Stdout: &out, Stderr: io.Discard, QueueDeadline: time.Now().Add(patience),
		Params: params("REQUEST_METHOD", "GET", "DO", do, "GATEWAY_INTERFACE", "CGI/1.1"),
	}
	for _, f := range change {
		f(&req)
	}
	status, err := p.Run(ctx, &req)
	if err == nil && status != 0 {
		err = fmt.Errorf("status %d", status)
	}
	_, body, _ := strings.Cut(out.String(), "\r\n\r\n")
	return body, err
}

// until is for a request that may wait for so long.
func until(d time.Duration) func(*protocol.Request) {
	return func(r *protocol.Request) { r.QueueDeadline = time.Now().Add(d) }
}

func post(body io.Reader) func(*protocol.Request) {
	return func(r *protocol.Request) {
		r.Params.Set("REQUEST_METHOD", "POST")
		r.Stdin = body
	}
}

// want asks and compares the answer.
func (p *pool) want(do, body string, change ...func(*protocol.Request)) {
	p.test.Helper()
	got, err := p.ask(background, do, change...)
	if err != nil || got != body {
		p.test.Fatalf("%s: %q, %v; want %q", do, got, err, body)
	}
}

// pids are those of the workers that there are.
func pids(s worker.Snapshot) (all []int) {
	for _, w := range s.Workers {
		all = append(all, w.PID)
	}
	return all
}

func refusal(err error) int {
	var ref *protocol.Refusal
	if errors.As(err, &ref) {
		return ref.HTTPStatus
	}
	return 0
}

func brokenFile(t testing.TB) string { return filepath.Join(tempDir(t), "broken") }
