package pool

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/server"
)

// load is a configuration that nobody takes over.
func (s *testSet) load(pools ...string) *config.Config {
	s.t.Helper()
	p, err := s.plan(pools...)
	if err != nil {
		s.t.Fatal(err)
	}
	p.Undo()
	return p.cfg
}

// Diff tells what becomes of each pool, and changes nothing.
func TestDiff(t *testing.T) {
	s := newTestSet(t)
	const one, two = "{name: one, listen: unix:%D/one, function: {names: [one]}}", "{name: two, listen: unix:%D/two, function: {names: [two]}}"
	if got := fmt.Sprint(s.Diff(s.load(one))); !strings.Contains(got, "{one added ") {
		t.Errorf("at the start: %s", got)
	}
	s.configure(one, two)
	changed := s.load(one, "{name: three, listen: unix:%D/two, limits: {queue: 7}, function: {names: [two]}}")
	got := s.Diff(changed)
	var text []string
	for _, p := range got.Pools {
		text = append(text, fmt.Sprint(p.Name, " ", p.Change, p.Changed))
	}
	if want := "one unchanged[], three added[], two removed[]"; strings.Join(text, ", ") != want {
		t.Errorf("got %q, want %s", text, want)
	}
	if got := s.Diff(s.load(one, "{name: two, listen: unix:%D/two, limits: {queue: 7}, function: {names: [one]}}")).Pools[1]; got.Change != "changed" || fmt.Sprint(got.Changed) != "[limits.queue 1024→7 function.names [two]→[one]]" {
		t.Errorf("got %+v", got)
	}
	s.answers("two", "two", "two")
}

// With reload: always a reload replaces the workers, and nothing else that changes them.
func TestScaleReplacesNobody(t *testing.T) {
	s := newTestSet(t)
	php := strings.Replace(workerText("php", "php", "a"), "worker: {", "worker: {reload: always, ", 1)
	s.configure(php)
	w := s.running()["php"].workers
	if _, _, err := s.Scale("php", 3); err != nil || w.recycled != 0 {
		t.Errorf("scaled: recycled %d times, %v", w.recycled, err)
	}
	s.configure(php)
	if s.configure(php); w.recycled != 2 {
		t.Errorf("two reloads: recycled %d times", w.recycled)
	}
}

// What was scaled is so until the next configuration, which the diff says before.
func TestScaleUntilReload(t *testing.T) {
	s := newTestSet(t)
	pools := []string{workerText("php", "php", "a"), "{name: one, listen: unix:%D/one, function: {names: [one]}}"}
	s.configure(pools...)
	for name, want := range map[string]int{"php": 1, "one": 1024} {
		if _, before, err := s.Scale(name, 3); err != nil || before != want {
			t.Errorf("%s: %d before, %v", name, before, err)
		}
		if _, before, err := s.Scale(name, 2); err != nil || before != 3 {
			t.Errorf("%s: %d before, %v", name, before, err)
		}
		if got := s.running()[name].server.Snapshot().Limits.MaxReqs; got != 2 {
			t.Errorf("%s does %d at once", name, got)
		}
	}
	for _, n := range []int{-1, 0, 1 << 30} {
		if _, _, err := s.Scale("php", n); err == nil || !strings.Contains(err.Error(), "worker.max must be from 1 to ") {
			t.Errorf("scaled to %d: %v", n, err)
		}
	}
	if _, _, err := s.Scale("none", 1); err == nil || !strings.Contains(err.Error(), "there is one, php") {
		t.Errorf("no such pool: %v", err)
	}
	if diff := fmt.Sprint(s.Diff(s.load(pools...)).Pools); !strings.Contains(diff, "worker.max") || !strings.Contains(diff, "limits.max_reqs") {
		t.Errorf("diff %s", diff)
	}
	s.configure(pools...)
	if max := s.running()["php"].workers.Numbers().Max; max != 1 {
		t.Errorf("after a reload there are %d workers at most", max)
	}
	s.answers("php", "x", "a")
}

