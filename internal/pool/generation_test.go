package pool

import (
	"context"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
)

// A request that runs, waits or uploads when a reload makes its pool another kind
// is answered by what it began with; the old workers end when the last one has.
func TestKindChangesUnderRequests(t *testing.T) {
	s := newTestSet(t)
	s.configure(workerText("a", "a", "old"))
	s.answers("a", "x", "old")
	g := runnertest.NewGate(t)
	old := s.running()["a"].workers
	polltest.Until(t, "nothing is left of the first request", func() bool { return old.now() == 0 })
	got := make(chan string, 5)
	var clients sync.WaitGroup
	defer clients.Wait()
	const waiting = 4 // the first runs, the others wait for the only worker
	for range waiting {
		clients.Go(func() { got <- s.ask("a", "x", "WAIT", g.Path) })
	}
	polltest.Until(t, "four requests have begun", func() bool { return old.now() == waiting })
	body, upload := io.Pipe()
	clients.Go(func() { got <- s.post("a", body) })
	if _, err := io.WriteString(upload, "the first part"); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "one uploads", func() bool { return old.now() == waiting+1 })

	s.configure(poolA)
	s.answers("a", "one", "one") // new requests have the new Runner at once
	g.Open()
	for range waiting {
		if answer := <-got; answer != "old" {
			t.Errorf("a request that had begun before the reload: %q", answer)
		}
	}
	polltest.Until(t, "nothing but the upload needs the old workers", func() bool { return old.now() == 1 })
	upload.Close()
	if answer := <-got; answer != "old" {
		t.Errorf("the upload that had begun before the reload: %q", answer)
	}
	<-old.over
	polltest.Until(t, "the old workers are gone", func() bool {
		p := s.running()["a"]
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.replaced) == 0
	})
}

// Workers that requests still need are there until the end of a stop.
func TestStopWithReplacedWorkers(t *testing.T) {
	s := newTestSet(t)
	s.configure(workerText("a", "a", "old"))
	s.answers("a", "x", "old")
	g := runnertest.NewGate(t)
	old := s.running()["a"].workers
	polltest.Until(t, "nothing is left of the first request", func() bool { return old.now() == 0 })
	got := make(chan string, 1)
	go func() { got <- s.ask("a", "x", "WAIT", g.Path) }()
	polltest.Until(t, "it has begun", func() bool { return old.now() == 1 })
	s.configure(poolA)
	stopped := make(chan struct{})
	go func() { s.Stop(); close(stopped) }()
	g.Open()
	if answer := <-got; answer != "old" {
		t.Errorf("the answer is %q", answer)
	}
	<-stopped
}

// now is how many requests need g.
func (g *generation) now() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.users
}

// post sends a body and returns the answer's.
func (s *testSet) post(socket string, body io.Reader) string {
	c, err := fcgi.Dial(context.Background(), "unix:"+filepath.Join(s.dir, socket))
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	var out strings.Builder
	_, err = c.Do(context.Background(), &fcgi.Request{Close: true,
		Params: fcgi.Params{{Name: "SCRIPT_FILENAME", Value: "x"}, {Name: "REQUEST_METHOD", Value: "POST"}}, Stdin: body, Stdout: &out,
	})
	if err != nil {
		return err.Error()
	}
	_, text, _ := strings.Cut(out.String(), "\r\n\r\n")
	return text
}

// With reload: always each reload replaces the workers, though nothing has changed;
// one that is refused does not, nor does it touch other pools.
func TestReloadAlways(t *testing.T) {
	s := newTestSet(t)
	always := func(more string) string { return workerText("w", "w", "worker", "reload: always"+more) }
	other := workerText("o", "o", "other")
	s.configure(always(""), other)
	pid := func(pool string) (pid int) {
		polltest.Until(t, "one worker is idle", func() bool {
			list := s.running()[pool].workers.status(true).List
			if len(list) != 1 || list[0].State != "idle" {
				return false
			}
			pid = list[0].PID
			return true
		})
		return pid
	}
	first, others := pid("w"), pid("o")
	replaced := func(why string) {
		t.Helper()
		old := first
		polltest.Until(t, why, func() bool { first = pid("w"); return first != old })
	}
	s.configure(always(""), other)
	replaced("a reload of the same configuration replaces the worker")
	s.configure(always(", dispatch: fifo"), other)
	replaced("so does one of another configuration")
	s.refused(always(", dispatch: fifo"), "{name: z, listen: unix:%D/none/z, function: {}}")
	s.configure(workerText("w", "w", "worker"), other) // no longer always, which is no reason to replace it
	s.configure(workerText("w", "w", "worker"), other)
	if got := pid("w"); got != first {
		t.Errorf("a reload with the default, or a refused one, has replaced the worker")
	}
	s.configure(always(""), other)
	replaced("always again")
	if got := pid("o"); got != others {
		t.Errorf("the worker of another pool was replaced")
	}
}
