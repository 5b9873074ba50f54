package main

import (
	"fmt"
	"math"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// cleanInheritance sees to it that what this process was started with does not
// reach the programs that it starts: open descriptors, ignored and blocked
// signals. A signal mask belongs to a thread and the runtime has several by now,
// so a mask is got rid of by starting anew.
func cleanInheritance() error {
	handleIgnored()
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil && err != unix.ENOSYS {
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
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("start anew: %w", err)
	}
	return fmt.Errorf("start anew: %w", syscall.Exec(self, os.Args, os.Environ()))
}

// keepPassedSockets takes close-on-exec off the sockets of systemd's socket
// activation, for the one exec that is not meant to lose them.
func keepPassedSockets() {
	if os.Getenv("LISTEN_PID") != fmt.Sprint(os.Getpid()) {
		return
	}
	var n int
	fmt.Sscan(os.Getenv("LISTEN_FDS"), &n)
	for fd := 3; fd < 3+n; fd++ {
		unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	}
}

// handleIgnored catches, and drops, the signals that this process was started to
// ignore. Ignoring is inherited by programs; catching is not (execve(2)).
func handleIgnored() {
	var ignored uint64
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			ignored, _ = strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
		}
	}
	dropped := make(chan os.Signal, 1)
	for n := range 64 {
		if ignored>>n&1 == 1 {
			signal.Notify(dropped, syscall.Signal(n+1))
		}
	}
}
