package server

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// readAgainAfter is how long the reader of a connection may be away before
	// another one reads on.
	readAgainAfter = time.Millisecond
	// renewAfter is how long a connection is idle before a goroutine whose stack a
	// request has enlarged leaves it to a fresh one.
	renewAfter = time.Second
)

// The reasons for which a goroutine's part in the read loop ends.
var (
	errReadOn = errors.New("another goroutine reads on")
	errRenew  = errors.New("another goroutine is to read on")
)

// An inPlace is the request that runs in the goroutine which has read it: to wake another
// one, which may be on another CPU, takes longer than most functions do, and to read on
// meanwhile finds nothing, as a rule. If it has to wait for its turn, the goroutine in
// which it runs then reads on afterwards. Nobody waits for that all the same: after
// readAgainAfter another goroutine is the read loop, and that of the request ends with it.
//
// It belongs to the read loop, which is one goroutine at a time.
type inPlace struct {
	next   *request    // to be run when what was read with it has been taken
	shared bool        // the client sends requests while others run: none runs in place
	deep   atomic.Bool // a request has enlarged this goroutine's stack; for all to look at
}

// mayRunInPlace reports whether r can run in the read loop's goroutine: all of r has come,
// and nothing else is there that would have to wait.
func (c *conn) mayRunInPlace(r *request) bool {
	return r.settings.InPlace && r.stdinClosed && !c.inPlace.shared && !c.in.reader.Pending()
}

// runInPlace has the request run, or wait for its turn, that is to run in place, if there
// is one. It reports whether this goroutine is the read loop still.
func (c *conn) runInPlace() (reads bool) {
	r := c.inPlace.next
	if r == nil {
		return true
	}
	c.inPlace.next = nil
	c.inPlace.deep.Store(true)
	c.in.unhandled.Store(c.in.socket.rc == nil) // nothing is, or nobody can tell
	c.lane().away.add(r)
	came, err := r.server.admission.enter(&r.turn)
	if !came {
		return false
	}
	return r.runAway(err)
}

// runAway is run while nobody reads. It reports whether the read loop is the caller's
// then.
func (r *request) runAway(turnedAway error) (reads bool) {
	returned := false
	defer func() {
		reads = r.away.list.remove(r)
		if reads && !returned { // by Goexit
			go r.conn.readOn()
		}
	}()
	r.run(turnedAway)
	returned = true
	return
}

// readOn is the read loop in a fresh goroutine.
func (c *conn) readOn() {
	c.inPlace.deep.Store(false)
	c.readLoop()
}

// renewAt is when a goroutine with a large stack has waited long enough: the zero time for
// never.
func (c *conn) renewAt() time.Time {
	if !c.inPlace.deep.Load() {
		return time.Time{}
	}
	return c.in.heard.Add(renewAfter)
}

// An awayList is those requests of a lane whose connections have no reader. It sets a
// timer no more often than each readAgainAfter: one for each request would have a thread
// of the runtime's woken, to wait for that instead.
type awayList struct {
	mu          sync.Mutex // guards the fields below, and the places of requests
	first, last *request   // in the order in which they were read
	timer       *time.Timer
	isSet       bool // timer is to look at them
}

// An awayPlace is a request's place in such a list.
type awayPlace struct {
	list          *awayList // nil: the request has never been in one; immutable once it has
	since         time.Time
	isIn          bool
	before, after *request
}

// add is called by the reader of r, who goes away then.
func (l *awayList) add(r *request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.away = awayPlace{list: l, since: r.conn.in.heard, isIn: true, before: l.last}
	if l.last == nil {
		l.first = r
	} else {
		l.last.away.after = r
	}
	l.last = r
	switch {
	case l.isSet:
		return
	case l.timer == nil:
		l.timer = time.AfterFunc(readAgainAfter, l.look)
	default:
		l.timer.Reset(readAgainAfter)
	}
	l.isSet = true
}

// remove reports whether nobody reads on r's connection yet. Then that is for the caller.
func (l *awayList) remove(r *request) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	wasIn := r.away.isIn
	if wasIn {
		l.removeLocked(r)
	}
	return wasIn
}

func (l *awayList) removeLocked(r *request) {
	p := &r.away
	if p.before == nil {
		l.first = p.after
	} else {
		p.before.away.after = p.after
	}
	if p.after == nil {
		l.last = p.before
	} else {
		p.after.away.before = p.before
	}
	p.isIn, p.before, p.after = false, nil, nil
}

// look has others read on for those that have been away for long enough.
func (l *awayList) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for l.first != nil {
		r := l.first
		if left := readAgainAfter - now.Sub(r.away.since); left > 0 {
			l.timer.Reset(left)
			return
		}
		l.removeLocked(r)
		go r.conn.readOn()
	}
	l.isSet = false
}
