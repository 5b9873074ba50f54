// Package later does what is to be done a while after something began, unless that is over by then.
package later

import (
	"sync"
	"time"
)

// A List has what began and is not over. One timer serves all of it: a timer for each would have the
// runtime wake the thread that waits for descriptors, each time, for it not to wait too long.
type List[T any] struct {
	// Immutable.
	After time.Duration
	Do    func(T) // is called with what is not over After it began; must not wait

	mu          sync.Mutex // guards the fields below, and places
	first, last *Place[T]  // in the order in which they were added
	timer       *time.Timer
	isSet       bool // the timer, for the first one or one that has gone
}

// A Place is that of a value in a list. The zero value is in none.
type Place[T any] struct {
	value         T
	due           time.Time
	before, after *Place[T]
	isIn          bool
}

// Add has something done for a value that began at that time, unless Remove is called before. The
// place is in no list.
func (l *List[T]) Add(p *Place[T], value T, began time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*p = Place[T]{value: value, due: began.Add(l.After), before: l.last, isIn: true}
	if l.last == nil {
		l.first = p
	} else {
		l.last.after = p
	}
	l.last = p
	l.setLocked()
}

// Remove reports whether that has kept it from being done.
func (l *List[T]) Remove(p *Place[T]) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	wasIn := p.isIn
	if wasIn {
		l.removeLocked(p)
	}
	return wasIn
}

func (l *List[T]) removeLocked(p *Place[T]) {
	if p.before == nil {
		l.first = p.after
	} else {
		p.before.after = p.after
	}
	if p.after == nil {
		l.last = p.before
	} else {
		p.after.before = p.before
	}
	*p = Place[T]{}
}

// setLocked sets the timer if there is something to look at, and it is not set.
func (l *List[T]) setLocked() {
	if l.isSet || l.first == nil {
		return
	}
	l.isSet = true
	wait := time.Until(l.first.due)
	if l.timer == nil {
		l.timer = time.AfterFunc(wait, l.look)
	} else {
		l.timer.Reset(wait)
	}
}

func (l *List[T]) look() {
	for _, value := range l.takeDue(time.Now()) {
		l.Do(value)
	}
}

func (l *List[T]) takeDue(now time.Time) (due []T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.first != nil && !now.Before(l.first.due) {
		due = append(due, l.first.value)
		l.removeLocked(l.first)
	}
	l.isSet = false
	l.setLocked()
	return due
}
