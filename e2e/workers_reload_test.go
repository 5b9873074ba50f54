//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// cPoolOf is the pool of a site of the C program, with keys of the worker, with
// an environment of a generation.
func (s *site) cPoolOf(gen, keys string) string {
	return s.pool("cgi", "worker: {command: "+workerCommand(s.t, "c")+", "+keys+"}"+workerEnv(gen))
}

// The environment changes again and again under load: every worker is replaced,
// and nobody notices.
func TestWorkerReloadUnderLoad(t *testing.T) {
	const keys = "max: 4, min_spare: 2"
	s := newWorkerSite(t, cPool(t, keys))
	s.nginx(keepAlive)
	end := s.storm(s.cPoolOf("b", keys), s.cPoolOf("a", keys))
	gens, pids := map[string]int{}, map[int]bool{}
	for round := 0; round < 20 && (len(gens) < 2 || s.workers().Exits["reload"] == 0); round++ {
		for body := range s.flood(4000, func(worker int) (caller, func()) {
			if worker%2 == 0 {
				return s.straight(s.dir + "/cgi" + appScript)
			}
			return s.overHTTP(appScript)
		}) {
			a, err := parseWorker(body)
			if err != nil {
				t.Error(err)
			}
			gens[a.gen]++
			pids[a.pid] = true
		}
	}
	reloads := end()
	if gens["a"] == 0 || gens["b"] == 0 || len(gens) != 2 {
		t.Errorf("answers by %v", gens)
	}
	w := s.workers()
	t.Logf("%d reloads, %d workers, exits %v", reloads, len(pids), w.Exits)
	if w.Exits["reload"] == 0 || w.Exits["crash"]+w.Exits["exit"]+w.Exits["start"] > 0 || w.Degraded != "" {
		t.Errorf("workers are %+v", w)
	}
}

// A reload replaces workers only if what they are has changed.
func TestWorkerReloadKeepsWorkers(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: static, max: 2"))
	last := s.awaitWorkers("2 workers", func(w workersStatus) bool { return w.in("idle") == 2 })
	s.asked("")
	keeps := func(what, pools string, n int) workersStatus {
		t.Helper()
		s.configure(pools)
		s.reload(t)
		w := s.awaitWorkers(what, func(w workersStatus) bool { return w.in("idle") == n && len(w.List) == n })
		if kept := common(w.pids(), last.pids()); len(kept) != min(len(w.List), len(last.List)) {
			t.Errorf("%s: workers are %v, were %v", what, w.pids(), last.pids())
		}
		last = w
		return w
	}
	keeps("unchanged", s.cPoolOf("a", "scale: static, max: 2"), 2)
	keeps("more", s.cPoolOf("a", "scale: static, max: 4"), 4)
	if w := keeps("fewer and other keys", s.cPoolOf("a", "min: 2, max: 6, min_spare: 2, max_spare: 6, max_requests: 1000, idle_timeout: 100ms, spawn_rate: 5, dispatch: fifo"), 2); w.Scale != "dynamic" || w.Max != 6 {
		t.Errorf("workers are %+v", w)
	}
	keeps("other keys of the pool", s.pool("cgi", "limits: {queue: 7}, timeout: 20s, "+cPool(t, "scale: static, max: 2")), 2)

	s.configure(s.cPoolOf("b", "scale: static, max: 2"))
	s.reload(t)
	s.awaitWorkers("2 other workers", func(w workersStatus) bool {
		s.asked("") // a new one is proven by an answer
		return w.in("idle") == 2 && len(common(w.pids(), last.pids())) == 0 && w.Exits["reload"] == 2
	})
	if a := s.asked(""); a.gen != "b" {
		t.Errorf("got %+v", a)
	}
}

// common are the pids that are in both.
func common(a, b []int) (both []int) {
	for _, pid := range a {
		if slices.Contains(b, pid) {
			both = append(both, pid)
		}
	}
	return both
}

// What a request began with, it ends with.
func TestWorkerReloadLetsRequestsEnd(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: static, max: 2"))
	g := newGate(t, s.dir)
	old := s.later("gate")
	g.arrive(1)
	s.configure(s.cPoolOf("b", "scale: static, max: 2"))
	s.reload(t)
	s.awaitWorkers("two new ones", func(w workersStatus) bool {
		return s.asked("").gen == "b" && w.in("idle") == 2 && w.in("stopping") == 1
	})
	s.wantOutdated(1, "requests that have not ended are with 1 of them")
	if a := g.finish(old)[0]; a.gen != "a" {
		t.Errorf("got %+v", a)
	}
	s.awaitWorkers("two workers", func(w workersStatus) bool { return len(w.List) == 2 && w.in("idle") == 2 })
	s.wantOutdated(0, "")
}

