package daemon

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/logtest"
)

// While a probe comes through, the watchdog is told in time; else it is not, and the log
// has where it stands still.
func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 30 * time.Second
		log, entries := logtest.New()
		stuck := make(chan chan struct{}, 1)
		var failing atomic.Bool
		var pings atomic.Int64
		w := &watchdog{limit: limit, log: log, ping: func() { pings.Add(1) },
			probe: func(ctx context.Context, at func(string)) error {
				at("the accept loop")
				select {
				case release := <-stuck:
					<-release
				default:
				}
				if failing.Load() {
					return errors.New("no")
				}
				return nil
			}}
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() { defer close(over); w.run(ctx) }()

		time.Sleep(time.Hour + time.Second)
		if n := pings.Load(); n != 361 { // every ten seconds
			t.Errorf("%d pings in an hour", n)
		}
		release := make(chan struct{})
		stuck <- release
		time.Sleep(time.Hour)
		if n := pings.Load(); n != 361 {
			t.Errorf("%d pings while it was stuck", n-361)
		}
		if got := entries.Of("the daemon stands still, and the watchdog is not told that it moves"); len(got) != 1 || got[0].Fields["at"] != "the accept loop" {
			t.Errorf("the log has %v", got)
		}
		close(release)
		time.Sleep(time.Minute)
		if n := pings.Load(); n < 366 {
			t.Errorf("%d pings after it was stuck", n-361)
		}

		n := pings.Load()
		failing.Store(true)
		time.Sleep(time.Minute)
		if pings.Load() != n {
			t.Error("pings of a probe that failed")
		}
		cancel()
		<-over
	})
}

// Nobody watches, nobody is woken.
func TestWatchdogLimit(t *testing.T) {
	for _, test := range []struct {
		usec, socket string
		want         time.Duration
	}{
		{"", "/run/notify", 0}, {"0", "/run/notify", 0}, {"x", "/run/notify", 0}, {"30000000", "", 0},
		{"30000000", "/run/notify", 30 * time.Second},
	} {
		t.Setenv("WATCHDOG_USEC", test.usec)
		t.Setenv("NOTIFY_SOCKET", test.socket)
		if got := watchdogLimit(); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
