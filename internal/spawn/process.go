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

	ask   unix.Signal // what asks it to end
	owner *Local      // who knows of it until it is reaped

	rawPidfd, rawStderr int      // until Watch; the first is -1 where the kernel has none
	pidfd               *os.File // from then on, if there is one

	mu         sync.Mutex // guards the fields below
	terminated bool
	killed     bool
	kill       *time.Timer // not nil once terminated
	reaped     bool        // its pid may belong to somebody else
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

// AwaitExit returns when the program has exited; it is not reaped. Watch comes first.
func (p *Process) AwaitExit() {
	if rc, err := p.pidfd.SyscallConn(); err == nil {
		if rc.Read(func(uintptr) bool { return p.HasExited() }) == nil {
			return
		}
	}
	// Without a pidfd that can be waited for, this takes a thread.
	var info unix.Siginfo
	for unix.Waitid(unix.P_PID, p.PID, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// Terminate asks the program's process group to end, and kills it after grace.
// When the program has exited by itself, what is left of its group was meant to
// live on: only the waiting for output ends.
func (p *Process) Terminate(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.terminated || p.reaped:
	case p.HasExited():
		p.expireLocked(0)
	default:
		p.terminated = true
		p.signalLocked(p.ask)
		p.signalLocked(unix.SIGCONT) // a stopped one would not notice
		p.kill = time.AfterFunc(grace, p.Kill)
	}
}

// IsTerminated reports whether the program was asked to end. What is left of its
// process group has its grace then, and is killed after it.
func (p *Process) IsTerminated() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.terminated
}

// expireLocked ends the moving of input and output after d, whoever holds the
// other ends.
func (p *Process) expireLocked(d time.Duration) {
	if p.Stdin != nil {
		p.Stdin.SetWriteDeadline(time.Now().Add(d))
	}
	for _, o := range []*Output{p.Stdout, p.Stderr} {
		if o != nil {
			o.Expire(d)
		}
	}
}

// Kill ends the program's process group, or what the program has left of it.
// Output that somebody outside the group holds open is waited for no longer.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		p.killed = true
		p.signalLocked(unix.SIGKILL)
		p.expireLocked(lastWords)
	}
}

// signalLocked signals a program that was not reaped, and its process group,
// which it may have left.
func (p *Process) signalLocked(s unix.Signal) {
	unix.Kill(-p.PID, s)
	if group, err := unix.Getpgid(p.PID); err == nil && group != p.PID {
		unix.Kill(p.PID, s)
	}
}

// An Exit is how a program ended.
type Exit struct {
	Status     syscall.WaitStatus
	Usage      syscall.Rusage
	Terminated bool // it was asked to
}

// Code is the exit status as shells write it: 128 + signal for a program that one
// has killed.
func (e *Exit) Code() uint32 {
	if e.Status.Signaled() {
		return 128 + uint32(e.Status.Signal())
	}
	return uint32(e.Status.ExitStatus())
}

// Wait takes the exit status of a program that has exited, and forgets it. What
// is left of the process group of a terminated one is killed: it holds neither
// stdout nor stderr, and a pid that is reaped must not be signalled.
func (p *Process) Wait() (*Exit, error) {
	defer p.owner.remove(p)
	p.mu.Lock()
	defer p.mu.Unlock()
	e := &Exit{Terminated: p.terminated}
	if p.terminated {
		p.signalLocked(unix.SIGKILL)
		p.kill.Stop()
	}
	var err error
	for {
		_, err = syscall.Wait4(p.PID, &e.Status, 0, &e.Usage)
		if err != syscall.EINTR {
			break
		}
	}
	p.reaped = true
	if p.pidfd != nil {
		p.pidfd.Close()
	} else {
		unix.Close(p.rawPidfd)
	}
	if err != nil {
		return e, fmt.Errorf("wait for pid %d: %w", p.PID, err)
	}
	return e, nil
}
