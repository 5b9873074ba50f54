package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fcgid/fcgid/internal/admin"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/plural"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/status"
)

// pollTime is how often an order that waits looks whether it has come to its end. There
// are few such orders, and looking costs some locks.
const pollTime = 50 * time.Millisecond

var errStopping = errors.New("the daemon is stopping")

// Do carries out an order of the control socket. It is called by many goroutines: what
// only one may do is handed to the goroutine of untilStopped, one order after the
// other. What has begun goes on when ctx ends, and nobody waits for it then.
func (d *daemon) Do(ctx context.Context, by admin.Peer, o status.Order) status.Reply {
	if o.Verb != status.VerbKill && d.IsStopping() {
		return status.Reply{Error: errStopping.Error()}
	}
	if o.Timeout > 0 && o.Verb != status.VerbUpgrade { // which has its own
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Limit(), fmt.Errorf("not done within %v", o.Timeout))
		defer cancel()
	}
	carryOut := map[string]func(context.Context, admin.Peer, status.Order) status.Reply{
		status.VerbReload: d.orderReload, status.VerbDiff: d.orderDiff, status.VerbKill: d.orderKill,
		status.VerbDrain: d.orderDrain, status.VerbPause: d.orderGate, status.VerbResume: d.orderGate,
		status.VerbUpgrade: d.orderUpgrade, status.VerbRecycle: d.orderRecycle, status.VerbScale: d.orderScale,
	}[o.Verb]
	if carryOut == nil {
		return status.Reply{Error: fmt.Sprintf("unknown verb %q", o.Verb)}
	}
	return carryOut(ctx, by, o)
}

// tell logs what somebody has ordered, and what has become of it.
func (d *daemon) tell(by admin.Peer, verb string, err error, fields ...any) {
	fields = append([]any{"verb", verb, "uid", by.UID, "by_pid", by.PID}, fields...)
	if err != nil {
		d.logs.Warn("order refused", append(fields, "error", err)...)
		return
	}
	d.logs.Info("order", fields...)
}

// inTurn has f called by the goroutine that reloads, and returns when it was, or when nobody
// waits for it any more once it is its turn.
func (d *daemon) inTurn(ctx context.Context, by admin.Peer, f func()) error {
	done := make(chan error, 1)
	turn := func() {
		if by.HasLeft() {
			done <- admin.ErrLeft
			return
		}
		f()
		done <- nil
	}
	select {
	case d.orders <- turn:
		return <-done
	case <-d.ending:
		return errStopping
	case <-ctx.Done():
		return fmt.Errorf("another order is being carried out: %w", context.Cause(ctx))
	}
}

// await waits until nothing is left of what look looks for, or nothing more can come of it.
func (d *daemon) await(ctx context.Context, look func() (left []string, hopeless bool)) []string {
	ticker := time.NewTicker(pollTime)
	defer ticker.Stop()
	for {
		left, hopeless := look()
		if len(left) == 0 || hopeless {
			return left
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return append(left, context.Cause(ctx).Error())
		case <-d.ending:
			return append(left, errStopping.Error())
		}
	}
}

func (d *daemon) orderReload(ctx context.Context, by admin.Peer, o status.Order) (reply status.Reply) {
	turnErr := d.inTurn(ctx, by, func() {
		changes, err := d.reload(context.Background())
		d.tell(by, o.Verb, err, "file", d.opt.File)
		reply = refusal(err)
		reply.Changes = changes
	})
	if turnErr != nil {
		d.tell(by, o.Verb, turnErr)
		reply = refusal(turnErr)
	}
	if reply.Error != "" {
		reply.Error = "refused, the old configuration stays: " + reply.Error
	}
	if reply.Changes == nil {
		return reply
	}
	pools := reply.Changes.Pools
	reply.Left = d.await(ctx, func() ([]string, bool) { return d.unconverged(pools) })
	for i := range pools {
		if w := pools[i].Workers; w != nil {
			w.Replaced = w.Of - min(w.Of, d.pools.Progress(pools[i].Name).Outdated)
		}
	}
	return reply
}

func refusal(err error) status.Reply {
	var faults config.Faults
	switch {
	case err == nil:
		return status.Reply{}
	case errors.As(err, &faults):
		return status.Reply{Faults: strings.Split(faults.Error(), "\n")}
	}
	return status.Reply{Error: err.Error()}
}

// unconverged tells which of the pools have not come to what they are to be, and why.
// It is hopeless once workers of all that are left cannot be started.
func (d *daemon) unconverged(pools []status.PoolChange) (left []string, hopeless bool) {
	hopeless = true
	for _, p := range pools {
		progress := d.pools.Progress(p.Name)
		isNew := p.Change == status.Added || p.Change == status.Changed || p.Workers != nil
		if progress.IsDone() || !isNew && progress.Outdated == 0 {
			continue
		}
		text := fmt.Sprintf("pool %s: no worker has started yet", p.Name)
		if n := progress.Outdated; n > 0 {
			text = fmt.Sprintf("pool %s: %s not replaced yet", p.Name, plural.Of(n, "worker"))
		}
		if progress.Failing != "" {
			text += ": workers cannot be started: " + progress.Failing
		}
		hopeless = hopeless && progress.Failing != ""
		left = append(left, text)
	}
	return left, hopeless
}

func (d *daemon) orderDiff(ctx context.Context, by admin.Peer, _ status.Order) (reply status.Reply) {
	err := d.inTurn(ctx, by, func() {
		defer d.abortSpawner()
		changes := &status.Changes{File: d.file}
		cfg, err := d.load()
		if err == nil {
			changes = d.changes(cfg)
			changes.Opens, err = d.try(ctx, cfg)
		}
		reply = refusal(err)
		reply.Changes = changes
	})
	if err != nil {
		return refusal(err)
	}
	return reply
}

