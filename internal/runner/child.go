package runner

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
)

// linger is how long output is still taken once the script has exited: a
// grandchild may hold the pipe for ever.
const linger = 100 * time.Millisecond

// A child is a running program, the leader of its own process group. It is
// waited for through a pidfd, so that waiting takes no thread.
type child struct {
	pid    int
	stdin  *os.File       // nil for /dev/null, and for input that it was given at its start
	stdout *os.File       // nil for /dev/null
	ask    unix.Signal    // what asks it to end; 0 is TERM
	pumps  sync.WaitGroup // goroutines that move stdin and stderr, and wait for the exit

	inputErr error // of reading what is to be its stdin; written before pumps are done

	// Until register puts them into the runtime's poller.
	rawPidfd, rawStderr int // the first is -1 where the kernel has none
	// From then on.
	pidfd, stderr *os.File // nil before, and a pidfd that there is none of

	mu           sync.Mutex // guards the fields below
	terminated   bool
	kill         *time.Timer // not nil once terminated
	lingering    bool        // there is a time after which output is waited for no longer
	until        time.Time   // that time
	inputDropped bool        // its stdin is not wanted any more
	reaped       bool        // its pid may belong to somebody else
}

// hasExited reports whether the child has exited. It is not reaped by this: its
// pid stays its own, so the process group can be signalled.
func (c *child) hasExited() bool {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err != nil || info.Signo != 0
		}
	}
}

// register lets the child's exit and its STDERR be waited for. It is called once.
func (c *child) register() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pidfd, c.stderr = ourFile(c.rawPidfd, "pidfd"), ourFile(c.rawStderr, "stderr")
	if c.lingering {
		c.stderr.SetReadDeadline(c.until)
	}
}

// isOver reports whether the child has exited and left nothing of STDERR to read
// nor anybody who writes to it. Then that is closed; register must not have been called.
func (c *child) isOver() bool {
	fds := [...]unix.PollFd{{Fd: int32(c.rawStderr), Events: unix.POLLIN}, {Fd: int32(c.rawPidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds[:], 0); err != nil || n < 2 || fds[0].Revents != unix.POLLHUP || fds[1].Revents&unix.POLLIN == 0 {
		return false
	}
	unix.Close(c.rawStderr)
	return true
}

// awaitExit returns when the child has exited; it is not reaped.
func (c *child) awaitExit() {
	if rc, err := c.pidfd.SyscallConn(); err == nil {
		if rc.Read(func(uintptr) bool { return c.hasExited() }) == nil {
			return
		}
	}
	// Without a pidfd that can be waited for, this takes a thread.
	var info unix.Siginfo
	for unix.Waitid(unix.P_PID, c.pid, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}

// exited is called when the child has exited. Output is taken for a short while
// longer, unless it was asked to end: then its group has its grace.
func (c *child) exited(req *protocol.Request) {
	if req.Exited != nil {
		req.Exited()
	}
	c.dropInput(req.Stdin)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.terminated {
		c.lingerLocked(linger)
	}
}

// lingerLocked ends the moving of input and output after d, whoever holds the
// other ends. What is in the pipes by then is still delivered.
func (c *child) lingerLocked(d time.Duration) {
	c.lingering, c.until = true, time.Now().Add(d)
	c.stdout.SetReadDeadline(c.until)
	if c.stderr != nil {
		c.stderr.SetReadDeadline(c.until)
	}
	if c.stdin != nil {
		c.stdin.SetWriteDeadline(c.until)
	}
}

// isLate reports whether err, of moving output, tells that lingering is over.
// The other side may have deadlines of its own.
func (c *child) isLate(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lingering && errors.Is(err, os.ErrDeadlineExceeded)
}

// deliver writes the child's output to w until all of its writers are gone, or
// lingering is over.
func (c *child) deliver(w io.Writer) error {
	defer c.stdout.Close()
	var err error
	if to, ok := w.(io.ReaderFrom); ok {
		_, err = to.ReadFrom(c.stdout)
	} else {
		_, err = io.Copy(w, c.stdout)
	}
	if c.isLate(err) {
		return rest(c.stdout, w)
	}
	return err
}

// rest writes to w what is in the pipe f now, and waits for no more: when the
// one who takes it is slow, that is much of what the child wrote before its exit.
func rest(f *os.File, w io.Writer) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	left := 0
	rc.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	buf := make([]byte, min(left, 32<<10))
	for left > 0 && err == nil {
		n := 0
		rc.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf[:min(left, len(buf))]) })
		switch {
		case err == unix.EINTR:
			err = nil
		case err == nil && n == 0:
			return nil
		case err == nil:
			left -= n
			_, err = w.Write(buf[:n])
		}
	}
	return err
}

