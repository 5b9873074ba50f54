package spawn

import (
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A program is forked with all that the daemon has open, the pipes of others too: who ends a
// tree meanwhile must not take it for one of that.
func TestKillSparesWhatBegins(t *testing.T) {
	for range 400 { // so that to look through them takes a while
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
	}
	l := new(Local)
	over := make(chan struct{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				p, err := l.Start(t.Context(), &Command{Argv: []string{"/bin/sleep", "0.01"}, Dir: "/"})
				if err != nil {
					t.Error(err)
					return
				}
				p.Watch()
				if e, err := p.end(); err != nil || e.Code() != 0 {
					t.Errorf("a program that nobody has ended: exit status %d, %v", e.Code(), err)
				}
			}
		})
	}
	for range 1500 {
		p := start(t, l, &Command{Argv: []string{"/bin/sleep", "1000"}, Dir: "/"})
		p.Watch()
		p.Kill()
		p.end()
	}
	close(over)
	all.Wait()
}
