package server

import (
	"context"
	"errors"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// errGoexit is what a Runner comes to that ends its goroutine.
var errGoexit = &protocol.Refusal{HTTPStatus: 500, AppStatus: 500, Reason: errors.New("runner ended its goroutine")}

// turnCame starts the goroutine of a request that may run, or is turned away; see waiter. It
// reads on afterwards, if it is in the reader's place.
func (r *request) turnCame(err error) {
	if r.awayIn == nil {
		go r.run(err)
		return
	}
	go func() {
		if r.runAway(err) {
			r.conn.readLoop()
		}
	}()
}

// run does the request from when its turn has come, or may not come for the reason
// that err tells, to its end. Goexit passes through it, and so does a panic, which nothing
// here is to delay.
func (r *request) run(turnedAway error) {
	defer r.conn.wg.Done()
	growStack(false)
	var appStatus uint32
	var err error = errGoexit
	defer func() {
		if p := recover(); p != nil {
			panic(p)
		}
		if r.stdin != nil {
			r.stdin.discard()
		}
		r.conn.table.returned(r, appStatus, err)
	}()
	if turnedAway != nil {
		if err = turnedAway; r.ctx.Err() == nil {
			err = overload(err)
		}
		return
	}
	appStatus, err = r.work()
}

// answered is the event that the client may have all of the answer that there will be,
// though the Runner goes on, and keeps its place.
func (r *request) answered(appStatus uint32) {
	if r.conn.table.step(r, eventAnswered) {
		r.finish(appStatus, nil)
	}
}

// leavePlace frees the place to run, once.
func (r *request) leavePlace() {
	switch {
	case !r.hasPlace.Swap(false):
	case r.isOwn.Load():
		r.server.own.leave()
	default:
		r.server.admission.leavePlace()
	}
}

// work runs the Runner. The place to run is free again when the program has exited or the
// Runner has returned, however slow the client is.
func (r *request) work() (appStatus uint32, err error) {
	r.hasPlace.Store(true)
	defer r.leavePlace()
	if !r.conn.table.step(r, eventAdmitted) {
		return 0, context.Cause(r.ctx)
	}
	r.req.Exited = r.leavePlace
	r.req.Answered = r.answered
	r.req.Overdue = r.server.overdue
	defer r.stopTimers()
	if q, ok := r.runner.(Queuer); ok && q.Queues() {
		r.req.Running = r.startTimers
	} else {
		r.startTimers()
	}
	return r.runner.Run(r.runContext(), &r.req)
}

// runContext is ctx with the time by which it ends, where that is known.
func (r *request) runContext() context.Context {
	ctx := r.ctx
	if deadline, ok := r.conn.parent.Deadline(); ok {
		ctx = protocol.WithDeadline(ctx, deadline)
	}
	if r.timeout != nil { // else it waits for a place of its Runner first
		ctx = protocol.WithDeadline(ctx, time.Now().Add(r.settings.Timeout))
	}
	return ctx
}

// startTimers is called once, when the request has waited for the last time: the times
// that it may run, and may run unnoticed, begin.
func (r *request) startTimers() {
	hooks, now := &r.server.opt.Hooks, time.Now()
	if hooks.Queued != nil && !r.isOwn.Load() {
		hooks.Queued(r.conn.number, now.Sub(r.queued))
	}
	r.startedAt.Store(now.UnixNano())
	if r.settings.Timeout > 0 {
		r.timeout = r.endAfter(r.settings.Timeout)
	}
	r.watchSilence()
	if hooks.Slow != nil && r.settings.SlowAfter > 0 {
		r.slow = time.AfterFunc(r.settings.SlowAfter, func() { hooks.Slow(r.info(time.Now())) })
	}
}

func (r *request) stopTimers() {
	for _, t := range []*time.Timer{r.timeout, r.slow} {
		if t != nil {
			t.Stop()
		}
	}
	if r.silence != nil {
		r.silence.stop()
	}
}

func (r *request) endAfter(d time.Duration) *time.Timer {
	return time.AfterFunc(d, func() { r.conn.table.end(r, ErrTimeout) })
}

// EndAfter ends the request when it has gone on for d more; see protocol.Canceler.
func (r *request) EndAfter(d time.Duration) (stop func() bool) { return r.endAfter(d).Stop }

// AfterCancel has f called once ctx has ended; see protocol.Canceler.
func (r *request) AfterCancel(f func()) (stop func() bool) {
	t := &r.conn.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.ctx.Err() != nil {
		r.conn.wg.Go(f)
		return func() bool { return false }
	}
	r.afterCancel = f
	return r.forgetAfterCancel
}

// forgetAfterCancel reports whether that has kept the function from being called.
func (r *request) forgetAfterCancel() bool {
	t := &r.conn.table
	t.mu.Lock()
	defer t.mu.Unlock()
	forgotten := r.afterCancel != nil
	r.afterCancel = nil
	return forgotten
}
