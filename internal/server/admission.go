package server

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/plural"
)

// The reasons for which a request is not admitted.
var (
	errQueueFull    = errors.New("the queue is full")
	errQueueTimeout = errors.New("waited in the queue for longer than queue_timeout")
	errDrained      = errors.New("the pool takes no requests (fcgid drain; fcgid resume ends it)")
)

// A Gate says what becomes of requests that could run. Those that run are not touched.
type Gate int

const (
	GateOpen   Gate = iota // they run
	GateHold               // they wait, as if all places to run were taken
	GateRefuse             // they are refused; those that wait already run when it is their turn
	GateLeave              // they run; it is told that GateRefuse comes, so that nobody needs to be refused
)

// admission lets at most max requests run at once. The others wait, first come
// first served, up to a number of them. Who waits needs no goroutine for it.
type admission struct {
	mu      sync.Mutex // guards the fields below
	max     int        // 0 is no bound
	key     string     // of the configuration, that says max
	running int        // with overdue
	gate    Gate
	overdue int       // that run though their requests have ended, and nothing ends them
	limit   int       // of waiting
	waiting list.List // of *turn
	come    *turn     // the first of those whose turn has come and who are to be told
	last    *turn     // the last of them
	due     time.Time // when timer is to look at deadlines; the zero time: it is not
	timer   *time.Timer
	crowded time.Time // since when there was always one that waits; the zero time: none does
	told    time.Time // when tell was last called
	tally   Tally
	full    bool // as many run as may

	tell func(crowd) // immutable; nil: nobody is told
}

// A Tally is what has been so since the start.
type Tally struct {
	Admitted                int64 // requests whose turn has come
	MostRunning, MostQueued int   // requests at once
	AtMax                   int64 // times that as many ran as may
}

// A turn is what a request waits for.
type turn struct {
	// Immutable once it has been asked for.
	who      waiter
	ctx      context.Context // at its end the turn is not wanted any more
	deadline time.Time       // the zero time: none

	// Guarded by admission.mu.
	queued *list.Element // nil: it does not wait
	next   *turn         // that has come, behind it
	err    error         // why it is turned away, once it has come
}

// A waiter is told, once for each turn that had to wait and with no lock of admission's
// held, that it may run, or why not. If it may, leavePlace must follow. It must not wait.
type waiter interface{ turnCame(err error) }

// A crowd is what requests wait for.
type crowd struct {
	max, overdue, waiting int
	since                 time.Time
}

// Who waits for a moment is nothing to tell of; who always does is, now and then.
const (
	crowdTime  = time.Second
	crowdPause = time.Minute
)

// unlock frees mu, and tells those whose turn has come, and when requests have waited
// for long without a break.
func (a *admission) unlock() {
	c, tells := crowd{a.max, a.overdue, a.waiting.Len(), a.crowded}, false
	if c.waiting > 0 {
		now := time.Now()
		if a.crowded.IsZero() {
			a.crowded = now
		}
		if tells = a.tell != nil && a.gate != GateHold && now.Sub(a.crowded) >= crowdTime && now.Sub(a.told) >= crowdPause; tells {
			a.told = now
		}
	}
	a.deliver()
	if tells {
		a.tell(c)
	}
}

// deliver frees mu, and tells those whose turn has come.
func (a *admission) deliver() {
	come := a.come
	a.come, a.last = nil, nil
	a.mu.Unlock()
	for come != nil {
		t := come
		come, t.next = t.next, nil
		t.who.turnCame(t.err)
	}
}

// enter asks for a turn. If it comes at once, or is turned away for the reason that err
// tells, the caller is told, and nobody else. If ctx ends while it waits, giveUp is to be
// called after that; one whose ctx has ended is never let in.
func (a *admission) enter(t *turn) (came bool, err error) {
	a.mu.Lock()
	defer a.unlock()
	switch {
	case t.ctx.Err() != nil:
		return true, context.Cause(t.ctx)
	case a.gate == GateRefuse:
		return true, errDrained
	case a.hasPlaceLocked():
		a.runLocked()
		return true, nil
	case a.waiting.Len() >= a.limit:
		return true, a.fullLocked()
	}
	t.queued = a.waiting.PushBack(t)
	a.tally.MostQueued = max(a.tally.MostQueued, a.waiting.Len())
	a.watchLocked(t.deadline)
	return false, nil
}

// giveUp is for a turn that is not wanted any more. If it has not come, it comes now, with
// the cause of ctx's end. It may be called with a lock held, and tells of no crowd.
func (a *admission) giveUp(t *turn) {
	a.mu.Lock()
	defer a.deliver()
	if t.queued != nil {
		a.comeLocked(t, context.Cause(t.ctx))
	}
}

// comeLocked ends the waiting for a turn.
func (a *admission) comeLocked(t *turn, err error) {
	if t.queued != nil {
		a.waiting.Remove(t.queued)
		t.queued = nil
	}
	if a.waiting.Len() == 0 {
		a.crowded = time.Time{}
	}
	t.err = err
	if a.come == nil {
		a.come = t
	} else {
		a.last.next = t
	}
	a.last = t
}

