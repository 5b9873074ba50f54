package spawn

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Between the system call that makes a child another user and the one that executes the
// program, that user can stop it (SIGSTOP, which nothing blocks). The thread that has forked it
// waits until the program is executed (CLONE_VFORK), and the Go runtime does not know that it
// waits: its P is gone, and the world can never be stopped for a collection, so that a while later
// nothing of this process runs. One user of a pool would take all pools down.
//
// So in a process that outlives that no collection begins while a thread forks, there is a P more
// than threads that do, and a child that was stopped is killed.

// OutliveStops has this process survive programs that are stopped before they are executed. It
// is called once, before the first program is started: from then on, who allocates memory
// calls Collect now and then.
func OutliveStops() {
	runtime.GOMAXPROCS(cap(forking) + 1)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(mostGarbage)
	outlives.Store(true)
}

var outlives atomic.Bool

// forkNoExec is a flag of /proc/PID/stat: of a process that has executed nothing (PF_FORKNOEXEC).
const forkNoExec = 0x40

const (
	// stoppedTime is after how long a fork is looked at, again and again: it takes less than a
	// millisecond, or more where the machine is busy.
	stoppedTime = 100 * time.Millisecond
	// someGarbage is how much is allocated between two collections.
	someGarbage = 8 << 20
	// mostGarbage has the runtime collect by itself where nobody has come to it: better at a
	// bad time than never.
	mostGarbage = 256 << 20
)

// collection is held for reading by who forks, and for writing by who collects.
var collection sync.RWMutex

var (
	collecting atomic.Bool
	collected  atomic.Uint64 // of all bytes that were ever allocated, at the last collection
)

// Collect collects garbage if there is some, and nobody forks.
func Collect() {
	if !outlives.Load() {
		return
	}
	all := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(all)
	if now := all[0].Value.Uint64(); now-collected.Load() < someGarbage || !collecting.CompareAndSwap(false, true) {
		return
	}
	defer collecting.Store(false)
	if !collection.TryLock() { // to wait would keep others from forking, as long as one hangs
		return
	}
	defer collection.Unlock()
	metrics.Read(all)
	collected.Store(all[0].Value.Uint64())
	runtime.GC()
}

// errStopped is that of a program which was stopped by a signal, and killed, before it was executed.
var errStopped = errors.New("stopped by a signal before it began")

// fork executes the program. The caller is locked to its thread, and in forking.
func (l *launch) fork() {
	if !outlives.Load() {
		l.pid, l.err = syscall.ForkExec(l.path, l.argv, &l.attr)
		return
	}
	collection.RLock()
	killed := l.outlive(unix.Gettid())
	collection.RUnlock()
	if killed && l.err == nil {
		l.abandon(fmt.Errorf("start %s: %w", l.path, errStopped))
	}
}

// outlive forks, and reports whether the child of this thread had to be killed for it.
func (l *launch) outlive(tid int) (killed bool) {
	var mu sync.Mutex // guards over and killed
	var over bool
	var watch *time.Timer
	mu.Lock()
	watch = time.AfterFunc(stoppedTime, func() {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			killed = killStopped(tid) || killed
			watch.Reset(stoppedTime)
		}
	})
	mu.Unlock()
	l.pid, l.err = syscall.ForkExec(l.path, l.argv, &l.attr)
	watch.Stop()
	mu.Lock()
	defer mu.Unlock()
	over = true
	return killed
}

// killStopped kills the child that a thread has forked and that was stopped before it was
// executed, and reports whether there was one. It has the thread's name still, and has executed
// nothing, by which it differs from all that run.
func killStopped(tid int) (killed bool) {
	name, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/comm", tid))
	if err != nil {
		return false
	}
	for _, pid := range childrenOf(tid) {
		its, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		if err != nil || !bytes.Equal(its, name) {
			continue
		}
		stat, ok := readStat(pid)
		if ok && stat.number(9)&forkNoExec != 0 && strings.EqualFold(stat.text(3), "t") {
			killed = unix.Kill(pid, unix.SIGKILL) == nil || killed
		}
	}
	return killed
}

// childrenOf are those of a thread of ours, or all of ours where the kernel does not tell.
func childrenOf(tid int) (pids []int) {
	list, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", tid))
	if err != nil {
		return allChildren()[os.Getpid()]
	}
	for _, field := range bytes.Fields(list) {
		if pid, err := strconv.Atoi(string(field)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
