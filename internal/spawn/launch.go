package spawn

import (
	"runtime"
	"sync"
	"syscall"
)

// A launch is a program to be executed by a launcher.
type launch struct {
	argv []string
	attr syscall.ProcAttr
	sys  syscall.SysProcAttr
	done chan struct{} // has room for one

	// Written before done is sent to.
	pid, pidfd int
	err        error
}

var launches = sync.Pool{New: func() any { return &launch{done: make(chan struct{}, 1)} }}

// launchers are goroutines that fork, each locked to a thread of its own, and never
// end: a program dies with the thread that has forked it (PR_SET_PDEATHSIG in
// prctl(2)), and the threads of other goroutines are not ours to keep. There are as
// many as can run at once, since each waits until its program is executed.
var launchers = sync.OnceValue(func() chan<- *launch {
	queue := make(chan *launch)
	for range runtime.GOMAXPROCS(0) {
		go launchAll(queue)
	}
	return queue
})

func launchAll(queue <-chan *launch) {
	runtime.LockOSThread()
	for l := range queue {
		l.pid, l.err = syscall.ForkExec(l.argv[0], l.argv, &l.attr)
		l.done <- struct{}{}
	}
}

// forkExec has a launcher execute the command with those descriptors.
func (c *Command) forkExec(files []uintptr) (pid, pidfd int, err error) {
	l := launches.Get().(*launch)
	defer launches.Put(l)
	l.argv, l.pidfd = c.Argv, -1
	l.sys = syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, PidFD: &l.pidfd}
	l.attr = syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Files: files, Sys: &l.sys}
	launchers() <- l
	<-l.done
	l.argv, l.attr = nil, syscall.ProcAttr{}
	return l.pid, l.pidfd, l.err
}
