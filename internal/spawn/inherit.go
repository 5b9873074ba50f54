package spawn

import (
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CleanInheritance sees to it that what this process was started with does not
// reach the programs that it starts: open descriptors, ignored and blocked
// signals. A signal mask belongs to a thread and the runtime has several by now,
// so a mask is got rid of by starting anew, to which the descriptors in keep go along.
func CleanInheritance(keep ...int) error {
	resetIgnored()
	if ownThreads.Load() {
		leaveToKernel()
	}
	if err := closeOnExec(); err != nil {
		return fmt.Errorf("close inherited descriptors: %w", err)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var none, mask unix.Sigset_t
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &none, &mask); err != nil {
		return fmt.Errorf("unblock signals: %w", err)
	}
	if mask == none {
		return nil
	}
	keepPassedSockets()
	for _, fd := range keep {
		unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start anew: %w", err)
	}
	return fmt.Errorf("start anew: %w", syscall.Exec(self, os.Args, os.Environ()))
}

// closeOnExec marks all descriptors from 3 on. close_range(2) does that at once, but
// not everywhere: it is of Linux 5.9 and its flag of 5.11, and a container's profile
// that is older than it refuses it.
func closeOnExec() error {
	if unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		// The folder's own was listed too, and is closed.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil && err != unix.EBADF {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	return nil
}

// keepPassedSockets takes close-on-exec off the sockets of systemd's socket
// activation, and off what another daemon has handed over, for the one exec that is not meant to lose them.
func keepPassedSockets() {
	if initFD() >= 0 {
		unix.FcntlInt(uintptr(initFD()), unix.F_SETFD, 0)
	}
	for _, fd := range successorFDs() {
		unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	}
	if os.Getenv("LISTEN_PID") != fmt.Sprint(os.Getpid()) {
		return
	}
	var n int
	fmt.Sscan(os.Getenv("LISTEN_FDS"), &n)
	for fd := 3; fd < 3+n; fd++ {
		unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	}
}

// resetIgnored gives signals that this process was started to ignore their
// default action: unlike a handler, ignoring is inherited by programs
// (execve(2)). The runtime leaves some of them as they were, and has no call for
// this. HUP and INT are the commands' own business.
func resetIgnored() {
	ignored := ignoredSignals()
	for n := range signals {
		s := syscall.Signal(n + 1)
		if ignored>>n&1 == 0 || s == syscall.SIGHUP || s == syscall.SIGINT {
			continue
		}
		setDefault(s)
	}
}

// setDefault gives a signal its default action, and tells nobody.
func setDefault(s syscall.Signal) {
	var dfl struct{ handler, flags, restorer, mask uintptr } // the kernel's sigaction: SIG_DFL
	syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(s), uintptr(unsafe.Pointer(&dfl)), 0, unsafe.Sizeof(dfl.mask), 0, 0)
}

// leaveToKernel has the kernel do with signals that mean nothing to us what it does by default.
// The runtime catches all that it can: so each program that exits wakes a thread, to hear of a
// SIGCHLD and do nothing, and each child that is forked has to reset what is caught before it
// executes a program, by a system call a signal. What the runtime is told to ignore it takes
// for nothing to reset, and so, from then on, what is ignored no more.
//
// A real-time signal ends the process then. Who may send one may end it by others too.
func leaveToKernel() {
	for s := range signals + 1 {
		if s := syscall.Signal(s); s == unix.SIGCHLD || s == unix.SIGWINCH || s >= firstRealTime {
			signal.Ignore(s)
			setDefault(s)
		}
	}
}

const (
	signals       = 64
	firstRealTime = 35 // of those that no library takes for itself (signal(7))
)

// ignoredSignals is a mask as /proc has it: bit 0 is signal 1.
func ignoredSignals() (mask uint64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			mask, _ = strconv.ParseUint(strings.TrimSpace(text), 16, 64)
		}
	}
	return mask
}
