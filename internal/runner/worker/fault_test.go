package worker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/runner/worker"
)

// load sends n requests from several goroutines at once.
func (p *pool) load(n int, one func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				one(int(i))
			}
		})
	}
	wg.Wait()
}

// Workers are replaced after max_requests, and no request is lost by it.
func TestMaxRequests(t *testing.T) {
	for _, scale := range []string{worker.ScaleStatic, worker.ScaleDynamic, worker.ScaleOnDemand} {
		p := workers(t, func(o *workerOptions) {
			o.Scale, o.Max, o.MaxRequests, o.MinSpare = scale, 4, 100, 1
		})
		var mu sync.Mutex
		byPID := map[string]int{}
		p.load(10_000, func(i int) {
			var change []func(*protocol.Request)
			if i%2 == 0 {
				change = append(change, post(strings.NewReader("x")))
			}
			body, err := p.ask(background, "pid", change...)
			if err != nil {
				t.Errorf("%s: request %d: %v", scale, i, err)
			}
			mu.Lock()
			defer mu.Unlock()
			byPID[body]++
		})
		most := 0
		for _, n := range byPID {
			most = max(most, n)
		}
		if most > 110 || len(byPID) < 10_000/110 {
			t.Errorf("%s: %d workers with up to %d requests", scale, len(byPID), most)
		}
		p.stop()
		if s := p.Snapshot(); s.Exits["max_requests"] < 85 || s.Exits["crash"]+s.Exits["exit"]+s.Exits["start"] > 0 {
			t.Errorf("%s: exits are %v", scale, s.Exits)
		}
	}
}

// With max_requests: 1 no worker answers two requests.
func TestFreshWorkers(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Max, o.MaxRequests = 4, 1 })
	var mu sync.Mutex
	byPID := make(map[string]int)
	p.load(100, func(i int) {
		pid, err := p.ask(background, "pid")
		mu.Lock()
		defer mu.Unlock()
		if byPID[pid]++; err != nil || byPID[pid] > 1 {
			t.Errorf("request %d: worker %s has answered %d, %v", i, pid, byPID[pid], err)
		}
	})
}

// A program may have a limit of its own, and end a moment after its last answer.
func TestProgramWithItsOwnLimit(t *testing.T) {
	p := workers(t, func(o *workerOptions) {
		o.Max, o.Env = 4, append(o.Env, "EXIT_AFTER=20")
	})
	p.load(2000, func(i int) {
		var change []func(*protocol.Request)
		if i%2 == 0 {
			change = append(change, post(whole("x")))
		}
		if body, err := p.ask(background, "", change...); err != nil || body != "ok" {
			t.Errorf("request %d: %q, %v", i, body, err)
		}
	})
	p.stop()
	if s := p.Snapshot(); s.Exits["crash"]+s.Exits["start"] > 0 || s.Exits["exit"] < 90 {
		t.Errorf("exits are %v", s.Exits)
	}
}

// However workers are killed, each request gets its whole answer or an error,
// and one that may be repeated gets its answer.
func TestKilledWorkers(t *testing.T) {
	for _, concurrency := range []int{1, 4} {
		testKilledWorkers(t, concurrency)
	}
}

func testKilledWorkers(t *testing.T, concurrency int) {
	p := workers(t, func(o *workerOptions) {
		o.Scale, o.Max, o.MinSpare, o.Concurrency = worker.ScaleDynamic, 6, 2, concurrency
	})
	// Nobody is killed later: a pool that has only one worker left, since those that
	// it started have died, would not get any further.
	until := time.Now().Add(2 * time.Second)
	var killer sync.WaitGroup
	killer.Go(func() {
		for time.Now().Before(until) {
			<-time.After(50 * time.Millisecond)
			if all := p.Snapshot().Workers; len(all) > 0 {
				if w := all[rand.Intn(len(all))]; w.PID != 0 && w.State != "stopping" {
					syscall.Kill(w.PID, syscall.SIGKILL)
				}
			}
		}
	})
	var lost atomic.Int64
	p.load(1_000_000, func(i int) {
		if time.Now().After(until) {
			return
		}
		tries := 0
		change := []func(*protocol.Request){func(r *protocol.Request) { r.Started = func(int, string) { tries++ } }}
		if i%4 == 0 {
			change = append(change, post(whole("x")))
		}
		body, err := p.ask(background, "sleep 2ms", change...)
		if err != nil {
			lost.Add(1)
		}
		if err == nil && body != "slept" || err != nil && body != "" {
			t.Errorf("request %d: %q, %v", i, body, err)
		}
		if err != nil && i%4 > 0 && tries < 2 {
			t.Errorf("request %d was not repeated: %v", i, err)
		}
	})
	killer.Wait()
	if p.exitsOf("crash") == 0 {
		t.Error("nobody was killed")
	}
	t.Logf("%d requests lost, exits %v", lost.Load(), p.Snapshot().Exits)
	p.stop()
}

