package main

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// usage is what a server's processes have used so far.
type usage struct {
	// tree is the CPU time of all: the server, its workers, the programs that it
	// has started and waited for. Its unit is the kernel's tick of 10 ms.
	tree time.Duration
	// daemon is that of the server and its workers, without programs, exactly.
	daemon time.Duration
}

func (u usage) minus(v usage) usage { return usage{u.tree - v.tree, u.daemon - v.daemon} }

// usageOf measures the server whose first process is root. A descendant that runs
// the same binary is one of the server's own processes.
func usageOf(root int) usage {
	var u usage
	binary, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", root))
	for _, s := range tree(root) {
		u.tree += s.own + s.waited
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.pid))
		if err != nil || exe != binary {
			continue
		}
		if t, err := cpuTime(s.pid); err == nil {
			u.daemon += t
		}
	}
	return u
}

// cpuTime is the CPU time of a process with all its threads, in nanoseconds
// where the tick of /proc would be too coarse (clock_getcpuclockid(3)).
func cpuTime(pid int) (time.Duration, error) {
	const scheduler = 2 // CPUCLOCK_SCHED, of a whole process
	var t syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(^pid<<3|scheduler), uintptr(unsafe.Pointer(&t)), 0)
	if errno != 0 {
		return 0, errno
	}
	return time.Duration(t.Nano()), nil
}
