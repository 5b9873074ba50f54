package worker_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/runner/worker"
)

// What a worker writes late is never taken for the answer to the next request on
// the connection.
func TestLateRecords(t *testing.T) {
	p := workers(t)
	for i := range 5 {
		p.want("late", "parent")
		p.want("", "ok") // repeated
		p.await("replaced", func(s snapshot) bool { return s.Exits["protocol"] == uint64(2*i+1) })
		p.want("late", "parent")
		body, err := p.ask(background, "", post(nil))
		if err == nil || body != "" || !strings.Contains(err.Error(), "STDOUT for request ") {
			t.Fatalf("POST: %q, %v", body, err)
		}
		p.await("replaced", func(s snapshot) bool {
			return s.Exits["protocol"] == uint64(2*i+2) && s.Idle == 1 && len(s.Workers) == 1
		})
	}
}

// A connection on which END_REQUEST came without an answer is not used again.
func TestAnswerWithoutStdout(t *testing.T) {
	p := workers(t)
	for range 5 {
		p.want("lone", "")
		p.want("", "ok", post(whole("x")))
	}
	if s := p.Snapshot(); s.Starts != 1 {
		t.Errorf("exits are %v", s.Exits)
	}
}

// A request that a worker has not seen goes to another one, though this one wrote
// something that nobody asked for.
func TestWorkerSpeaksWhenIdle(t *testing.T) {
	p := workers(t)
	g := runnertest.NewGate(t)
	for _, stdin := range []runnertest.WholeBody{whole(""), whole("x")} {
		p.want("speak "+g.Path, "soon")
		g.Pass()
		p.await("spoken", func(snapshot) bool { return os.Remove(g.Path+".done") == nil })
		p.want("", "ok", post(stdin))
	}
	p.await("replaced", func(s snapshot) bool { return s.Exits["protocol"] == 2 && len(s.Workers) == 1 })
}

// A param that is longer than a record is refused before a worker sees it.
func TestLongParam(t *testing.T) {
	p := workers(t)
	for n, want := range map[int]int{65_000: 0, 65_520: 0, 65_521: 431, 200_000: 431} {
		_, err := p.ask(background, "", func(r *protocol.Request) { r.Params.Add("BIG", strings.Repeat("x", n)) })
		if refusal(err) != want || (want == 0) != (err == nil) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if s := p.Snapshot(); s.Starts != 1 {
		t.Errorf("exits are %v", s.Exits)
	}
}

// Requests that kill their workers are no reason to think that these cannot start.
func TestPoison(t *testing.T) {
	up := tempDir(t)
	p := workers(t, func(o *workerOptions) { o.Max, o.Env = 2, append(o.Env, "UP="+up) })
	for _, do := range []string{"exit 1", "exit 0", "junk", "hangup", "exit 1", "exit 1"} {
		// Who has not read a request within a second gets it all the same, and could
		// not start if it dies of that.
		p.await("up", func(s snapshot) bool {
			return s.Idle == 2 && !slices.ContainsFunc(s.Workers, func(w worker.Info) bool {
				_, err := os.Stat(fmt.Sprint(up, "/", w.PID))
				return err != nil
			})
		})
		p.ask(background, do, post(nil))
	}
	p.await("replaced", func(s snapshot) bool { return s.Idle == 2 && len(s.Workers) == 2 })
	s := p.Snapshot()
	if s.Degraded || s.Exits["start"] > 0 || s.Exits["crash"] == 0 || s.Exits["exit"] == 0 {
		t.Errorf("degraded is %v, exits are %v", s.Degraded, s.Exits)
	}
	if n := len(p.logs.Of("worker gave up a request")); n != 5 {
		t.Errorf("%d requests are named in the log", n)
	}
	if n := len(p.logs.Of("workers cannot be started")); n != 0 {
		t.Errorf("%d starts failed", n)
	}
}

// A program that takes fewer connections at once than requests are given to it
// gets them all, one after the other.
func TestFewAcceptors(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Concurrency, o.Env = 8, append(o.Env, "ACCEPTS=2") })
	ctx, cancel := context.WithTimeout(background, patience)
	defer cancel()
	for _, method := range []string{"GET", "POST"} {
		var wg sync.WaitGroup
		for range 24 {
			wg.Go(func() {
				body, err := p.ask(ctx, "sleep 1ms", func(r *protocol.Request) { r.Params.Set("REQUEST_METHOD", method) })
				if err != nil || body != "slept" {
					t.Errorf("%s: %q, %v", method, body, err)
				}
			})
		}
		wg.Wait()
	}
	if s := p.Snapshot(); s.Starts != 1 {
		t.Errorf("exits are %v", s.Exits)
	}
}

