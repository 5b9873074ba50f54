package spawn

import (
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
)

// A thread that ends takes no program with it, though it is the one that asked for
// the start: a goroutine that is locked to its thread takes it along when it ends.
func TestThreadEnds(t *testing.T) {
	var l Local
	for range 20 {
		var p *Process
		thread := make(chan int)
		go func() {
			runtime.LockOSThread() // and never unlocked
			p = start(t, &l, &Command{Argv: []string{"/bin/sh", "-c", "read x; exit 5"}, IO: IO{Stdin: true}})
			thread <- unix.Gettid()
		}()
		awaitThread(t, <-thread)
		p.Watch()
		p.Stdin.Close()
		if e, err := p.end(); err != nil || e.Code() != 5 {
			t.Fatalf("the program ended with %d, %v", e.Code(), err)
		}
	}
}

// awaitThread waits for the end of a thread, if it is not the first of all.
func awaitThread(t *testing.T, tid int) {
	t.Helper()
	polltest.Until(t, "the end of the thread", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", tid))
		return err != nil || tid == os.Getpid()
	})
}
