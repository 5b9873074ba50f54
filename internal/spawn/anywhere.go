package spawn

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ownThreads is whether no goroutine ends threads but those of onThread.
var ownThreads atomic.Bool

// OwnThreads says that no code but this project's runs in this process. Then no thread ends
// unknown to us, and each may fork: to ask one of a team for it takes two switches of
// threads a program. It is called first in main.
func OwnThreads() { ownThreads.Store(true) }

// forkers are the threads that have forked programs which may be there still.
var forkers struct {
	mu   sync.Mutex // guards tids
	tids map[int]bool
}

// forking bounds the threads that fork at once, and those that are taken by who waits for it.
var forking = make(chan struct{}, runtime.GOMAXPROCS(0))

// runHere is run on the thread of the caller, which never ends from then on.
func (l *launch) runHere() {
	forking <- struct{}{}
	runtime.LockOSThread()
	noteForker(unix.Gettid())
	l.fork()
	runtime.UnlockOSThread()
	<-forking
}

func noteForker(tid int) {
	forkers.mu.Lock()
	defer forkers.mu.Unlock()
	if forkers.tids == nil {
		forkers.tids = make(map[int]bool)
	}
	forkers.tids[tid] = true
}

// mayEnd reports whether no program dies if a thread ends that the caller is locked to.
// The first one of a process never does: a goroutine that ends on it only keeps it from all others.
func mayEnd(tid int) bool {
	forkers.mu.Lock()
	defer forkers.mu.Unlock()
	return tid != os.Getpid() && !forkers.tids[tid]
}
