package spawn

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// linger is how long output is still taken once a program was killed: somebody
// who has left its process group may hold the pipe for ever.
const linger = 100 * time.Millisecond

// A Process is a program that runs, the leader of its own process group. It is
// waited for through a pidfd, so that waiting takes no thread. Who has started it
// closes Stdin, takes STDOUT and STDERR to their ends, and then calls Wait.
type Process struct {
	PID int
	// Stdin is nil where the program has none, or was given all of it at its start.
	Stdin *os.File

	stdout *os.File    // nil for /dev/null
	ask    unix.Signal // what asks it to end
	owner  *Local      // who knows of it until it is reaped

	// Until Watch puts them into the runtime's poller.
	rawPidfd, rawStderr int // the first is -1 where the kernel has none
	// From then on.
	pidfd, stderr *os.File // nil before, and a pidfd that there is none of

	mu         sync.Mutex // guards the fields below
	terminated bool
	kill       *time.Timer // not nil once terminated
	lingering  bool        // there is a time after which output is waited for no longer
	until      time.Time   // that time
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
	p.pidfd, p.stderr = ourFile(p.rawPidfd, "pidfd"), ourFile(p.rawStderr, "stderr")
	if p.lingering {
		p.stderr.SetReadDeadline(p.until)
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

// Linger is called when the program has exited. Output is taken for d longer,
// unless the program was asked to end: then its process group has its grace.
func (p *Process) Linger(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminated {
		p.lingerLocked(d)
	}
}

// lingerLocked ends the moving of input and output after d, whoever holds the
// other ends. What is in the pipes by then is still delivered.
func (p *Process) lingerLocked(d time.Duration) {
	p.lingering, p.until = true, time.Now().Add(d)
	p.stdout.SetReadDeadline(p.until)
	if p.stderr != nil {
		p.stderr.SetReadDeadline(p.until)
	}
	if p.Stdin != nil {
		p.Stdin.SetWriteDeadline(p.until)
	}
}

// isLate reports whether err, of moving output, tells that lingering is over.
// The other side may have deadlines of its own.
func (p *Process) isLate(err error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lingering && errors.Is(err, os.ErrDeadlineExceeded)
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
		p.lingerLocked(0)
	default:
		p.terminated = true
		p.signalLocked(p.ask)
		p.signalLocked(unix.SIGCONT) // a stopped one would not notice
		p.kill = time.AfterFunc(grace, p.Kill)
	}
}

// Kill ends the program's process group, or what the program has left of it.
// Output that somebody outside the group holds open is waited for no longer.
func (p *Process) Kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		p.signalLocked(unix.SIGKILL)
		p.lingerLocked(linger)
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
