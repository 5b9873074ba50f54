package server

import (
	"sync"
	"sync/atomic"
)

// A once is what happens once. The zero value has not happened. Unlike that of a
// channel, its memory is only needed by who waits, which few do.
type once struct {
	has atomic.Bool

	mu   sync.Mutex // guards the field below
	done chan struct{}
}

// happen makes it happen, if it has not.
func (o *once) happen() {
	if o.has.Swap(true) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done != nil {
		close(o.done)
	}
}

// wait returns what is closed when it has happened.
func (o *once) wait() <-chan struct{} {
	if o.has.Load() {
		return closedChan
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.has.Load() {
		return closedChan // happen may be about to look at done
	}
	if o.done == nil {
		o.done = make(chan struct{})
	}
	return o.done
}

// closedChan is for who need not wait.
var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
