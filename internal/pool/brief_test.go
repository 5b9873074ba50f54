package pool

import (
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/status"
)

// A probe goes through every pool, also through one that takes nothing, and changes none
// of their numbers.
func TestProbe(t *testing.T) {
	s := newTestSet(t)
	s.configure("{name: one, listen: [unix:%D/one, 'unix:%D/other'], function: {names: [one]}}", workerText("php", "php", "a"))
	s.answers("one", "one", "one")
	if err := s.SetGate("one", server.GateHold); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		var at []string
		if err := s.Probe(t.Context(), func(what string) { at = append(at, what) }); err != nil {
			t.Fatalf("%v: %q", err, at)
		}
		for _, want := range []string{s.expand("pool one: who accepts connections at unix:%D/one"), s.expand("pool one: who accepts connections at unix:%D/other"),
			"pool one: admission", "pool php: admission", "pool php: the workers' queue"} {
			if !strings.Contains(strings.Join(at, "\n")+"\n", want+"\n") {
				t.Errorf("it has not looked at %s, only at %q", want, at)
			}
		}
	}
	polltest.Until(t, "the request to have ended here, too", func() bool {
		return s.Briefs()[0] == Brief{Name: "one", State: status.Paused, Served: 1}
	})
	if n := s.running()["one"].server.Snapshot(); n.ConnectionsTotal != 1 {
		t.Errorf("%d connections", n.ConnectionsTotal)
	}
	if err := s.SetGate("one", server.GateOpen); err != nil {
		t.Fatal(err)
	}
	s.answers("one", "one", "one")
}
