package server

import (
	"container/list"
	"context"
	"errors"
	"fmt"
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
	running int        // with late
	late    int        // that run though their requests have ended, and nothing ends them
	limit   int        // of waiting
	waiting list.List  // of chan struct{}, closed when admitted
	crowded time.Time  // since when there was always one that waits; the zero time: none does
	told    time.Time  // when tell was last called

	tell func(crowd) // immutable; nil: nobody is told
}

// A crowd is what requests wait for.
type crowd struct {
	max, late, waiting int
	since              time.Time
}

// Who waits for a moment is nothing to tell of; who always does is, now and then.
const (
	crowdTime  = time.Second
	crowdPause = time.Minute
)

// unlock frees mu, and tells when requests have waited for long without a break.
func (a *admission) unlock() {
	c, due := crowd{a.max, a.late, a.waiting.Len(), a.crowded}, false
	if c.waiting == 0 {
		a.crowded = time.Time{}
	} else {
		now := time.Now()
		if a.crowded.IsZero() {
			a.crowded = now
		}
		if due = a.tell != nil && now.Sub(a.crowded) >= crowdTime && now.Sub(a.told) >= crowdPause; due {
			a.told = now
		}
	}
	a.mu.Unlock()
	if due {
		a.tell(c)
	}
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
		a.unlock()
		return nil
	}
	if a.waiting.Len() >= a.limit {
		err := a.fullLocked()
		a.unlock()
		return err
	}
	turn := make(chan struct{})
	place := a.waiting.PushBack(turn)
	a.unlock()

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
	defer a.unlock()
	select {
	case <-turn: // admitted in the meantime
		a.releaseLocked()
	default:
		if err == errQueueTimeout {
			err = fmt.Errorf("%w: %s", err, a.takenLocked())
		}
		a.waiting.Remove(place)
	}
	return err
}

// fullLocked says what is full, and since when.
func (a *admission) fullLocked() error {
	if a.crowded.IsZero() {
		return fmt.Errorf("%w: %s, and none may wait (limits.queue)", errQueueFull, a.takenLocked())
	}
	return fmt.Errorf("%w: %d requests wait (limits.queue), and %s", errQueueFull, a.waiting.Len(), a.takenLocked())
}

// takenLocked says that there is no place, and since when.
func (a *admission) takenLocked() string {
	late := ""
	if a.late > 0 {
		late = fmt.Sprintf(", %d of them by functions that do not return", a.late)
	}
	if a.crowded.IsZero() {
		return fmt.Sprintf("all %d places are taken (limits.max_reqs)%s", a.max, late)
	}
	return fmt.Sprintf("all %d places have been taken (limits.max_reqs)%s for %v", a.max, late, time.Since(a.crowded).Round(time.Millisecond))
}

// release ends what acquire began.
func (a *admission) release() {
	a.mu.Lock()
	defer a.unlock()
	a.releaseLocked()
}

// overdue takes a place, though there may be none, for what has left its own and does
// not end; false gives it back. So there is a bound on how many of such there are.
func (a *admission) overdue(is bool) {
	a.mu.Lock()
	defer a.unlock()
	if is {
		a.late++
		a.running++
		return
	}
	a.late--
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
	defer a.unlock()
	a.max, a.limit = max, queue
	a.admitLocked()
}

func (a *admission) numbers() (running, late, waiting int) {
	a.mu.Lock()
	defer a.unlock()
	return a.running, a.late, a.waiting.Len()
}
