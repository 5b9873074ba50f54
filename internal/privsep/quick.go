package privsep

import (
	"sync/atomic"
	"time"
)

// quickly is how long the answer to the start of a program may wait for its exit, so that one
// message tells the daemon of both, and its output is all there. That is for a program that
// waits for nothing of the daemon, and a pool whose programs are that quick.
const quickly = 5 * time.Millisecond

// mostPassed is how many quick programs of a pool are started at most without their exit being
// waited for when others were not quick: of one that writes more than its pipe holds the daemon has
// to read.
const mostPassed = 127

// A quickness is what is known of how quick the programs of a pool are. The zero value is that they
// are. It may be used by many goroutines at once; a number that is lost matters to nobody.
type quickness struct {
	left   atomic.Int32 // how many have to be quick before one is waited for
	passed atomic.Int32 // how many were to be the last time; 0 after one that was quick and waited for
}

func (q *quickness) isThere() bool { return q.left.Load() <= 0 }

// wasQuick notes that a program has exited soon, which was waited for or not.
func (q *quickness) wasQuick(waited bool) {
	if waited {
		q.passed.Store(0)
	} else {
		q.left.Add(-1)
	}
}

// wasSlow notes that a program was waited for in vain.
func (q *quickness) wasSlow() {
	n := min(2*q.passed.Load()+1, mostPassed)
	q.passed.Store(n)
	q.left.Store(n)
}

// awaitExit is what is told of the exit of a program that was started, nil if it is an event of
// its own, which comes later.
func (r *running) awaitExit() []byte {
	timer := timers.Get().(*time.Timer)
	defer timers.Put(timer)
	defer timer.Stop()
	timer.Reset(quickly)
	select {
	case event := <-r.told:
		r.of.quick.wasQuick(true)
		return event
	case <-timer.C:
	}
	r.of.quick.wasSlow()
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case event := <-r.told: // just now
		return event
	default:
		r.told = nil
		return nil
	}
}

// tellBy reports whether the answer to its start tells of its exit.
func (r *running) tellBy(event []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told == nil {
		return false
	}
	r.told <- event
	return true
}