// A program that cannot start is tried ever more seldom; the pool says why, and
// recovers when the program is repaired.
func TestCrashLoop(t *testing.T) {
	broken := brokenFile(t)
	mustDo(t, os.WriteFile(broken, []byte("starting\ncannot read its settings"), 0o600))
	p := workers(t, func(o *workerOptions) {
		o.Scale, o.Max, o.Env = worker.ScaleStatic, 4, append(o.Env, "BROKEN="+broken)
	})
	var wg sync.WaitGroup
	wg.Go(func() { // a worker that takes its time to fail has been sent the request
		polltest.Until(t, "an answer", func() bool { body, err := p.ask(background, ""); return err == nil && body == "ok" })
	})
	began := time.Now()
	s := p.await("three failures", func(s snapshot) bool { return s.Degraded && time.Until(s.Retry) > 150*time.Millisecond })
	if want := "exit status 3: cannot read its settings"; !strings.HasPrefix(s.Why, want) { // a build that counts coverage has more to say
		t.Errorf("why is %q, want %q", s.Why, want)
	}
	if took := time.Since(began); s.Starts > 8+uint64(took/(100*time.Millisecond))+1 {
		t.Errorf("%d starts in %v", s.Starts, took)
	}
	p.await("two lines in the log", func(snapshot) bool { return len(p.logs.Of("workers cannot be started")) >= 2 })
	mustDo(t, os.Remove(broken))
	wg.Wait()
	p.await("recovered", func(s snapshot) bool { return !s.Degraded && s.Idle == 4 })
	p.await("a line in the log", func(snapshot) bool { return len(p.logs.Of("workers can be started again")) == 1 })
}

func TestNoSuchProgram(t *testing.T) {
	p := workers(t, func(o *workerOptions) {
		o.Command = []string{"/no/such"}
	})
	p.await("degraded", func(s snapshot) bool { return s.Degraded })
	_, err := p.ask(background, "", until(10*time.Millisecond))
	if refusal(err) != 503 || !strings.Contains(err.Error(), "workers cannot be started: start /no/such: no such file") {
		t.Errorf("error is %v", err)
	}
	if n := p.exitsOf("start"); n == 0 {
		t.Errorf("exits are %v", p.Snapshot().Exits)
	}
}

// A request that runs longer than its timeout ends its worker, Run returns at
// once, and the pool is at strength before the old worker has ended.
func TestTimeoutReplacesWorker(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Env, o.Stderr = append(o.Env, "DEAF=1"), cgi.StderrClient })
	p.await("idle", func(s snapshot) bool { return s.Idle == 1 })
	for _, change := range []func(r *protocol.Request, timeout func()){
		func(r *protocol.Request, timeout func()) { r.Stderr = leaves(timeout) }, // when it says that it waits
		func(r *protocol.Request, timeout func()) {
			post(stalls{neverReader{Closed: make(chan struct{})}, timeout})(r)
		}, // when it has the params
	} {
		ctx, cancel := context.WithCancelCause(background)
		timeout := func() { cancel(protocol.ErrTimeout) }
		if _, err := p.ask(ctx, "hang", func(r *protocol.Request) { change(r, timeout) }); err != protocol.ErrTimeout {
			t.Errorf("error is %v", err)
		}
		p.want("", "ok")
		s := p.Snapshot()
		if s.Stopping != 1 || len(s.Workers) != 2 {
			t.Fatalf("snapshot is %+v", s)
		}
		mustDo(t, syscall.Kill(s.Workers[0].PID, syscall.SIGKILL))
		p.await("the old one gone", func(s snapshot) bool { return len(s.Workers) == 1 })
	}
	if n := p.exitsOf("timeout"); n != 2 {
		t.Errorf("exits are %v", p.Snapshot().Exits)
	}
	mustDo(t, syscall.Kill(p.Snapshot().Workers[0].PID, syscall.SIGKILL)) // as deaf as the others
}

