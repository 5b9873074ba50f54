package privsep

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/logtest"
)

// returns fails the test if f does not return.
func returns(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal(what + " does not return")
	}
}

// A reload whose file hangs keeps no upgrade from being committed.
func TestCommitBesideReload(t *testing.T) {
	s := new(spawner)
	s.turn.Lock()
	defer s.turn.Unlock()
	returns(t, "a commit", func() {
		if err := s.commitSuccessor(); err != errSuccessor {
			t.Error(err)
		}
	})
}

// A folder that hangs does not keep the spawner from ending after its daemon was killed.
func TestConcludeBesideHungFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root removes files of others")
	}
	log, _ := logtest.New()
	t.Setenv("FDSTORE", "")
	s := &spawner{log: log, sockets: &listeners{turns: make(chan func())}, stopping: t.Context()} // turns that nobody takes
	s.local.Log = log
	s.sockets.note(Made{listen.File{Path: "/hung/s", Dev: 1, Ino: 1}, Listen{Path: "/hung/s", IsOwn: true}})
	returns(t, "the end", func() { s.conclude(unix.WaitStatus(unix.SIGKILL)) })
	(<-s.sockets.turns)() // it hangs no more
}
