// Package polltest waits, in tests, for what is about to be so and tells nobody.
package polltest

import (
	"testing"
	"time"
)

// Until returns when a condition holds. It ends the test when that takes longer than a
// busy machine needs.
func Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("waited in vain for %s", what)
		}
	}
}
