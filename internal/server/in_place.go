package server

import (
	"errors"
	"sync/atomic"
	"time"
)

const (
	// readAgainAfter is how long a request may run in the goroutine that has read
	// it before another one reads on.
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
// one, which may be on another CPU, takes longer than most functions do. The read loop
// does not wait for it all the same: after readAgainAfter another goroutine is the read
// loop, and this one ends with the request.
//
// It belongs to the read loop, which is one goroutine at a time.
type inPlace struct {
	next   *request    // runs when what was read with it has been taken
	shared bool        // the client sends requests while others run: none runs in place
	deep   atomic.Bool // a request has enlarged this goroutine's stack; for all to look at
	timer  *time.Timer // has another goroutine read on; nil until it is needed
}

// mayRunInPlace reports whether r, whose turn has come, can run in the read loop's
// goroutine: all of r has come, and nothing else is there that would have to wait.
func (c *conn) mayRunInPlace(r *request) bool {
	return r.settings.InPlace && r.stdinClosed && !c.inPlace.shared && !c.in.reader.Pending()
}

// runInPlace runs the request that is to run in place, if there is one. It reports
// whether this goroutine is the read loop still.
func (c *conn) runInPlace() (reads bool) {
	r := c.inPlace.next
	if r == nil {
		return true
	}
	c.inPlace.next = nil
	c.inPlace.deep.Store(true)
	c.in.unhandled.Store(c.in.socket.rc == nil) // nothing is, or nobody can tell
	if c.inPlace.timer == nil {
		c.inPlace.timer = time.AfterFunc(time.Hour, c.readOn)
	}
	timer, returned := c.inPlace.timer, false
	timer.Reset(readAgainAfter)
	defer func() {
		reads = timer.Stop()
		if reads && !returned { // by Goexit
			go c.readOn()
		}
	}()
	r.run(nil)
	returned = true
	return reads
}

// readOn is the read loop in a fresh goroutine.
func (c *conn) readOn() {
	c.inPlace.deep.Store(false)
	c.inPlace.timer = nil
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
