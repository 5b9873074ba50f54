package pool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/status"
)

func directText(pool, socket, name string) string {
	return workerText(pool, socket, name, "connections: direct")
}

// awaitAnswer asks until the answer is want: a worker may only just start, or leave.
func (s *testSet) awaitAnswer(socket, want string) {
	s.t.Helper()
	polltest.Until(s.t, socket+" answers "+want, func() bool { return s.ask(socket, "/x") == want })
}

func TestDirectWorkers(t *testing.T) {
	s := newTestSet(t)
	s.configure(strings.Replace(directText("a", "a", "first"), "max: 1", "max: 3", 1))
	s.awaitAnswer("a", "first")
	polltest.Until(t, "three workers", func() bool { return s.running()["a"].workersNow().Numbers().Serving == 3 })
	if err := s.Probe(t.Context(), func(string) {}); err != nil {
		t.Errorf("probe: %v", err)
	}
	if got := s.Status()[0]; !got.IsDirect() || *got.Listeners[0].AcceptQueue != 0 || got.Limits != (status.Limits{}) || got.Workers.States["serving"] != 3 {
		t.Errorf("%+v, workers %+v", got, got.Workers)
	}
	for _, gate := range []server.Gate{server.GateHold, server.GateRefuse, server.GateLeave} {
		if err := s.SetGate("a", gate); err == nil || !strings.Contains(err.Error(), "connections: direct") {
			t.Errorf("gate %v: %v", gate, err)
		}
	}
	before := s.running()["a"]
	s.configure(strings.Replace(directText("a", "a", "second"), "max: 1", "max: 2", 1))
	s.awaitAnswer("a", "second")
	polltest.Until(t, "two new workers", func() bool {
		n := s.running()["a"].workersNow().Numbers()
		return n.Serving == 2 && n.Outdated == 0 && n.Stopping == 0
	})
	if s.running()["a"] != before {
		t.Error("the pool is another one")
	}
	s.configure(directText("a", "b", "third"))
	s.awaitAnswer("b", "third")
	polltest.Until(t, "the old address is gone", func() bool { return strings.HasPrefix(s.ask("a", "/x"), "error: ") })
}

// A worker that dies is replaced, whatever killed it.
func TestDirectWorkerDies(t *testing.T) {
	s := newTestSet(t)
	s.configure(directText("a", "a", "it"))
	one := func() int {
		for _, w := range s.running()["a"].workersNow().Snapshot().Workers {
			if w.State == "serving" {
				return w.PID
			}
		}
		return 0
	}
	var pid int
	polltest.Until(t, "a worker", func() bool { pid = one(); return pid != 0 })
	syscall.Kill(pid, syscall.SIGKILL)
	polltest.Until(t, "another worker", func() bool { now := one(); return now != 0 && now != pid })
	s.awaitAnswer("a", "it")
}

// What waits in the kernel is the load: while it does, no more should come.
func TestDirectReady(t *testing.T) {
	s := newTestSet(t)
	s.configure(directText("a", "a", "it"))
	s.awaitAnswer("a", "it")
	s.readyIs(t, "idle", "a", 5, "")
	pid := s.Status()[0].Workers.List[0].PID
	stop(t, pid)
	answer := make(chan string)
	go func() { answer <- s.ask("a", "/x") }()
	polltest.Until(t, "a connection that waits", func() bool { return s.Status()[0].Waiting() == 1 })
	s.readyIs(t, "full", "a", 0, "")
	s.readyIs(t, "full", "a", 1, "pool a is full: 1 connection waiting for a worker")
	syscall.Kill(pid, syscall.SIGCONT)
	if got := <-answer; got != "it" {
		t.Errorf("got %q", got)
	}
}

// stop stops a process, and returns when each of its threads has stopped: one that accepts takes a
// connection until then.
func stop(t *testing.T, pid int) {
	t.Helper()
	syscall.Kill(pid, syscall.SIGSTOP)
	polltest.Until(t, "the process has stopped", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		return err == nil && !slices.ContainsFunc(threads, func(thread string) bool {
			text, err := os.ReadFile(thread)
			return err != nil || !strings.Contains(string(text), ") T ")
		})
	})
}

// The socket blocks, whatever a program has made of it before, and stays what it is.
func TestDirectSocketBlocks(t *testing.T) {
	s := newTestSet(t)
	s.configure(directText("a", "a", "it"))
	s.awaitAnswer("a", "it") // by a Go program, which has set O_NONBLOCK
	fd, err := s.endpoint("a", s.expand("unix:%D/a")).Socket()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

func TestDirectReloadsRefused(t *testing.T) {
	s := newTestSet(t)
	s.configure(directText("a", "a", "it"), workerText("b", "b", "managed"))
	s.awaitAnswer("a", "it")
	for _, tt := range []struct {
		name  string
		want  error
		pools []string
	}{
		{"to managed", listen.ErrOtherMode, []string{workerText("a", "a", "it"), workerText("b", "b", "managed")}},
		{"to direct", listen.ErrOtherMode, []string{directText("a", "a", "it"), directText("b", "b", "managed")}},
		{"of another pool", errStays, []string{directText("c", "a", "it"), workerText("b", "b", "managed")}},
		{"to a script", listen.ErrOtherMode, []string{"{name: a, listen: unix:%D/a, process: {root: [%D]}}"}},
	} {
		if err := s.refused(tt.pools...); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		s.answers("a", "/x", "it")
		s.answers("b", "/x", "managed")
	}
	s.configure(workerText("a", "a2", "now managed"), directText("b", "b2", "now direct"))
	s.awaitAnswer("a2", "now managed")
	s.awaitAnswer("b2", "now direct")
	s.configure(workerText("a", "a", "it again"), directText("b", "b", "managed again"))
	s.awaitAnswer("a", "it again")
	s.awaitAnswer("b", "managed again")
}
