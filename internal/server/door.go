package server

import (
	"sync/atomic"
	"time"
)

// A door lets one goroutine in at a time, as a mutex does; who waits can give up. Like
// sync.Mutex it is not handed to who waits: that would have everybody else wait until the
// scheduler has found the time to run this one, however short each of them takes. But it
// is to one who has waited for hungryAfter, whom somebody else has been faster than again and
// again.
type door struct {
	taken   atomic.Bool
	waiting atomic.Int32
	hungry  atomic.Bool   // one who waits is to have it next
	free    chan struct{} // has something when who waits may try again
	yours   chan struct{} // without room: the door itself
}

const hungryAfter = time.Millisecond

func (d *door) init() { d.free, d.yours = make(chan struct{}, 1), make(chan struct{}) }

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
	began := time.Now()
	for !d.tryEnter() {
		if time.Since(began) >= hungryAfter {
			d.hungry.Store(true)
		}
		select {
		case <-d.yours:
			return true
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
	if d.hungry.Load() {
		d.hungry.Store(false) // who else is says so when it tries again
		select {
		case d.yours <- struct{}{}:
			return // it stays taken
		default: // it is about to wait, or has given up
		}
	}
	d.taken.Store(false)
	if d.waiting.Load() > 0 {
		select {
		case d.free <- struct{}{}:
		default: // one is told already
		}
	}
}
