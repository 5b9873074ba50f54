package spawn

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// restTime is how long a program with a shared socket is given to be at rest before it is
// asked to end in any case. Tests change it.
var restTime = time.Second

const (
	// restPause is how often it is looked at.
	restPause = time.Millisecond
	// stopTime is how long a program may take to be stopped.
	stopTime = 5 * time.Millisecond
)

// askLeader asks the program itself to end. One that has a socket of its own is asked when
// nothing is with it. Of one with a shared socket nobody knows: what it has accepted and not
// read yet it may drop when a signal has that read fail with EINTR, as libfcgi's programs do.
func (c *Child) askLeader(s unix.Signal) {
	if c.shared {
		c.askAtRest(s, time.Now().Add(restTime))
		return
	}
	c.ask(s, c.signalLeaderLocked)
}

// askAtRest asks when the signal has no system call fail but an accept, or when until is over.
func (c *Child) askAtRest(s unix.Signal, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	if time.Now().Before(until) && !c.restLocked() {
		unix.Kill(c.PID, unix.SIGCONT)
		time.AfterFunc(restPause, func() { c.askAtRest(s, until) })
		return
	}
	c.rememberLocked()
	c.signalLeaderLocked(s)
	unix.Kill(c.PID, unix.SIGCONT)
}

// restLocked stops the program where a signal does no harm, and reports whether it has: in an
// accept, which has nothing yet or returns what it has, or in no system call at all. Where the
// kernel does not tell, it is said to be so.
func (c *Child) restLocked() bool {
	if !isAtRest(c.PID) {
		return false
	}
	unix.Kill(c.PID, unix.SIGSTOP)
	for until := time.Now().Add(stopTime); !c.isStopped(); time.Sleep(stopTime / 50) {
		if time.Now().After(until) {
			return false
		}
	}
	return isAtRest(c.PID)
}

// isStopped reports whether the program is, or has exited.
func (c *Child) isStopped() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, c.PID, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil && err != unix.EINTR || info.Signo != 0
}

// atRest are the system calls that a signal may interrupt: those of who accepts, and of who waits
// for processes that do.
var atRest = []int{unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_WAIT4, unix.SYS_WAITID}

// isAtRest looks at what the first thread of a process does (proc_pid_syscall(5)).
func isAtRest(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", pid))
	if err != nil {
		return true
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	n, err := strconv.Atoi(first)
	return err != nil || n < 0 || slices.Contains(atRest, n) // "running" is no number
}
