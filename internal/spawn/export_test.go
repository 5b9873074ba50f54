package spawn

import (
	"testing"

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
