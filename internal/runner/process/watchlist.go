package process

import (
	"sync"
	"time"
)

// A watchlist has the programs of a pool that nobody watches yet, each of which is to be watched
// after watchAfter. One timer serves all of them: a timer for each would have the runtime wake the
// thread that waits for descriptors, each time, for it not to wait too long. The zero value
// is ready.
type watchlist struct {
	mu          sync.Mutex // guards the fields below, and a run's watching
	first, last *run       // in the order in which they are due
	timer       *time.Timer
	isSet       bool // the timer, for the first one or one that has gone
}

// A watching is a program's place in a watchlist.
type watching struct {
	due        time.Time
	prev, next *run
	isListed   bool
}

// add has a program watched later, unless remove is called before.
func (l *watchlist) add(r *run) {
	due := time.Now().Add(watchAfter)
	l.mu.Lock()
	defer l.mu.Unlock()
	r.watching = watching{due: due, prev: l.last, isListed: true}
	if l.last == nil {
		l.first = r
	} else {
		l.last.watching.next = r
	}
	l.last = r
	l.setLocked()
}

// setLocked sets the timer if there is a program, and it is not set.
func (l *watchlist) setLocked() {
	if l.isSet || l.first == nil {
		return
	}
	l.isSet = true
	wait := time.Until(l.first.watching.due)
	if l.timer == nil {
		l.timer = time.AfterFunc(wait, l.watch)
	} else {
		l.timer.Reset(wait)
	}
}

// remove reports whether that has kept the program from being watched.
func (l *watchlist) remove(r *run) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !r.watching.isListed {
		return false
	}
	l.removeLocked(r)
	return true
}

func (l *watchlist) removeLocked(r *run) {
	w := r.watching
	r.watching = watching{}
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.watching.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.watching.prev = w.prev
	}
}

// watch has those watched that are due.
func (l *watchlist) watch() {
	for _, r := range l.takeDue(time.Now()) {
		r.watch()
	}
}

func (l *watchlist) takeDue(now time.Time) (due []*run) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.first != nil && !now.Before(l.first.watching.due) {
		due = append(due, l.first)
		l.removeLocked(l.first)
	}
	l.isSet = false
	l.setLocked()
	return due
}