// changes are what a configuration would change.
func (d *daemon) changes(cfg *config.Config) *status.Changes {
	changes := d.pools.Diff(cfg)
	changes.File = d.file
	return &changes
}

// addRolls says how many workers the configuration that is in force now replaces.
func (d *daemon) addRolls(changes *status.Changes, cfg *config.Config) {
	for i := range changes.Pools {
		c := &changes.Pools[i]
		pool := cfg.Named(c.Name)
		if pool == nil || pool.Worker == nil || c.Change == status.Added || c.Change == status.Unchanged && pool.Worker.Reload != "always" {
			continue
		}
		if n := d.pools.Replaces(c.Name); n > 0 {
			c.Workers = &status.Roll{Of: n}
		}
	}
}

func (d *daemon) orderKill(_ context.Context, by admin.Peer, o status.Order) (reply status.Reply) {
	for _, id := range o.IDs {
		reply.Killed = append(reply.Killed, d.killOne(by, id))
	}
	return reply
}

// orderGate has a pool take requests or not; it waits for nothing.
func (d *daemon) orderGate(_ context.Context, by admin.Peer, o status.Order) status.Reply {
	gate, text := server.GateOpen, "takes requests"
	switch {
	case o.Verb == status.VerbPause, o.Queue:
		gate, text = server.GateHold, "starts no request: they wait in its queue"
	case o.Verb == status.VerbDrain:
		gate, text = server.GateRefuse, "takes no requests: they get 503"
	}
	err := d.pools.SetGate(o.Pool, gate)
	d.tell(by, o.Verb, err, "pool", o.Pool, "queue", gate == server.GateHold)
	if err != nil {
		return refusal(err)
	}
	return status.Reply{Text: "pool " + o.Pool + " " + text}
}

// orderDrain waits until a pool has no request any more; with a queue until it runs
// none, and what waits waits on.
func (d *daemon) orderDrain(ctx context.Context, by admin.Peer, o status.Order) (reply status.Reply) {
	switch {
	case o.Notice > status.MaxNotice:
		return status.Reply{Error: fmt.Sprintf("a notice of %v: no more than %v may be given", o.Notice, status.MaxNotice)}
	case o.Notice > 0:
		reply = d.drainByNotice(by, o)
	default:
		reply = d.orderGate(ctx, by, o)
	}
	if reply.Error != "" {
		return reply
	}
	reply.Left = d.await(ctx, func() (left []string, _ bool) {
		running, queued := d.pools.Busy(o.Pool)
		if o.Queue {
			queued = 0
		}
		if running+queued > 0 {
			left = []string{fmt.Sprintf("pool %s: requests running %d, waiting %d", o.Pool, running, queued)}
		}
		return left, false
	})
	return reply
}

// drainByNotice has a pool say that it is not ready, so that load balancers look elsewhere,
// and take no requests when the notice is over. It goes on when nobody waits for it.
func (d *daemon) drainByNotice(by admin.Peer, o status.Order) status.Reply {
	err := d.pools.SetGate(o.Pool, server.GateLeave)
	d.tell(by, o.Verb, err, "pool", o.Pool, "notice", o.Notice)
	if err != nil {
		return refusal(err)
	}
	if err = d.passNotice(o); err == nil {
		err = d.pools.Refuse(o.Pool)
	}
	d.tell(by, o.Verb, err, "pool", o.Pool)
	if err != nil {
		return refusal(err)
	}
	return status.Reply{Text: "pool " + o.Pool + " takes no requests: they get 503"}
}

// passNotice waits until the notice is over, or another order has ended it.
func (d *daemon) passNotice(o status.Order) error {
	over := time.After(o.Notice)
	ticker := time.NewTicker(pollTime)
	defer ticker.Stop()
	for d.pools.IsLeaving(o.Pool) {
		select {
		case <-over:
			return nil
		case <-ticker.C:
		case <-d.ending:
			return errStopping
		}
	}
	return nil // and Refuse says so
}

func (d *daemon) orderRecycle(ctx context.Context, by admin.Peer, o status.Order) status.Reply {
	var workers int
	var err error
	turnErr := d.inTurn(ctx, by, func() { workers, err = d.pools.Recycle(o.Pool) })
	if turnErr != nil {
		err = turnErr
	}
	d.tell(by, o.Verb, err, "pool", o.Pool, "workers", workers)
	if err != nil {
		return refusal(err)
	}
	reply := status.Reply{Workers: &status.Roll{Of: workers}}
	pools := []status.PoolChange{{Name: o.Pool, Change: status.Changed}}
	reply.Left = d.await(ctx, func() ([]string, bool) { return d.unconverged(pools) })
	reply.Workers.Replaced = workers - min(workers, d.pools.Progress(o.Pool).Outdated)
	return reply
}

func (d *daemon) orderScale(ctx context.Context, by admin.Peer, o status.Order) status.Reply {
	var key string
	var before int
	var err error
	turnErr := d.inTurn(ctx, by, func() { key, before, err = d.pools.Scale(o.Pool, o.N) })
	if turnErr != nil {
		err = turnErr
	}
	d.tell(by, o.Verb, err, "pool", o.Pool, "key", key, "before", before, "now", o.N)
	if err != nil {
		return refusal(err)
	}
	return status.Reply{Text: fmt.Sprintf("pool %s: %s is %d until the next reload (before: %d)", o.Pool, key, o.N, before)}
}