// feed writes r to the child's stdin. That the child reads none of it, or not
// all, is no error; but if r breaks, the child must not take a part for the
// whole, so it is terminated before its stdin ends.
func (c *child) feed(r io.Reader, grace time.Duration) {
	defer c.stdin.Close()
	in := pipeWriter{file: c.stdin}
	_, err := io.Copy(&in, r)
	if c.dropInput(r) || err == nil || in.broken {
		return
	}
	c.inputErr = fmt.Errorf("read stdin: %w", err)
	c.terminate(grace)
}

// dropInput lets go of what was to be the child's stdin. It reports whether
// that had been done.
func (c *child) dropInput(r io.Reader) bool {
	c.mu.Lock()
	before := c.inputDropped
	c.inputDropped = true
	c.mu.Unlock()
	if input, ok := r.(io.Closer); ok && !before {
		input.Close()
	}
	return before
}

// A pipeWriter remembers that the error of a copy was its own.
type pipeWriter struct {
	file   *os.File
	broken bool
}

// Write writes to the pipe.
func (w *pipeWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.broken = err != nil
	return n, err
}

// Pipe is the pipe, for a Stdin that can write to its descriptor.
func (w *pipeWriter) Pipe() (syscall.RawConn, error) { return w.file.SyscallConn() }

// terminate asks the child's process group to end, and kills it after grace.
// When the child has exited by itself, what is left of its group was meant to
// live on: only the waiting for output ends.
func (c *child) terminate(grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.terminated || c.reaped:
	case c.hasExited():
		c.lingerLocked(0)
	default:
		c.terminated = true
		c.signalLocked(cmp.Or(c.ask, unix.SIGTERM))
		c.signalLocked(unix.SIGCONT) // a stopped one would not notice
		c.kill = time.AfterFunc(grace, c.killGroup)
	}
}

// killGroup ends the child's process group. Output that somebody outside the
// group holds open is waited for no longer.
func (c *child) killGroup() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		c.signalLocked(unix.SIGKILL)
		c.lingerLocked(linger)
	}
}

// signalLocked signals a child that was not reaped, and its process group,
// which it may have left.
func (c *child) signalLocked(s unix.Signal) {
	unix.Kill(-c.pid, s)
	if group, err := unix.Getpgid(c.pid); err == nil && group != c.pid {
		unix.Kill(c.pid, s)
	}
}

// killRest ends what is left of the process group of a child that has exited.
func (c *child) killRest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.signalLocked(unix.SIGKILL)
	c.lingerLocked(linger)
}

// An exit is how a child ended.
type exit struct {
	status     syscall.WaitStatus
	usage      syscall.Rusage
	terminated bool // it was asked to
}

// reap waits for the pumps, and so for the exit, and takes the exit status. What
// is left of the process group of a terminated child is killed: it holds neither
// stdout nor stderr, and a pid that is reaped must not be signalled.
func (c *child) reap() (*exit, error) {
	c.pumps.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &exit{terminated: c.terminated}
	if c.terminated {
		c.signalLocked(unix.SIGKILL)
		c.kill.Stop()
	}
	var err error
	for {
		_, err = syscall.Wait4(c.pid, &e.status, 0, &e.usage)
		if err != syscall.EINTR {
			break
		}
	}
	c.reaped = true
	if c.pidfd != nil {
		c.pidfd.Close()
	} else {
		unix.Close(c.rawPidfd)
	}
	if err != nil {
		return e, fmt.Errorf("wait for pid %d: %w", c.pid, err)
	}
	return e, nil
}

// appStatus is a program's exit status as shells write it.
func (e *exit) appStatus() uint32 {
	if e.status.Signaled() {
		return 128 + uint32(e.status.Signal())
	}
	return uint32(e.status.ExitStatus())
}

// ExitReasons are all that Hooks.Exited is called with.
var ExitReasons = []string{exitSuccess, exitFailure, exitSignal, exitTerminated}

const (
	exitSuccess    = "success"    // exit status 0
	exitFailure    = "failure"    // another one
	exitSignal     = "signal"     // killed by one that was not ours
	exitTerminated = "terminated" // asked to end, since its request has
)

// reason names why a program exited, for a metric.
func (e *exit) reason() string {
	switch {
	case e.terminated:
		return exitTerminated
	case e.status.Signaled():
		return exitSignal
	case e.status.ExitStatus() != 0:
		return exitFailure
	}
	return exitSuccess
}
