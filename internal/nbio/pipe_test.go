package nbio_test

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
)

// asOrdinaryUser runs f on a thread of an ordinary user, for whom the kernel counts
// the pages of pipes; the thread ends with it.
func asOrdinaryUser(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	var running sync.WaitGroup
	running.Go(func() {
		runtime.LockOSThread()
		if os.Getuid() == 0 {
			const user = 54321
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, user, user, user); errno != 0 {
				t.Errorf("become an ordinary user: %v", errno)
				return
			}
		}
		f(t)
	})
	running.Wait()
}

type userPipe struct{ r, w int }

func newUserPipe(t *testing.T) userPipe {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return userPipe{fds[0], fds[1]}
}

func (p userPipe) size() int {
	n, _ := unix.FcntlInt(uintptr(p.r), unix.F_GETPIPE_SZ, 0)
	return n
}

// However many pipes are to be large, others of the same user stay as they are.
func TestPipesOfOthers(t *testing.T) {
	asOrdinaryUser(t, func(t *testing.T) {
		large := 0
		var all []userPipe
		for range 64 {
			p := newUserPipe(t)
			all = append(all, p)
			if nbio.EnlargePipe(uintptr(p.w)) {
				large++
				if p.size() != nbio.PipeSize {
					t.Errorf("a large pipe holds %d bytes", p.size())
				}
			}
			if nbio.EnlargePipe(uintptr(p.r)) != (p.size() == nbio.PipeSize) {
				t.Error("the other end of the pipe is told something else")
			}
		}
		if large == 0 || large == 64 {
			t.Errorf("%d pipes are large", large)
		}
		for range 64 {
			if got := newUserPipe(t).size(); got != 64<<10 {
				t.Fatalf("a new pipe holds %d bytes", got)
			}
		}
		for _, p := range all {
			nbio.ShrinkPipe(uintptr(p.r))
			if p.size() != 64<<10 {
				t.Errorf("a pipe that was large holds %d bytes", p.size())
			}
		}
		p := newUserPipe(t)
		if !nbio.EnlargePipe(uintptr(p.r)) {
			t.Error("there is room for none though all others are small")
		}
		nbio.ShrinkPipe(uintptr(p.r))
	})
}

// A pipe counts for as long as somebody may have it open.
func TestLargePipeIsForgotten(t *testing.T) {
	asOrdinaryUser(t, func(t *testing.T) {
		p := newUserPipe(t)
		if nbio.Large(uintptr(p.w)) != 0 {
			t.Error("a new pipe is large")
		}
		nbio.EnlargePipe(uintptr(p.w))
		large := nbio.Large(uintptr(p.r))
		if large == 0 {
			t.Error("it is not known")
		}
		large.Forget()
		if nbio.Large(uintptr(p.w)) != 0 {
			t.Error("it is not forgotten")
		}
	})
}
