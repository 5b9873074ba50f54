package pool

import (
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/server"
)

// readyIs checks what a pool says of itself; "" is that it is ready.
func (s *testSet) readyIs(t *testing.T, when, pool string, room int, want string) {
	t.Helper()
	reason, err := s.Ready(pool, room)
	if err != nil || !strings.Contains(reason, want) || (want == "") != (reason == "") {
		t.Errorf("%s: room for %d in %s: %q, %v; want %q", when, room, pool, reason, err, want)
	}
}

// A pool is ready while it takes requests, and has room while so many more would run at once:
// of its own places, and of those of its workers if these are fewer.
func TestReady(t *testing.T) {
	s := newTestSet(t)
	s.configure("{name: one, listen: unix:%D/one, limits: {max_reqs: 3}, function: {names: [one]}}", strings.Replace(workerText("php", "php", "a"), "max: 1", "max: 2", 1))
	for _, pool := range []string{"one", "php"} {
		for gate, want := range map[server.Gate]string{server.GateHold: "paused", server.GateRefuse: "drained", server.GateLeave: "leaving", server.GateOpen: ""} {
			if err := s.SetGate(pool, gate); err != nil {
				t.Fatal(err)
			}
			s.readyIs(t, "gate "+want, pool, 0, want)
			s.readyIs(t, "gate "+want, pool, 1, want)
		}
		s.SetGate(pool, server.GateOpen)
	}
	s.readyIs(t, "idle", "one", 3, "")
	s.readyIs(t, "idle", "one", 4, "pool one is almost full: room for 3 of 3 requests, 0 wait")
	s.readyIs(t, "idle", "php", 2, "")
	s.readyIs(t, "idle", "php", 3, "almost full: room for 2 of 2 ")
	if reason, err := s.Ready("none", 0); err == nil || !strings.Contains(err.Error(), "there is one, php") {
		t.Errorf("no such pool: %q, %v", reason, err)
	}

	gate := runnertest.NewGate(t)
	answers := make(chan string, 3)
	for i := range 3 {
		go func() { answers <- s.ask("php", "x", "WAIT", gate.Path) }()
		polltest.Until(t, "the requests to be there", func() bool {
			for _, b := range s.Briefs() {
				if b.Name == "php" {
					return b.Running+b.Waiting == i+1
				}
			}
			return false
		})
		s.readyIs(t, "busy", "php", 0, "")
		if i == 0 {
			s.readyIs(t, "one runs", "php", 1, "")
			s.readyIs(t, "one runs", "php", 2, "almost full: room for 1 of 2 ")
		}
	}
	polltest.Until(t, "both workers to be busy", func() bool { // the second one may still be starting
		reason, _ := s.Ready("php", 1)
		return strings.HasPrefix(reason, "pool php is full: room for 0 of 2 requests, 1 wait")
	})
	gate.Open()
	for range 3 {
		<-answers
	}
	polltest.Until(t, "room again", func() bool { reason, _ := s.Ready("php", 2); return reason == "" })
}

// A pool whose workers cannot be started is not ready.
func TestNotReadyWithoutWorkers(t *testing.T) {
	s := newTestSet(t)
	s.configure("{name: no, listen: unix:%D/no, worker: {command: [/bin/false], scale: static, max: 1}}")
	polltest.Until(t, "it to be told", func() bool {
		reason, _ := s.Ready("no", 0)
		return strings.Contains(reason, "pool no: workers cannot be started")
	})
}

// The end of a notice is nothing when another order has come meanwhile.
func TestRefuseAfterNotice(t *testing.T) {
	s := newTestSet(t)
	s.configure("{name: one, listen: unix:%D/one, function: {names: [one]}}")
	s.SetGate("one", server.GateLeave)
	s.answers("one", "one", "one")
	if err := s.Refuse("one"); err != nil {
		t.Fatal(err)
	}
	s.answers("one", "one", "503 Service Unavailable")
	for _, gate := range []server.Gate{server.GateOpen, server.GateHold, server.GateRefuse} {
		s.SetGate("one", gate)
		if err := s.Refuse("one"); err == nil || !strings.Contains(err.Error(), "pool one: another order") {
			t.Errorf("gate %d: %v", gate, err)
		}
		if now := s.running()["one"].server.Snapshot().Gate; now != gate {
			t.Errorf("gate %d has become %d", gate, now)
		}
	}
	if err := s.Refuse("none"); err == nil {
		t.Error("there is no such pool")
	}
}