// wantOutdated waits until /status tells of so many workers of before, and why.
func (s *site) wantOutdated(workers int, why string) {
	s.t.Helper()
	await(s.t, fmt.Sprintf("%d outdated workers: %s", workers, why), func() bool {
		o := s.status(s.t).Pools[0].Outdated
		return o.Workers == workers && strings.Contains(o.Why, why)
	})
}

// Where the new program cannot be started, the old workers stay in service.
func TestWorkerReloadOfBrokenProgram(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: static, max: 2"))
	first := s.awaitWorkers("2 workers", func(w workersStatus) bool { return w.in("idle") == 2 }).pids()
	s.asked("")
	s.configure(s.pool("cgi", "worker: {command: [/bin/false], scale: static, max: 2}"))
	s.reload(t)
	s.awaitWorkers("some failures", func(w workersStatus) bool {
		s.asked("")
		return strings.Contains(w.Degraded, "exit status 1") && s.refusals() >= 3
	})
	s.wantOutdated(2, "cannot be started")
	for range 20 {
		if a := s.asked(""); !slices.Contains(first, a.pid) {
			t.Errorf("%d answers, there were %v", a.pid, first)
		}
	}
	s.configure(s.cPoolOf("a", "scale: static, max: 2"))
	s.reload(t)
	w := s.awaitWorkers("all to be well again", func(w workersStatus) bool { return w.Degraded == "" && w.in("idle") == 2 && len(w.List) == 2 })
	if !slices.Equal(w.pids(), first) {
		t.Errorf("workers are %v, were %v", w.pids(), first)
	}
	s.asked("")
}

// A pool may become one of workers, and one of processes again.
func TestWorkerReloadOfKind(t *testing.T) {
	s := newWorkerSite(t, simple)
	hello := s.script("hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	isProcess := func() {
		t.Helper()
		if _, out := s.ask(hello, nil); !strings.HasSuffix(out, "hello") || s.workers().Max != 0 {
			t.Errorf("got %q, workers %+v", out, s.workers())
		}
	}
	g := newGate(t, s.dir)
	for range 2 {
		isProcess()
		s.configure(s.cPoolOf("a", "max: 2"))
		s.reload(t)
		running := s.later("gate")
		pids := g.arrive(1)
		s.asked("")
		pids = append(pids, s.workers().pids()...)
		s.configure(s.pool("cgi", simple))
		s.reload(t)
		isProcess()
		s.wantOutdated(len(pids)-1, "requests that have begun before")
		if a := g.finish(running)[0]; a.gen != "a" {
			t.Errorf("got %+v", a)
		}
		awaitGone(t, pids)
	}
	if got := s.metric(t, `fcgid_workers{pool="cgi",state="idle"}`); got != "" {
		t.Errorf("there are %s idle workers", got)
	}
}

// Whatever reloads come within a moment, over whatever settings, and under load, all
// workers are of the last one soon after, and no request is lost.
func TestWorkerReloadsConverge(t *testing.T) {
	settings := []string{
		"scale: static, max: 1, max_requests: 1", "scale: static, max: 3", "max: 4, min: 2, max_memory: 1MiB", "scale: ondemand, max: 2",
		"max: 3, max_requests: 3, max_spare: 1", "scale: static, max: 2, max_lifetime: 1s",
	}
	command := workerCommand(t, "php")
	pool := func(gen, keys string) string {
		return "worker: {command: " + command + ", " + keys + "}" + workerEnv(gen)
	}
	s := newWorkerSite(t, pool("g0", settings[1]))
	random := rand.New(rand.NewPCG(1, 1))
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 3 {
		load.Go(func() {
			call, end := s.straight(s.dir + "/cgi" + appScript)
			defer end()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if body, err := call(i); err != nil || !strings.Contains(body, "g") {
					t.Errorf("%q, %v", body, err)
				}
			}
		})
	}
	defer load.Wait()
	defer close(stop)
	gen := ""
	for round := range 6 {
		for i := range 2 + random.IntN(3) {
			gen = fmt.Sprintf("g%d-%d", round, i)
			s.configure(s.pool("cgi", pool(gen, settings[random.IntN(len(settings))])))
			s.reload(t)
		}
		s.awaitWorkers("only new ones", func(w workersStatus) bool {
			for _, x := range w.List {
				if x.Leaving == "reload" {
					return false
				}
			}
			return len(w.List) > 0
		})
		if a := s.asked(""); a.gen != gen {
			t.Errorf("round %d: %+v answers, want %s", round, a, gen)
		}
	}
}
