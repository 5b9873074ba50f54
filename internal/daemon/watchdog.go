package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
)

// A watchdog tells whoever watches the daemon that it moves, each time that a probe has
// come through what requests go through. While one is stuck, nothing is told.
type watchdog struct {
	limit time.Duration // by which it is to be told again
	probe func(ctx context.Context, at func(what string)) error
	ping  func()
	log   *slog.Logger
}

// watchdogLimit is what systemd has set; 0 is nothing. WATCHDOG_PID is not looked at: where
// the daemon has been started by a process of its own, that one stands there, and whose
// word counts is the unit's NotifyAccess.
func watchdogLimit() time.Duration {
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || !isHeard() {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}

// startWatchdog begins, if anybody watches, and ends when stop is called. A probe that is
// stuck is not waited for.
func (d *daemon) startWatchdog() (stop func()) {
	limit := watchdogLimit()
	if limit == 0 {
		return func() {}
	}
	w := &watchdog{limit: limit, probe: d.pools.Probe, log: d.logs.Logger,
		ping: func() { d.notify(systemd.SdNotifyWatchdog) }}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { w.run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// run probes three times within the limit.
func (w *watchdog) run(ctx context.Context) {
	ticker := time.NewTicker(w.limit / 3)
	defer ticker.Stop()
	for {
		if err := w.through(ctx); err == nil {
			w.ping()
		} else if ctx.Err() == nil {
			w.log.Error("the daemon does not move, and the watchdog is not told that it does", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// through returns when a probe has, or ctx ends. When that takes long it says so.
func (w *watchdog) through(ctx context.Context) error {
	var where atomic.Value
	where.Store("")
	done := make(chan error, 1)
	go func() { done <- w.probe(ctx, func(what string) { where.Store(what) }) }()
	late := time.NewTimer(w.limit / 2)
	defer late.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				err = fmt.Errorf("%s: %w", where.Load(), err)
			}
			return err
		case <-late.C:
			w.log.Error("the daemon stands still, and the watchdog is not told that it moves", "at", where.Load(), "limit", w.limit)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
