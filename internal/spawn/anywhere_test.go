package spawn

import (
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Threads of sandboxes, and those that start this program anew, end without the programs that
// other goroutines had forked on the same threads before.
func TestThreadsThatForkStay(t *testing.T) {
	OwnAllThreads(t)
	var l Local
	var started []*Process
	for range 20 {
		forkEverywhere(t, &l, &started)
		for range 5 {
			endThread(t)
		}
	}
	for _, p := range started {
		p.Watch()
		p.Stdin.Close()
		if e, err := p.end(); err != nil || e.Code() != 5 {
			t.Fatalf("a program ended with %d, %v", e.Code(), err)
		}
	}
}

// forkEverywhere has a few goroutines start programs at once, each on a thread of its own.
func forkEverywhere(t *testing.T, l *Local, started *[]*Process) {
	t.Helper()
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			p := start(t, l, &Command{Argv: []string{"/bin/sh", "-c", "read x; exit 5"}, IO: IO{Stdin: true}})
			mu.Lock()
			defer mu.Unlock()
			*started = append(*started, p)
		})
	}
	all.Wait()
}

// endThread has a thread end as that of a sandbox does.
func endThread(t *testing.T) {
	t.Helper()
	thread := make(chan int)
	go onThread(func() { thread <- unix.Gettid() })
	tid := <-thread
	if tid == os.Getpid() {
		t.Fatal("the first thread is taken from all others")
	}
	awaitThread(t, tid)
}
