package spawn

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// LandlockABI is landlockABI.
func LandlockABI() int { return landlockABI() }

// LandlockScopesSignals is landlockScopesSignals of this kernel.
func LandlockScopesSignals() bool { return landlockScopesSignals(landlockABI()) }

// RefuseTrace has ptrace refused until the test ends.
func RefuseTrace(t *testing.T) {
	before := canTrace
	canTrace = func() error { return unix.EPERM }
	t.Cleanup(func() { canTrace = before })
}

// SetRestTime has programs that share a socket be asked to leave after d at the latest, until
// the test ends.
func SetRestTime(t *testing.T, d time.Duration) {
	before := restTime
	restTime = d
	t.Cleanup(func() { restTime = before })
}

// OwnAllThreads has programs forked by any thread until the test ends.
func OwnAllThreads(t *testing.T) {
	ownThreads.Store(true)
	t.Cleanup(func() { ownThreads.Store(false) })
}

// NoDaemonNeeds are the system calls that RefuseCalls refuses whatever their arguments are.
func NoDaemonNeeds() []uint32 { return noDaemonNeeds }

// NewestCall is newestCall.
const NewestCall = newestCall

// LongMode32 is a program that makes a system call of 32-bit x86.
func LongMode32(t *testing.T) (name string) {
	return programOf(t, func(a *assembler) {
		a.load(0xb8, 20)   // mov eax, 20: getpid
		a.emit(0xcd, 0x80) // int 0x80
		a.argument1(0)
		a.systemCall(unix.SYS_EXIT_GROUP)
	})
}

// Outlive is OutliveStops until the test ends.
func Outlive(t *testing.T) {
	processors := runtime.GOMAXPROCS(cap(forking) + 1)
	percent := debug.SetGCPercent(-1)
	outlives.Store(true)
	t.Cleanup(func() {
		outlives.Store(false)
		debug.SetGCPercent(percent)
		runtime.GOMAXPROCS(processors)
	})
}

// Garbage makes as much of it as is worth to be collected.
func Garbage() {
	for range someGarbage >> 16 {
		garbage = make([]byte, 1<<16)
	}
}

var garbage []byte