// watchLocked has the timer look at the deadlines by then.
func (a *admission) watchLocked(deadline time.Time) {
	if deadline.IsZero() || !a.due.IsZero() && !deadline.Before(a.due) {
		return
	}
	a.due = deadline
	if a.timer == nil {
		a.timer = time.AfterFunc(time.Until(deadline), a.expire)
	} else {
		a.timer.Reset(time.Until(deadline))
	}
}

// expire turns away who has waited for too long. When the timer was set for one that has
// left since, it finds none, and is set again: that costs less than to stop it each time.
func (a *admission) expire() {
	a.mu.Lock()
	defer a.unlock()
	now, next := time.Now(), time.Time{}
	a.due = time.Time{}
	err := fmt.Errorf("%w: %s", errQueueTimeout, a.takenLocked())
	for e := a.waiting.Front(); e != nil; {
		t := e.Value.(*turn)
		e = e.Next()
		if t.deadline.IsZero() || now.Before(t.deadline) {
			next = sooner(next, t.deadline)
		} else {
			a.comeLocked(t, err)
		}
	}
	a.watchLocked(next)
}

// fullLocked says what is full, and since when.
func (a *admission) fullLocked() error {
	if a.crowded.IsZero() {
		return fmt.Errorf("%w: %s, and none may wait (limits.queue)", errQueueFull, a.takenLocked())
	}
	return fmt.Errorf("%w: %s in it (limits.queue), and %s", errQueueFull, plural.Of(a.waiting.Len(), "request"), a.takenLocked())
}

// takenLocked says that there is no place, and since when.
func (a *admission) takenLocked() string {
	if a.gate == GateHold {
		return "the pool is paused (fcgid resume ends it)"
	}
	overdue := ""
	if a.overdue > 0 {
		overdue = fmt.Sprintf(", %d of them by functions that do not return", a.overdue)
	}
	places, are, have := fmt.Sprintf("all %d places", a.max), "are", "have"
	if a.max == 1 {
		places, are, have = "the only place", "is", "has"
	}
	if a.crowded.IsZero() {
		return fmt.Sprintf("%s %s taken (%s)%s", places, are, a.key, overdue)
	}
	return fmt.Sprintf("%s %s been taken (%s)%s for %v", places, have, a.key, overdue, time.Since(a.crowded).Round(time.Millisecond))
}

// leavePlace gives back what a turn that has come has given.
func (a *admission) leavePlace() {
	a.mu.Lock()
	defer a.unlock()
	a.leavePlaceLocked()
}

// setOverdue takes a place, even if none is free, for a function that has left its place
// and does not end. With false it gives the place back. So max bounds such functions too.
func (a *admission) setOverdue(is bool) {
	a.mu.Lock()
	defer a.unlock()
	if is {
		a.overdue++
		a.running++
		return
	}
	a.overdue--
	a.leavePlaceLocked()
}

func (a *admission) leavePlaceLocked() {
	a.running--
	a.admitLocked()
	a.full = a.full && a.running >= a.max
}

// runLocked takes a place for a request whose turn has come.
func (a *admission) runLocked() {
	a.running++
	a.tally.Admitted++
	a.tally.MostRunning = max(a.tally.MostRunning, a.running)
	if a.running == a.max && !a.full {
		a.full = true
		a.tally.AtMax++
	}
}

// hasPlaceLocked reports whether one more may run.
func (a *admission) hasPlaceLocked() bool {
	return a.gate != GateHold && (a.max == 0 || a.running < a.max)
}

func (a *admission) admitLocked() {
	for a.waiting.Len() > 0 && a.hasPlaceLocked() {
		a.runLocked()
		a.comeLocked(a.waiting.Front().Value.(*turn), nil)
	}
}

// setLimits changes the bounds. Who runs or waits already is not turned away.
func (a *admission) setLimits(max, queue int, key string) {
	a.mu.Lock()
	defer a.unlock()
	a.max, a.limit, a.key = max, queue, cmp.Or(key, "limits.max_reqs")
	a.admitLocked()
}

// setGate opens or closes the way to run.
func (a *admission) setGate(g Gate) {
	a.mu.Lock()
	defer a.unlock()
	a.setGateLocked(g)
}

// changeGate is setGate if it is from; it reports whether it was.
func (a *admission) changeGate(from, to Gate) bool {
	a.mu.Lock()
	defer a.unlock()
	if a.gate != from {
		return false
	}
	a.setGateLocked(to)
	return true
}

func (a *admission) setGateLocked(g Gate) {
	if a.gate == GateHold {
		a.crowded = time.Time{} // till now nobody has waited for a place
	}
	a.gate = g
	a.admitLocked()
}

// numbers are what there is at one moment.
func (a *admission) numbers() (running, overdue, waiting int, gate Gate) {
	a.mu.Lock()
	defer a.unlock()
	return a.running, a.overdue, a.waiting.Len(), a.gate
}

// tallied is what has been so since the start.
func (a *admission) tallied() Tally {
	a.mu.Lock()
	defer a.unlock()
	return a.tally
}
