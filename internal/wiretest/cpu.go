package wiretest

import (
	"syscall"
	"testing"
)

// CPUTime reports what each operation of a benchmark takes of all CPUs together, from now
// until done is called: what else runs on the machine is not in it.
func CPUTime(b *testing.B) (done func()) {
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	return func() {
		syscall.Getrusage(syscall.RUSAGE_SELF, &after)
		used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
		b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/op")
	}
}
