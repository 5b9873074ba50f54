package server

import (
	"sync"
	"sync/atomic"
)

// An event happens once. The zero value has not happened. Unlike that of a
// channel, its memory is only needed by who waits, which few do.
type event struct {
	happened atomic.Bool

	mu   sync.Mutex // guards the field below
	done chan struct{}
}

// fire makes it happen, if it has not.
func (e *event) fire() {
	if e.happened.Swap(true) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.done != nil {
		close(e.done)
	}
}

// wait returns what is closed when it has happened.
func (e *event) wait() <-chan struct{} {
	if e.happened.Load() {
		return closed
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.happened.Load() {
		return closed // fire may be about to look at done
	}
	if e.done == nil {
		e.done = make(chan struct{})
	}
	return e.done
}

var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
