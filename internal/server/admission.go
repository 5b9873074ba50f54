package server

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"
)

// The reasons for which a request is not admitted.
var (
	errQueueFull    = errors.New("the queue is full")
	errQueueTimeout = errors.New("waited in the queue for longer than queue_timeout")
)

// admission lets at most max requests run at once. The others wait, first come
// first served, up to a number of them.
type admission struct {
	mu      sync.Mutex // guards the fields below
	max     int        // 0 is no bound
	running int
	limit   int       // of waiting
	waiting list.List // of chan struct{}, closed when admitted
}

// acquire returns without an error when the request may run; release must follow. A request whose ctx ends leaves the queue at
// once, with the cause, and one whose ctx has ended is never let in. A zero deadline
// is none.
func (a *admission) acquire(ctx context.Context, deadline time.Time) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	a.mu.Lock()
	if a.max == 0 || a.running < a.max {
		a.running++
		a.mu.Unlock()
		return nil
	}
	if a.waiting.Len() >= a.limit {
		a.mu.Unlock()
		return errQueueFull
	}
	turn := make(chan struct{})
	place := a.waiting.PushBack(turn)
	a.mu.Unlock()

	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	var err error
	select {
	case <-turn:
		if ctx.Err() == nil {
			return nil
		}
		err = context.Cause(ctx)
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-expired:
		err = errQueueTimeout
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-turn: // admitted in the meantime
		a.releaseLocked()
	default:
		a.waiting.Remove(place)
	}
	return err
}

// release ends what acquire began.
func (a *admission) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.releaseLocked()
}

func (a *admission) releaseLocked() {
	a.running--
	a.admitLocked()
}

func (a *admission) admitLocked() {
	for a.waiting.Len() > 0 && (a.max == 0 || a.running < a.max) {
		a.running++
		close(a.waiting.Remove(a.waiting.Front()).(chan struct{}))
	}
}

// setLimits changes the bounds. Who runs or waits already is not turned away.
func (a *admission) setLimits(max, queue int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.max, a.limit = max, queue
	a.admitLocked()
}

func (a *admission) numbers() (running, waiting int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running, a.waiting.Len()
}
