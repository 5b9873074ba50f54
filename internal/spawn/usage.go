package spawn

import (
	"os"
	"time"
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