// Some programs notice that they are to end only when their connection is closed.
func TestStopClosesConnections(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Env, o.MaxRequests = append(o.Env, "DEAF=idle"), 10 })
	for range 100 {
		p.want("", "ok")
	}
	p.stop()
}

// With several requests at once the others end before the worker does.
func TestTimeoutOfOneOfSeveral(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Concurrency, o.Stderr = 4, cgi.StderrClient })
	g := runnertest.NewGate(t)
	wait := p.hold(g, 2)
	p.await("two running", func(s snapshot) bool { return s.Busy == 1 && len(s.Workers[0].Current) == 2 })
	ctx, cancel := context.WithCancelCause(background)
	timeout := leaves(func() { cancel(context.DeadlineExceeded) })
	if _, err := p.ask(ctx, "hang", func(r *protocol.Request) { r.Stderr = timeout }); err != context.DeadlineExceeded {
		t.Errorf("error is %v", err)
	}
	p.want("", "ok")
	if s := p.Snapshot(); s.Stopping != 1 || s.Idle != 1 {
		t.Errorf("snapshot is %+v", s)
	}
	wait()
	p.await("the old one gone", func(s snapshot) bool { return len(s.Workers) == 1 })
}

// A leaves is a client that leaves when it is told something.
type leaves func()

func (l leaves) Write(p []byte) (int, error) {
	l()
	return len(p), nil
}

// A stalls is a STDIN that never comes, and tells when somebody waits for it.
type stalls struct {
	neverReader
	waited func()
}

func (s stalls) Read(p []byte) (int, error) {
	s.waited()
	return s.neverReader.Read(p)
}

// A request that nobody wants ends with ABORT_REQUEST, or its worker does.
func TestAbort(t *testing.T) {
	for do, replaced := range map[string]int{"obey": 0, "hang": 1} {
		p := workers(t, func(o *workerOptions) { o.Stderr = cgi.StderrClient })
		first := p.await("idle", func(s snapshot) bool { return s.Idle == 1 })
		ctx, cancel := context.WithCancelCause(background)
		left := errors.New("client left")
		started := func(r *protocol.Request) { r.Stderr = leaves(func() { cancel(left) }) }
		if _, err := p.ask(ctx, do, started); err != left {
			t.Errorf("%s: error is %v", do, err)
		}
		p.want("", "ok")
		s := p.await("one worker", func(s snapshot) bool {
			return len(s.Workers) == 1 && s.Exits["abort"] == uint64(replaced)
		})
		if (s.Workers[0].PID != first.Workers[0].PID) != (replaced == 1) {
			t.Errorf("%s: exits are %v", do, s.Exits)
		}
		p.stop()
	}
}

// A worker whose answer nobody takes any more may go on: it notices that when it
// writes, is busy until it has done, and stays.
func TestNobodyTakesTheAnswer(t *testing.T) {
	for name, body := range map[string]func() io.Reader{
		"none": func() io.Reader { return nil }, "short": func() io.Reader { return whole("x") },
		"long": func() io.Reader { return random(100_000) },
	} {
		t.Run(name, func(t *testing.T) {
			p := workers(t)
			pid, _ := p.ask(background, "pid")
			left := protocol.ErrClientLeft
			ended := make(chan error, 1)
			stream := func(ctx context.Context, g *runnertest.Gate) worker.Snapshot {
				go func() {
					_, err := p.ask(ctx, "stream "+g.Path, func(r *protocol.Request) {
						r.Stdout, r.Stdin = failing{Err: left}, body()
					})
					ended <- err
				}()
				p.await("noticed", func(snapshot) bool { return os.Remove(g.Path+".here") == nil })
				return p.Snapshot()
			}
			g := runnertest.NewGate(t)
			if s := stream(background, g); s.Busy != 1 {
				t.Errorf("snapshot is %+v", s)
			}
			g.Open()
			if err := <-ended; !errors.Is(err, left) {
				t.Errorf("error is %v", err)
			}
			p.want("pid", pid)

			ctx, cancel := context.WithCancelCause(background)
			stream(ctx, runnertest.NewGate(t))
			cancel(protocol.ErrTimeout)
			if err := <-ended; err != protocol.ErrTimeout {
				t.Errorf("error is %v", err)
			}
			p.await("replaced", func(s snapshot) bool { return s.Exits["timeout"] == 1 && s.Idle == 1 && len(s.Workers) == 1 })
		})
	}
}

