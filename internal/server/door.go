package server

import (
	"sync/atomic"
	"time"
)

// A door lets one goroutine in at a time, as a mutex does; who waits can give up. It is not
// handed to who waits: that would have everybody else wait until the scheduler has found
// the time to run this one, however short each of them takes.
type door struct {
	taken   atomic.Bool
	waiting atomic.Int32
	free    chan struct{} // has something when who waits may try again
}

func (d *door) init() { d.free = make(chan struct{}, 1) }

// enter waits for as long as it takes.
func (d *door) enter() { d.enterBefore(nil, nil) }

// tryEnter does not wait.
func (d *door) tryEnter() bool { return d.taken.CompareAndSwap(false, true) }

// enterBefore waits until one of the two has something. It reports whether it is in.
func (d *door) enterBefore(over <-chan time.Time, done <-chan struct{}) bool {
	if d.tryEnter() {
		return true
	}
	d.waiting.Add(1)
	defer d.waiting.Add(-1)
	for !d.tryEnter() {
		select {
		case <-d.free:
		case <-over:
			return false
		case <-done:
			return false
		}
	}
	return true
}

func (d *door) leave() {
	d.taken.Store(false)
	if d.waiting.Load() > 0 {
		select {
		case d.free <- struct{}{}:
		default: // one is told already
		}
	}
}
