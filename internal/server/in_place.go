package server

import (
	"errors"
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
	r.awayIn = &c.lane().away
	r.awayIn.Add(&r.away, r, c.in.heard)
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
		reads = r.awayIn.Remove(&r.away)
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