// Workers start and end though somebody has removed the folder of their sockets.
func TestFolderVanishes(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Max = 2 })
	p.await("idle", func(s snapshot) bool { return s.Idle == 2 })
	p.want("", "ok")
	mustDo(t, os.RemoveAll(p.dir))
	change := p.opt
	change.Env = append(change.Env, "A=b")
	p.Update(change)
	p.await("replaced", func(s snapshot) bool { return s.Idle == 2 && s.Exits["reload"] == 2 && len(s.Workers) == 2 })
	p.want("env A", "b", post(whole("x")))
	folders, err := os.ReadDir(p.dir)
	mustDo(t, err)
	if info, err := folders[0].Info(); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder is %v, %v", info, err)
	}
	mustDo(t, os.RemoveAll(filepath.Join(p.dir, folders[0].Name())))
	p.stop()
}

// What a worker may be given at once changes while it has requests: those that it
// has are not ended for one that hangs.
func TestConcurrencyChanges(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Concurrency, o.Stderr = 4, cgi.StderrClient })
	p.want("", "ok")
	g := runnertest.NewGate(t)
	var held sync.WaitGroup
	for range 2 {
		held.Go(func() {
			if body, err := p.ask(background, "wait "+g.Path, post(nil)); err != nil || body != "waited" {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
	p.await("two running", func(s snapshot) bool { return s.Busy == 1 && len(s.Workers[0].Current) == 2 })
	ctx, cancel := context.WithCancelCause(background)
	defer cancel(nil)
	hangs := func(r *protocol.Request) {
		r.Stderr = leaves(func() {
			change := p.opt
			change.Concurrency = 1
			p.Update(change)
			cancel(protocol.ErrTimeout)
		})
	}
	if _, err := p.ask(ctx, "hang", hangs); err != protocol.ErrTimeout {
		t.Errorf("error is %v", err)
	}
	p.await("another one", func(s snapshot) bool { return s.Idle == 1 && len(s.Workers) == 2 })
	g.Open()
	held.Wait()
	p.await("the old one gone", func(s snapshot) bool { return s.Exits["timeout"] == 1 && s.Idle == 1 })
}

// A program that puts records together gets params that are longer than one.
func TestLongParamsArePassedOn(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.LongParams = true })
	for _, n := range []int{65_521, 100_000, 200_000} {
		value := strings.Repeat("x", n)
		p.want("size BIG", fmt.Sprint(n), func(r *protocol.Request) { r.Params.Add("BIG", value) })
	}
}

// A connection on which something of a body may stand unread is not used again: the
// worker would take it for its next request.
func TestHalfReadBody(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Env = append(o.Env, "SIPS=1") })
	p.want("conns", "1")
	p.want("conns", "1")
	for i, body := range []io.Reader{whole(strings.Repeat("x", 64<<10)), random(60_000), random(1_000_000)} {
		p.want("half-read", "half", post(body))
		p.want("conns", fmt.Sprint(i+2))
	}
	p.want("digest", fmt.Sprintf("1000 %s", digest(strings.Repeat("x", 1000))), post(whole(strings.Repeat("x", 1000))))
	p.want("conns", "4")
}

// The log has the path that PHP has not found, but not each one of a scanner's.
func TestMissingScriptIsLogged(t *testing.T) {
	p := workers(t)
	for range 2 * perMinute {
		p.want("missing", "No input file specified.\n", func(r *protocol.Request) { r.Params.Add("SCRIPT_FILENAME", "/wrong/index.php") })
	}
	said := p.logs.Of("worker has not found the script")
	if len(said) != perMinute || said[0].Fields["script"] != "/wrong/index.php" {
		t.Errorf("logged %d times: %v", len(said), said)
	}
}

// perMinute is how many entries of a kind are logged.
const perMinute = 10
