package worker_test

import (
	"context"
	"errors"
	"os/signal"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/runner/worker"
)

type workerOptions = worker.Options
type snapshot = worker.Snapshot

// hooks count what happens.
func (p *pool) hooks() worker.Hooks {
	return worker.Hooks{
		Started: func(time.Duration) { p.tell(func() { p.started++ }) },
		Exited:  func(reason string) { p.tell(func() { p.exits[reason]++ }) },
	}
}

func (p *pool) exitsOf(reason string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exits[reason]
}

func ignoreTerm() { signal.Ignore(unix.SIGTERM) }

// hold sends n requests that wait at the gate. It returns what waits for them.
func (p *pool) hold(g *runnertest.Gate, n int) (wait func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if body, err := p.ask(background, "wait "+g.Path); err != nil || body != "waited" {
				p.test.Errorf("%q, %v", body, err)
			}
		})
	}
	return func() { g.Open(); wg.Wait() }
}

func TestWorkerAnswers(t *testing.T) {
	p := workers(t)
	p.want("", "ok")
	p.want("env HELPER", "worker")
	p.want("env PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	if s := p.Snapshot(); s.Starts != 1 || s.Workers[0].Requests != 3 || s.Workers[0].RSS == 0 {
		t.Errorf("snapshot is %+v", s)
	}
}

func TestStatic(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Max = 4 })
	all := func(s snapshot) bool { return s.Idle == 4 && len(s.Workers) == 4 }
	p.await("four idle", all)
	g := runnertest.NewGate(t)
	wait := p.hold(g, 6)
	p.await("four busy and two waiting", func(s snapshot) bool { return s.Busy == 4 && s.Waiting == 2 && len(s.Workers) == 4 })
	wait()
	if s := p.await("four idle", all); s.Starts != 4 || s.AtMax != 1 || s.AtMaxTime == 0 {
		t.Errorf("snapshot is %+v", s)
	}
	change := p.opt
	change.Max = 2
	p.Update(change)
	p.await("two idle", func(s snapshot) bool { return s.Idle == 2 && len(s.Workers) == 2 })
	if n := p.exitsOf("scale"); n != 2 {
		t.Errorf("%d ended to scale", n)
	}
}

func TestDynamic(t *testing.T) {
	p := workers(t, func(o *workerOptions) {
		o.Scale, o.Max, o.Min, o.MinSpare, o.MaxSpare = worker.ScaleDynamic, 6, 2, 1, 3
		o.IdleTimeout = time.Hour
	})
	p.await("min", func(s snapshot) bool { return s.Idle == 2 && len(s.Workers) == 2 })
	g := runnertest.NewGate(t)
	wait := p.hold(g, 3)
	p.await("a spare", func(s snapshot) bool { return s.Busy == 3 && s.Idle == 1 && len(s.Workers) == 4 })
	wait2 := p.hold(g, 9)
	p.await("max", func(s snapshot) bool { return s.Busy == 6 && s.Waiting == 6 && len(s.Workers) == 6 })
	wait()
	wait2()
	p.await("max_spare", func(s snapshot) bool { return s.Idle == 3 && len(s.Workers) == 3 })
	change := p.opt
	change.IdleTimeout = time.Millisecond
	p.Update(change)
	p.await("min again", func(s snapshot) bool { return s.Idle == 2 && len(s.Workers) == 2 })
	if p.exitsOf("scale") != 3 || p.exitsOf("idle") != 1 {
		t.Errorf("exits are %v", p.Snapshot().Exits)
	}
}

// None without requests; a burst starts what it needs at once, not one a second.
func TestOnDemand(t *testing.T) {
	p := workers(t, func(o *workerOptions) {
		o.Scale, o.Max, o.IdleTimeout, o.SpawnRate = worker.ScaleOnDemand, 8, 100*time.Millisecond, 32
	})
	if s := p.Snapshot(); s.Starts != 0 {
		t.Errorf("%d starts without a request", s.Starts)
	}
	g := runnertest.NewGate(t)
	wait := p.hold(g, 50)
	s := p.await("eight busy", func(s snapshot) bool { return s.Busy == 8 && s.Waiting == 42 && s.Starts == 8 })
	if d := s.Workers[7].Started.Sub(s.Workers[0].Started); d > 5*time.Second {
		t.Errorf("the last was started %v after the first", d)
	}
	wait()
	p.await("none", func(s snapshot) bool { return len(s.Workers) == 0 })
	if n := p.exitsOf("idle"); n != 8 {
		t.Errorf("%d were idle", n)
	}
	p.want("", "ok")
}

