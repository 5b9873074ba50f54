package spawn_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

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
	if how := l.Discard(s); !strings.HasPrefix(how, "exit status") {
		t.Errorf("it has ended: %s", how)
	}
	if err := s.Signal(unix.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("waited for: %v", err)
	}
}

// It is signalled while it runs, and until it has been waited for, by many at once.
func TestSelfIsSignalled(t *testing.T) {
	var l spawn.Local
	s, err := l.StartSelf(nil, []string{"HELPER=idle"}, []uintptr{0, 1, 2})
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
