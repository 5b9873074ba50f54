package worker_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/worker"
)

// Under changes of the program that come faster than workers start no request fails.
func TestReloadUnderLoad(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Scale, o.Max, o.MinSpare = worker.ScaleDynamic, 4, 1 })
	end := make(chan struct{})
	var reloader sync.WaitGroup
	last := 0
	reloader.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(200 * time.Millisecond):
			}
			last++
			change := p.opt
			change.Env = append(change.Env[:len(change.Env):len(change.Env)], fmt.Sprint("VERSION=", last))
			p.Update(change)
		}
	})
	until := time.Now().Add(3 * time.Second)
	p.load(1_000_000, func(i int) {
		if time.Now().After(until) {
			return
		}
		var change []func(*protocol.Request)
		if i%2 == 0 {
			change = append(change, post(random(int64(1+i%100))))
		}
		if _, err := p.ask(background, "env VERSION", change...); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
	})
	close(end)
	reloader.Wait()
	p.await("new ones only", func(s snapshot) bool {
		for _, w := range s.Workers {
			if w.Leaving != "" {
				return false
			}
		}
		return s.Idle > 0
	})
	p.want("env VERSION", fmt.Sprint(last))
}

// The same program may have read files that have changed: another release of it
// replaces the workers, the same one does not.
func TestRelease(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Max = 2 })
	before := p.await("two idle", func(s snapshot) bool { return s.Idle == 2 })
	p.Update(p.opt)
	if s := p.Snapshot(); fmt.Sprint(pids(s)) != fmt.Sprint(pids(before)) || s.Outdated != 0 {
		t.Errorf("workers are %v, were %v", pids(s), pids(before))
	}
	change := p.opt
	change.Release++
	p.Update(change)
	p.await("both replaced", func(s snapshot) bool { return s.Exits["reload"] == 2 && s.Idle == 2 })
	p.Update(change)
	if s := p.Snapshot(); s.Outdated != 0 || s.Starts != 4 {
		t.Errorf("%d are outdated, %d were started", s.Outdated, s.Starts)
	}
}

// Another signal holds for the workers that there are, which run the same program. Those
// that are replaced by another one are asked with the signal that was theirs.
func TestStopSignalIsChanged(t *testing.T) {
	p := workers(t, func(o *workerOptions) {
		o.Max, o.StopGrace, o.Env = 2, time.Hour, append(o.Env, "DEAF=stone")
		o.WarmUp = []string{"DO=pid"}
	})
	before := p.await("two idle", func(s snapshot) bool { return s.Idle == 2 })
	change := p.opt
	change.StopSignal = syscall.SIGINT
	p.Update(change)
	change.Max = 1
	p.Update(change)
	s := p.await("one", func(s snapshot) bool { return len(s.Workers) == 1 && s.Exits["scale"] == 1 })
	if !slices.Contains(pids(before), s.Workers[0].PID) {
		t.Errorf("workers are %v, were %v", pids(s), pids(before))
	}
	change.StopSignal, change.Release = syscall.SIGUSR1, change.Release+1 // which the helper takes no notice of
	p.Update(change)
	p.await("another", func(s snapshot) bool { return s.Exits["reload"] == 1 && s.Idle == 1 })
	change.StopSignal = syscall.SIGINT
	p.Update(change)
	p.stop()
	if s := p.Snapshot(); s.Exits["stop"] != 1 || s.Exits["crash"] != 0 {
		t.Errorf("exits are %v", s.Exits)
	}
}

// New workers are ready before the old ones leave; where they cannot be, the old
// ones stay.
func TestReloadToBrokenProgram(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Max, o.WarmUp = 2, []string{"DO=pid"} })
	before := p.await("two idle", func(s snapshot) bool { return s.Idle == 2 })
	change := p.opt
	change.WarmUp = []string{"DO=fail"}
	p.Update(change)
	s := p.await("degraded", func(s snapshot) bool { return s.Degraded && s.Starting == 0 })
	if !strings.Contains(s.Why, "warm-up request: the answer has status 500") {
		t.Errorf("why is %q", s.Why)
	}
	body, err := p.ask(background, "pid")
	if err != nil || body != fmt.Sprint(before.Workers[0].PID) && body != fmt.Sprint(before.Workers[1].PID) {
		t.Errorf("%q, %v", body, err)
	}
	p.Update(p.opt)
	s = p.await("healthy", func(s snapshot) bool { return s.Idle == 2 && len(s.Workers) == 2 && s.Workers[0].Leaving == "" })
	if fmt.Sprint(pids(s)) != fmt.Sprint(pids(before)) {
		t.Errorf("workers are %v, were %v", pids(s), pids(before))
	}
}

func TestWarmUp(t *testing.T) {
	p := workers(t, func(o *workerOptions) {
		o.WarmUp, o.StartTimeout = []string{"DO=hang"}, 50*time.Millisecond
	})
	if _, err := p.ask(background, "", until(10*time.Millisecond)); refusal(err) != 503 {
		t.Errorf("error is %v", err)
	}
	s := p.await("degraded", func(s snapshot) bool { return s.Degraded })
	if !strings.Contains(s.Why, "warm-up request: not answered within 50ms") {
		t.Errorf("why is %q", s.Why)
	}
}

// A warm-up request that is not answered holds nobody up.
func TestStopDuringWarmUp(t *testing.T) {
	p := workers(t, func(o *workerOptions) {
		o.WarmUp, o.StartTimeout = []string{"DO=hang"}, time.Hour
	})
	asked := func(i int) func(s snapshot) bool {
		return func(s snapshot) bool { return len(s.Workers) == i+1 && len(s.Workers[i].Current) == 1 }
	}
	p.await("asked", asked(0))
	change := p.opt
	change.Env = append(change.Env, "CHANGED=1")
	p.Update(change)
	p.await("another one asked", asked(1))
	p.stop()
	if s := p.Snapshot(); s.Exits["stop"] != 2 || s.Degraded {
		t.Errorf("snapshot is %+v", s)
	}
}

func TestMaxMemory(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.MaxMemory = 150 << 20 })
	p.want("", "ok")
	p.want("grow", strconv.Itoa(200<<20))
	p.want("", "ok")
	p.await("replaced", func(s snapshot) bool { return s.Exits["memory"] == 1 && s.Idle == 1 })
	if s := p.Snapshot(); s.Starts != 2 {
		t.Errorf("%d starts", s.Starts)
	}
}

func TestMaxLifetime(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Max, o.MaxLifetime = 2, 100*time.Millisecond })
	p.await("replaced", func(s snapshot) bool { return s.Exits["lifetime"] >= 4 && s.Idle == 2 })
	p.want("", "ok")
}
