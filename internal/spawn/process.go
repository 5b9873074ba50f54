package spawn

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lastWords is how long output is still taken once a program was killed: somebody
// who has left its process group may hold the pipe for ever.
const lastWords = 100 * time.Millisecond

// A Process is a program that runs, with our ends of its pipes, and the times after which
// it is to have ended. Who has started it closes Stdin, Stdout and Stderr, and calls Wait
// when it has exited.
type Process struct {
	PID int
	// Stdin is nil where the program has none, or was given all of it at its start.
	Stdin  *os.File
	Stdout *Output // nil for /dev/null
	Stderr *Output // nil until Watch

	program  Program // immutable
	out, err Output  // what Stdout and Stderr are

	mu         sync.Mutex  // guards the fields below
	rawStderr  int         // until Watch; -1 when it is closed. Who alone may call Watch may read it
	ask        unix.Signal // what asks it to end
	leaving    bool        // it alone was asked to end
	terminated bool        // its process group was
	killed     bool
	wake       *time.Timer // not nil once leaving
	kill       *time.Timer // not nil once leaving or terminated
	killAt     time.Time   // when that comes
	over       bool        // Wait was called: nothing is to be signalled
}

// HasExited reports whether the program has exited. It is not reaped by this: its
// pid stays its own, so the process group can be signalled.
func (p *Process) HasExited() bool { return p.program.HasExited() }

// Watch lets the program's exit and its STDERR be waited for. It is called once.
func (p *Process) Watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notePipesLocked()
	p.err.file = ourFile(p.rawStderr, "stderr")
	p.Stderr, p.rawStderr = &p.err, -1
	if p.killed {
		p.Stderr.Expire(lastWords)
	}
}

// WaitNow is Wait of a program that has exited and left nothing of STDERR to read nor anybody
// who writes to it: then that is closed. It reports false where that is not so, or the program
// was asked to end; Watch must not have been called, and is next.
func (p *Process) WaitNow() (e *Exit, isOver bool, err error) {
	fds := [...]unix.PollFd{{Fd: int32(p.rawStderr), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds[:], 0); err != nil || n < 1 || fds[0].Revents != unix.POLLHUP || !p.program.ExpectExit() {
		return nil, false, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminated {
		return nil, false, nil // what is left of its tree is killed first
	}
	if e, isOver, err = p.program.TryReap(); !isOver {
		return nil, false, nil
	}
	p.over = true
	unix.Close(p.rawStderr)
	p.rawStderr = -1
	return e, true, err
}

// AwaitExit returns when the program has exited; it is not reaped. It returns false
// when the program has not, and was given up. It is called once, after Watch.
func (p *Process) AwaitExit() bool { return p.program.AwaitExit() }

// notePipesLocked tells a program of ours which pipes are its own, while we have them: by these
// what it has started is found. Most programs are over before anybody looks.
func (p *Process) notePipesLocked() {
	c, isOurs := p.program.(*Child)
	if !isOurs || p.rawStderr < 0 {
		return // who has the program knows, or it was told
	}
	pipes := [2]uint64{p.out.inode(), inodeOf(uintptr(p.rawStderr))}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pipes = pipes
}

// An Exit is how a program ended.
type Exit struct {
	Status     syscall.WaitStatus
	Usage      syscall.Rusage
	Terminated bool // its process group was asked to
	GivenUp    bool // it has not: it cannot be signalled

	// OutOfMemory is which limit had the kernel kill it, or something that it has started:
	// one of cgroup.ByRequest, ByPool and ByMachine; "" is none, or not known.
	OutOfMemory string
	Full        bool // its cgroup has refused it a process or a thread
}

// OutOfMemoryError says that the kernel has killed the program itself for want of memory,
// and by which limit; nil is that it has not.
func (e *Exit) OutOfMemoryError() error {
	if e.OutOfMemory == "" || !e.Status.Signaled() {
		return nil
	}
	return fmt.Errorf("killed by the kernel: out of memory (%s)", e.OutOfMemory)
}

// Code is the exit status as shells write it: 128 + signal for a program that one
// has killed, and one that was given up.
func (e *Exit) Code() uint32 {
	if e.GivenUp {
		return 128 + uint32(unix.SIGKILL)
	}
	if e.Status.Signaled() {
		return 128 + uint32(e.Status.Signal())
	}
	return uint32(e.Status.ExitStatus())
}

// Wait takes the exit status of a program that has exited, or was given up, and
// forgets it. What is left of the tree of a terminated one is killed: it has neither
// stdout nor stderr, and a pid that is reaped must not be signalled.
func (p *Process) Wait() (*Exit, error) {
	if p.IsTerminated() {
		p.Kill()
	}
	terminated := p.stopTimes()
	return p.program.Reap(terminated)
}

// stopTimes has nothing be done to the program any more. It reports whether its process
// group was asked to end.
func (p *Process) stopTimes() (terminated bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for _, t := range []*time.Timer{p.wake, p.kill} {
		if t != nil {
			t.Stop()
		}
	}
	return p.terminated
}