func TestLongestIdleLeavesFirst(t *testing.T) {
	p := workers(t, func(o *workerOptions) {
		o.Scale, o.Max, o.MaxSpare, o.IdleTimeout = worker.ScaleDynamic, 3, 3, time.Hour
	})
	p.hold(runnertest.NewGate(t), 3)()
	s := p.await("three idle", func(s snapshot) bool { return s.Idle == 3 })
	last := s.Workers[0]
	for _, w := range s.Workers {
		if w.LastUsed.After(last.LastUsed) {
			last = w
		}
	}
	change := p.opt
	change.MaxSpare = 1
	p.Update(change)
	s = p.await("one left", func(s snapshot) bool { return len(s.Workers) == 1 })
	if s.Workers[0].PID != last.PID {
		t.Errorf("worker %d is left, not %d, which was used last", s.Workers[0].PID, last.PID)
	}
}

func TestDispatch(t *testing.T) {
	for _, order := range []string{worker.DispatchLIFO, worker.DispatchFIFO} {
		p := workers(t, func(o *workerOptions) { o.Max, o.Dispatch = 4, order })
		p.await("four idle", func(s snapshot) bool { return s.Idle == 4 })
		used := map[string]int{}
		for range 40 {
			body, err := p.ask(background, "pid")
			mustDo(t, err)
			used[body]++
		}
		want := 1
		if order == worker.DispatchFIFO {
			want = 4
		}
		if len(used) != want {
			t.Errorf("%s: requests per worker are %v", order, used)
		}
		p.stop()
	}
}

func TestWaitIsFirstComeFirstServed(t *testing.T) {
	p := workers(t)
	g := runnertest.NewGate(t)
	wait := p.hold(g, 1)
	p.await("busy", func(s snapshot) bool { return s.Busy == 1 })
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			_, err := p.ask(background, "", func(r *protocol.Request) {
				r.Started = func(int, string) { mu.Lock(); defer mu.Unlock(); order = append(order, i) }
			})
			if err != nil {
				t.Error(err)
			}
		})
		p.await("waiting", func(s snapshot) bool { return s.Waiting == i+1 })
	}
	wait()
	wg.Wait()
	for i, n := range order {
		if i != n {
			t.Fatalf("order is %v", order)
		}
	}
}

func TestQueueTimeout(t *testing.T) {
	p := workers(t)
	defer p.hold(runnertest.NewGate(t), 1)()
	p.await("busy", func(s snapshot) bool { return s.Busy == 1 })
	if _, err := p.ask(background, "", until(time.Millisecond)); refusal(err) != 503 {
		t.Errorf("error is %v", err)
	}
	ctx, cancel := context.WithCancelCause(background)
	cause := errors.New("left")
	cancel(cause)
	if _, err := p.ask(ctx, ""); err != cause {
		t.Errorf("error is %v", err)
	}
	if s := p.Snapshot(); s.Waiting != 0 {
		t.Errorf("%d wait", s.Waiting)
	}
}

func TestConcurrency(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Scale, o.Max, o.Concurrency = worker.ScaleOnDemand, 2, 8 })
	g := runnertest.NewGate(t)
	wait := p.hold(g, 20)
	s := p.await("sixteen running", func(s snapshot) bool {
		return s.Waiting == 4 && len(s.Workers) == 2 && len(s.Workers[0].Current)+len(s.Workers[1].Current) == 16
	})
	if s.Starts != 2 || s.Workers[0].Current[0].Method != "GET" || s.Workers[0].Current[0].Since.IsZero() {
		t.Errorf("snapshot is %+v", s)
	}
	wait()
}