// A gate outlasts a reload, and goes with its pool.
func TestGateOutlastsReload(t *testing.T) {
	s := newTestSet(t)
	const one, changed = "{name: one, listen: unix:%D/one, function: {names: [one]}}", "{name: one, listen: unix:%D/one, limits: {queue: 7}, function: {names: [one]}}"
	s.configure(one)
	if err := s.SetGate("one", server.GateRefuse); err != nil {
		t.Fatal(err)
	}
	s.configure(changed)
	s.answers("one", "one", "503 Service Unavailable")
	if state := s.Status()[0].State; state != "drained" {
		t.Errorf("it is %s", state)
	}
	s.configure("{name: other, listen: unix:%D/one, function: {names: [one]}}")
	s.answers("one", "one", "one")
	s.configure(one)
	s.answers("one", "one", "one")
	if err := s.SetGate("none", server.GateOpen); err == nil {
		t.Error("there is no such pool")
	}
}

// A request of a pool that is no more in the configuration can be killed, and no other
// has its number.
func TestKillInDrainingPool(t *testing.T) {
	s := newTestSet(t)
	old, next := workerText("old", "old", "a"), workerText("next", "next", "b")
	s.configure(old, next)
	never := runnertest.NewGate(t)
	answers := make(chan string, 2)
	for _, socket := range []string{"old", "next"} {
		go func() { answers <- socket + ": " + s.ask(socket, "x", "WAIT", never.Path) }()
	}
	serial := func(pool string) (serial uint64) {
		polltest.Until(t, "a request of "+pool, func() bool {
			for _, p := range s.Status() {
				if p.Name == pool && len(p.Requests) == 1 && p.Requests[0].Stage == "running" {
					serial = p.Requests[0].ID
				}
			}
			return serial != 0
		})
		return serial
	}
	first, second := serial("old"), serial("next")
	s.configure(next)
	reason := errors.New("killed by a test")
	if pool, r, ok := s.Kill(first, reason); !ok || pool != "old" || r.ID != first || first == second {
		t.Errorf("killed %v of %s: %+v; the other is %d", ok, pool, r, second)
	}
	if got := <-answers; got != "old: 503 Service Unavailable" {
		t.Errorf("got %q", got)
	}
	if _, _, ok := s.Kill(12345, reason); ok {
		t.Error("there is no such request")
	}
	s.Kill(second, reason)
	<-answers
}

// Numbers go on from where they are told to, and never back.
func TestCountFrom(t *testing.T) {
	s := newTestSet(t)
	for _, c := range []struct{ from, next uint64 }{{0, 1}, {1, 1}, {1000, 1000}, {7, 1000}, {1001, 1001}} {
		s.CountFrom(c.from)
		if next := s.Serial() + 1; next != c.next {
			t.Errorf("from %d: the next one is %d, want %d", c.from, next, c.next)
		}
	}
	s.configure("{name: one, listen: unix:%D/one, function: {names: [one]}}")
	s.answers("one", "one", "one")
	if got := s.Serial(); got != 1001 {
		t.Errorf("the request has the number %d", got)
	}
}

// Recycle is for workers.
func TestRecycle(t *testing.T) {
	s := newTestSet(t)
	s.configure(workerText("php", "php", "a"), "{name: one, listen: unix:%D/one, function: {names: [one]}}")
	s.answers("php", "x", "a")
	if n, err := s.Recycle("php"); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	polltest.Until(t, "another worker", func() bool { return s.Progress("php").IsDone() })
	for pool, want := range map[string]string{"one": "its functions are part of the daemon", "none": `no pool "none"`} {
		if _, err := s.Recycle(pool); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", pool, err)
		}
		if !s.Progress(pool).IsDone() {
			t.Errorf("%s has something to wait for", pool)
		}
	}
}
