package spawn

import (
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
