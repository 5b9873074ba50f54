//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Workers are as many as the keys say: before, under and after load. A request
// more waits, and loses nothing by it.
func TestWorkerScale(t *testing.T) {
	for _, test := range []struct {
		name, keys         string
		before, busy, idle int // workers: at first; with 3 requests, those that have none
		after              int
	}{
		{"static", "scale: static, max: 5, idle_timeout: 100ms", 5, 3, 2, 5},
		{"dynamic", "scale: dynamic, max: 5, min: 2, min_spare: 1, max_spare: 5, idle_timeout: 100ms", 2, 3, 1, 2},
		{"dynamic, more spares", "scale: dynamic, max: 5, min: 1, min_spare: 2, max_spare: 5, idle_timeout: 100ms", 2, 3, 2, 2},
		{"dynamic, at most", "scale: dynamic, max: 5, min: 1, min_spare: 1, max_spare: 3, idle_timeout: 0", 1, 3, 1, 3},
		{"ondemand", "scale: ondemand, max: 5, idle_timeout: 100ms", 0, 3, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newWorkerSite(t, cPool(t, test.keys))
			g := newGate(t, s.dir)
			exactly := func(what string, idle, busy int) {
				t.Helper()
				s.awaitWorkers(what, func(w workersStatus) bool {
					if w.serving() > 5 {
						t.Errorf("more than max: %+v", w)
					}
					return w.in("idle") == idle && w.in("busy") == busy && len(w.List) == idle+busy
				})
			}
			exactly("workers before", test.before, 0)
			all := s.gated(test.busy)
			g.arrive(test.busy)
			exactly("workers under load", test.idle, test.busy)
			all = append(all, s.gated(9-test.busy)...)
			g.arrive(5 - test.busy)
			exactly("all workers", 0, 5)
			await(t, "the others to wait", func() bool { return s.status(t).Pools[0].Queued == 4 })
			g.finish(all...)
			exactly("workers after", test.after, 0)
			if w := s.workers(); w.Exits["crash"]+w.Exits["exit"]+w.Exits["start"] > 0 {
				t.Errorf("exits are %v", w.Exits)
			}
		})
	}
}

// The worker that was used last stays, whatever the reason is for which others leave.
func TestWorkerLongestIdleLeaves(t *testing.T) {
	pool := func(keys string) string { return cPool(t, keys) }
	// oneByOne ends three requests that run at once, and returns who has answered, in turn.
	oneByOne := func(s *site, g *gate) (pids []int) {
		all := s.gated(3)
		g.arrive(3)
		done := make(chan workerAnswer, 3)
		for _, one := range all {
			go func() {
				a := <-one.c
				w, _ := parseWorker(a.body)
				done <- w
			}()
		}
		for range 3 {
			g.release(1)
			pids = append(pids, wait(t, "an answer", done).pid)
		}
		return pids
	}
	t.Run("idle_timeout", func(t *testing.T) {
		s := newWorkerSite(t, pool("max: 3, min: 1, min_spare: 0, idle_timeout: 200ms"))
		used := oneByOne(s, newGate(t, s.dir))
		w := s.awaitWorkers("one worker", func(w workersStatus) bool { return len(w.List) == 1 })
		if w.List[0].PID != used[2] || w.Exits["idle"] != 2 {
			t.Errorf("left is %+v, used were %v", w, used)
		}
	})
	t.Run("max", func(t *testing.T) {
		s := newWorkerSite(t, pool("scale: static, max: 3"))
		used := oneByOne(s, newGate(t, s.dir))
		for left := 2; left > 0; left-- {
			s.configure(s.pool("cgi", pool(fmt.Sprint("scale: static, max: ", left))))
			s.reload(t)
			w := s.awaitWorkers("fewer workers", func(w workersStatus) bool { return len(w.List) == left })
			want := slices.Sorted(slices.Values(used[3-left:]))
			if !slices.Equal(w.pids(), want) {
				t.Errorf("left are %v of %v, want %v", w.pids(), used, want)
			}
		}
	})
}

// A burst onto a pool without workers starts all that there may be, at once.
func TestWorkerBurst(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: ondemand, max: 8"))
	g := newGate(t, s.dir)
	all := s.gated(50)
	pids := g.arrive(8) // none has ended yet
	if len(slices.Compact(pids)) != 8 {
		t.Errorf("at work are %v", pids)
	}
	w := s.awaitWorkers("8 that are busy", func(w workersStatus) bool { return w.in("busy") == 8 })
	if w.Starts != 8 || len(w.List) != 8 {
		t.Errorf("workers are %+v", w)
	}
	g.finish(all...)
	if w := s.workers(); w.Starts != 8 {
		t.Errorf("%d starts", w.Starts)
	}
}

// Workers are replaced after max_requests, and no request is lost by it.
func TestWorkerMaxRequests(t *testing.T) {
	for scale, n := range map[string]int{"dynamic": 10_000, "ondemand": 3000} {
		t.Run(scale, func(t *testing.T) {
			s := newWorkerSite(t, cPool(t, "scale: "+scale+", max: 4, max_requests: 100, spawn_rate: 1000"))
			bodies := s.flood(n, func(int) (caller, func()) { return s.straight(s.dir + "/cgi" + appScript) })
			most := map[int]int{}
			for body, times := range bodies {
				a, err := parseWorker(body)
				if err != nil || times != 1 {
					t.Errorf("%d times %q", times, body)
				}
				most[a.pid] = max(most[a.pid], a.count)
			}
			for pid, count := range most {
				if count > 110 {
					t.Errorf("worker %d has served %d requests", pid, count)
				}
			}
			w := s.workers()
			if len(bodies) != n || len(most) < n/110 || w.Exits["max_requests"] < n/110-4 {
				t.Errorf("%d answers of %d workers, exits %v", len(bodies), len(most), w.Exits)
			}
			if w.Exits["crash"]+w.Exits["exit"]+w.Exits["start"] > 0 || w.Degraded != "" {
				t.Errorf("exits are %v", w.Exits)
			}
		})
	}
}

// The program may have a limit of its own and end after any answer: php-cgi does.
func TestWorkerProgramLimit(t *testing.T) {
	s := newWorkerSite(t, phpPool(t, "scale: static, max: 2", "PHP_FCGI_MAX_REQUESTS=20"))
	bodies := s.flood(400, func(int) (caller, func()) { return s.straight(s.dir + "/cgi" + appScript) })
	answers := map[int]int{}
	for body, n := range bodies {
		a, err := parseWorker(body)
		if err != nil {
			t.Errorf("%q", body)
		}
		answers[a.pid] += n
	}
	for pid, n := range answers {
		if n > 20 {
			t.Errorf("%d has answered %d requests", pid, n)
		}
	}
	w := s.workers()
	if w.Exits["exit"] < 18 || w.Exits["crash"]+w.Exits["start"] > 0 || strings.Contains(s.out.String(), "worker has crashed") {
		t.Errorf("exits are %v", w.Exits)
	}
}
