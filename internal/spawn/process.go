package spawn

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgroup"
)

// lastWords is how long output is still taken once a program was killed: somebody
// who has left its process group may hold the pipe for ever.
const lastWords = 100 * time.Millisecond

// A Process is a program that runs, the leader of its own process group. It is
// waited for through a pidfd, so that waiting takes no thread. Who has started it
// closes Stdin, Stdout and Stderr, and calls Wait when it has exited.
type Process struct {
	PID int
	// Stdin is nil where the program has none, or was given all of it at its start.
	Stdin  *os.File
	Stdout *Output // nil for /dev/null
	Stderr *Output // nil until Watch

	out, err Output // what Stdout and Stderr are

	owner *Local        // who knows of it until it is reaped
	group *cgroup.Group // that it was born in; nil is ours
	team  *team         // whose thread has forked it

	socket string // that it listens on, as /proc/PID/fd has it; "" is none

	rawPidfd, rawStderr int      // until Watch; the first is -1 where the kernel has none
	pidfd               *os.File // from then on, if there is one

	mu         sync.Mutex  // guards the fields below
	ask        unix.Signal // what asks it to end
	leaving    bool        // it alone was asked to end
	terminated bool        // its process group was
	killed     bool
	givenUp    bool        // it cannot be signalled, and nobody waits for it
	wake       *time.Timer // not nil once leaving
	kill       *time.Timer // not nil once leaving or terminated
	killAt     time.Time   // when that comes
	reaped     bool        // its pid may belong to somebody else
	kin        []task      // its tree at the last look, without itself
}

// HasExited reports whether the program has exited. It is not reaped by this: its
// pid stays its own, so the process group can be signalled.
func (p *Process) HasExited() bool {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, p.PID, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err != nil || info.Signo != 0
		}
	}
}

// Watch lets the program's exit and its STDERR be waited for. It is called once.
func (p *Process) Watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pidfd = ourFile(p.rawPidfd, "pidfd")
	p.err.file = ourFile(p.rawStderr, "stderr")
	p.Stderr = &p.err
	if p.killed {
		p.Stderr.Expire(lastWords)
	}
	if p.givenUp {
		p.pidfd.SetReadDeadline(time.Unix(1, 0))
	}
}

// IsOver reports whether the program has exited and left nothing of STDERR to read
// nor anybody who writes to it. Then that is closed; Watch must not have been called.
func (p *Process) IsOver() bool {
	fds := [...]unix.PollFd{{Fd: int32(p.rawStderr), Events: unix.POLLIN}, {Fd: int32(p.rawPidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds[:], 0); err != nil || n < 2 || fds[0].Revents != unix.POLLHUP || fds[1].Revents&unix.POLLIN == 0 {
		return false
	}
	unix.Close(p.rawStderr)
	return true
}

// AwaitExit returns when the program has exited; it is not reaped. It returns false
// when the program has not, and was given up. Watch comes first.
func (p *Process) AwaitExit() bool {
	if rc, err := p.pidfd.SyscallConn(); err == nil {
		if rc.Read(func(uintptr) bool { return p.HasExited() }) == nil {
			return true
		}
	}
	if p.isGivenUp() {
		return p.HasExited()
	}
	// Without a pidfd that can be waited for, this takes a thread.
	var info unix.Siginfo
	for unix.Waitid(unix.P_PID, p.PID, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	return true
}

func (p *Process) isGivenUp() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.givenUp
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
	e := new(Exit)
	defer p.owner.remove(p)
	defer e.leaveGroup(p.group)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range []*time.Timer{p.wake, p.kill} {
		if t != nil {
			t.Stop()
		}
	}
	if p.pidfd != nil {
		defer p.pidfd.Close()
	} else {
		defer unix.Close(p.rawPidfd)
	}
	e.Terminated = p.terminated
	p.reaped = true
	if p.givenUp && !p.HasExited() {
		e.GivenUp = true
		p.owner.keep(p.PID, p.team)
		return e, nil
	}
	for {
		_, err := syscall.Wait4(p.PID, &e.Status, 0, &e.Usage)
		if err == nil {
			return e, nil
		}
		if err != syscall.EINTR {
			return e, fmt.Errorf("wait for pid %d: %w", p.PID, err)
		}
	}
}