// The log says why a worker is ended whose request nobody wants; of a client that has
// left with the key.
func TestAbortIsLogged(t *testing.T) {
	for cause, want := range map[error]string{
		protocol.ErrClientLeft:             "client has left, and the worker did not end its request within 1s (on_client_abort)",
		errors.New("killed by uid 0 (us)"): "killed by uid 0 (us), and the worker did not end its request within 1s",
	} {
		p := workers(t, func(o *workerOptions) { o.Stderr = cgi.StderrClient })
		ctx, cancel := context.WithCancelCause(background)
		p.ask(ctx, "hang", func(r *protocol.Request) { r.Stderr = leaves(func() { cancel(cause) }) })
		p.await("a line in the log", func(snapshot) bool {
			for _, e := range p.logs.Of("worker is replaced") {
				return strings.HasSuffix(fmt.Sprint(e.Fields["error"]), want)
			}
			return false
		})
	}
}

// Whoever breaks while a body is sent: the program does not take a part for the
// whole, and the next request is served.
func TestBodyBreaks(t *testing.T) {
	p := workers(t)
	_, err := p.ask(background, "digest", post(io.MultiReader(random(100_000), iotest.ErrReader(io.ErrNoProgress))))
	if !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error is %v", err)
	}
	p.want("", "ok")
	_, err = p.ask(background, "long", func(r *protocol.Request) { r.Stdout = failing{Err: io.ErrClosedPipe} })
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error is %v", err)
	}
	p.want("", "ok")
}

func TestGarbage(t *testing.T) {
	for do, text := range map[string]string{
		"junk": "version 72", "id": "END_REQUEST for request ", "length": "8 bytes", "type": "STDIN from a worker",
	} {
		replaced := 1
		if do == "id" { // somebody else's answer, so that it is repeated
			replaced = 2
		}
		p := workers(t)
		p.want("", "ok")
		_, err := p.ask(background, do)
		if err == nil || !strings.Contains(err.Error(), text) || refusal(err) != 0 {
			t.Errorf("%s: error is %v", do, err)
		}
		p.want("", "ok")
		p.await("replaced", func(s snapshot) bool { return s.Exits["protocol"] == uint64(replaced) && len(s.Workers) == 1 })
		if len(p.logs.Of("worker is replaced")) != replaced {
			t.Errorf("%s: log is %v", do, p.logs.All())
		}
		p.stop()
	}
}

// An answer with more behind it is an answer; the worker is replaced all the same.
func TestAnswerTwice(t *testing.T) {
	p := workers(t)
	p.want("twice", "once")
	p.want("", "ok")
	p.await("replaced", func(s snapshot) bool { return s.Exits["protocol"] == 1 && len(s.Workers) == 1 })
}

func TestLostAnswers(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Max = 2 })
	for _, do := range []string{"exit 0", "exit 1", "hangup", "half"} {
		if _, err := p.ask(background, do, post(whole("x"))); err == nil || !strings.Contains(err.Error(), "before END_REQUEST") {
			t.Errorf("%s: error is %v", do, err)
		}
		p.want("", "ok")
	}
	// Repeated once.
	p.await("two idle", func(s snapshot) bool { return s.Idle == 2 && len(s.Workers) == 2 })
	before := p.Snapshot().Starts
	started := 0
	_, err := p.ask(background, "exit 1", func(r *protocol.Request) { r.Started = func(int, string) { started++ } })
	if err == nil || started != 2 {
		t.Errorf("error is %v after %d starts", err, started)
	}
	p.await("two idle", func(s snapshot) bool { return s.Idle == 2 && s.Starts == before+2 })
}

