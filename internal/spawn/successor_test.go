package spawn_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// Who has exited is not signalled any more, whoever may have its pid.
func TestSuccessorThatHasExited(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	var l spawn.Local
	s, err := l.StartSuccessor("/bin/cat", nil) // of this program's arguments, which are no files
	if err != nil {
		t.Fatal(err)
	}
	<-s.Exited()
	if err := s.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("%v", err)
	}
	if how := s.Discard(false); !strings.HasPrefix(how, "exit status") {
		t.Errorf("it has ended: %s", how)
	}
	if err := s.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("waited for: %v", err)
	}
}

// One that is not wanted is killed with what it has started, at once or if it does not end by itself.
func TestSuccessorIsDiscarded(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	for _, atOnce := range []bool{true, false} {
		r, w, err := os.Pipe()
		runnertest.Must(t, err)
		defer r.Close()
		var l spawn.Local
		raw, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		runnertest.Must(t, err)
		w.Close()
		s, err := l.StartSuccessor(os.Args[0], []int{raw}, "HELPER=stubborn")
		unix.Close(raw)
		runnertest.Must(t, err)
		r.SetReadDeadline(time.Now().Add(runnertest.Patience))
		if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
			t.Fatalf("it has not started: %v", err)
		}
		if how := s.Discard(atOnce); how != "signal: killed" {
			t.Errorf("it has ended: %s", how)
		}
		if n, err := r.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("what it has started is left: %d, %v", n, err)
		}
	}
}

// beStubborn ignores the signal that asks it to end, has a child, and says so on descriptor 3, which
// both have.
func beStubborn() int {
	signal.Ignore(unix.SIGTERM)
	life := os.NewFile(3, "life")
	child := exec.Command("/bin/sleep", "600")
	child.ExtraFiles = []*os.File{life}
	if err := child.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	life.WriteString("x")
	child.Wait()
	return 0
}

// It is signalled while it runs, and until it has been waited for, by many at once.
func TestSelfIsSignalled(t *testing.T) {
	var l spawn.Local
	s, err := l.StartSelf([]string{"HELPER=idle"}, []uintptr{0, 1, 2})
	if err != nil {
		t.Fatal(err)
	}
	var signalling sync.WaitGroup
	for range 8 {
		signalling.Go(func() {
			for !isClosed(s.Exited()) {
				s.Signal(unix.SIGKILL)
			}
			s.Signal(unix.SIGKILL)
		})
	}
	signalling.Wait()
	if !s.Status().Signaled() {
		t.Errorf("it has ended with %v", s.Status())
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
