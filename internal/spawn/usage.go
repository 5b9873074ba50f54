package spawn

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxDescendants bounds how many processes are looked at for one program.
const maxDescendants = 1000

// clockTicks is how many ticks a second has: USER_HZ, the same everywhere.
const clockTicks = 100

// Usage is the CPU time and the resident memory of a process and its
// descendants, those that have ended included in its time (proc(5)).
func Usage(pid int) (cpu time.Duration, rss int64) {
	l := look{found: make(map[int]task)}
	pids := []int{pid}
	for i := 0; i < len(pids) && i < maxDescendants; i++ {
		stat, ok := readStat(pids[i])
		if !ok {
			continue
		}
		ticks := stat.number(14) + stat.number(15) + stat.number(16) + stat.number(17)
		cpu += time.Duration(ticks) * (time.Second / clockTicks)
		rss += int64(stat.number(24)) * int64(os.Getpagesize())
		pids = append(pids, l.children(pids[i])...)
	}
	return cpu, rss
}

// Clock is the CPU time that a process of that pid has used, user and system, without its
// children's, to the nanosecond. It is 0 if there is none.
func Clock(pid int) time.Duration {
	const cpuClockSched = 2 // MAKE_PROCESS_CPUCLOCK of linux/posix-timers.h, as in clock_getcpuclockid(3)
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|cpuClockSched, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