// A request that nobody wants any more, just before it is sent, is not sent: the
// worker would have to be replaced if it could not end it.
func TestCanceledBeforeItIsSent(t *testing.T) {
	p := workers(t)
	pid, _ := p.ask(background, "pid")
	ctx, cancel := context.WithCancel(background)
	_, err := p.ask(ctx, "exit 1", func(r *protocol.Request) { r.Started = func(int, string) { cancel() } })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	p.want("pid", pid)
}

// What may be repeated: nothing was delivered, the method is safe, and the body
// is none or whole.
func TestRepeat(t *testing.T) {
	flag := brokenFile(t)
	p := workers(t)
	for _, test := range []struct {
		method string
		body   io.Reader
		ok     bool
	}{
		{"GET", nil, true},
		{"HEAD", whole("body"), true},
		{"OPTIONS", nil, true},
		{"GET", strings.NewReader("body"), false},
		{"GET", whole(strings.Repeat("x", 100_000)), false}, // was read for the first worker
		{"POST", nil, false},
		{"PUT", whole("body"), false},
		{"", nil, false},
	} {
		mustDo(t, os.WriteFile(flag, nil, 0o600))
		body, err := p.ask(background, "once "+flag, func(r *protocol.Request) {
			r.Params.Set("REQUEST_METHOD", test.method)
			r.Stdin = test.body
		})
		if (err == nil) != test.ok || test.ok && body != "survived" {
			t.Errorf("%s with %T: %q, %v", test.method, test.body, body, err)
		}
		os.Remove(flag)
	}
}

// Whatever becomes of workers, they leave nothing behind.
func TestNothingIsLeftOfWorkers(t *testing.T) {
	round := func() {
		p := workers(t, func(o *workerOptions) { o.Max, o.StopGrace = 2, 50*time.Millisecond })
		p.want("", "ok")
		p.ask(background, "exit 1")
		p.ask(background, "junk")
		p.ask(background, "half", post(random(200_000)))
		ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
		p.ask(ctx, "hang", post(neverReader{Closed: make(chan struct{})}))
		cancel()
		p.stop()
		if _, err := p.ask(background, ""); refusal(err) != 503 {
			t.Errorf("error after the end is %v", err)
		}
	}
	round()
	fds, goroutines := countEntries(t, "/proc/self/fd"), runtime.NumGoroutine()
	for range 10 {
		round()
	}
	if got := countEntries(t, "/proc/self/fd"); got > fds {
		t.Errorf("%d descriptors, before %d", got, fds)
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), goroutines)
		}
	}
	if hasChildren() {
		t.Error("there are children")
	}
}

func TestSuperviseWithoutFolder(t *testing.T) {
	p := worker.New(worker.Options{RunDir: "/no/such"})
	if err := p.Supervise(background); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
	if _, err := p.Run(background, &protocol.Request{}); refusal(err) != 503 {
		t.Errorf("error is %v", err)
	}
	if err := p.Supervise(background); err == nil {
		t.Error("supervised twice")
	}
}

// A worker that runs and never accepts is one that cannot be started: it is ended when
// start_timeout is over, and its request is another one's, or waits for queue_timeout at
// most, also with neither timeout nor warm-up request.
func TestWorkerThatNeverAccepts(t *testing.T) {
	first := filepath.Join(tempDir(t), "first")
	p := workers(t, func(o *workerOptions) {
		o.StartTimeout, o.Env = 2*time.Second, append(o.Env, "SLEEPS_UNLESS="+first) // another one starts in that
	})
	p.want("size HTTP_X", "0", post(strings.NewReader("x")))
	p.await("ended as one that cannot start", func(s worker.Snapshot) bool { return s.Exits["start"] >= 1 && len(s.Workers) == 1 })
	p = workers(t, func(o *workerOptions) {
		o.StartTimeout, o.Env = time.Hour, append(o.Env, "SLEEPS_UNLESS=/nowhere/x")
	})
	_, err := p.ask(background, "pid", until(300*time.Millisecond))
	if refusal(err) != 503 || !strings.Contains(err.Error(), "does not accept") {
		t.Errorf("a worker that does not accept yet: %v", err)
	}
}
