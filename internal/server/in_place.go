package server

import (
	"errors"
	"time"
)

const (
	// readAgainAfter is how long a request may run in the goroutine that has read
	// it before another one reads on.
	readAgainAfter = time.Millisecond
	// restAfter is how long a connection is idle before a goroutine whose stack a
	// request has enlarged leaves it to a fresh one.
	restAfter = time.Second
)

// errRest ends a goroutine's part in the read loop.
var errRest = errors.New("another goroutine is to read on")

// mayRunInPlace reports whether r can run in the read loop's goroutine, which saves
// waking another one: all of r has come, and nothing else is there to be read. A
// client that multiplexes does not wait for it.
func (c *conn) mayRunInPlace(r *request) bool {
	return r.settings.InPlace && r.stdinIsOver && !c.multiplexed && c.reader.Buffered() == 0
}

// runInPlace runs r in the read loop's goroutine. If that takes long, another one
// becomes the read loop meanwhile. It reports whether this one still is.
func (c *conn) runInPlace(r *request) (reads bool) {
	if !c.deep {
		c.deep = true
		growStack(1)
	}
	c.unhandled.Store(c.socket.rc == nil) // nothing is, or nobody can tell
	c.wg.Add(1)                           // for who may read on, and wait for this one
	if c.readAgain == nil {
		c.readAgain = time.AfterFunc(time.Hour, c.readOn)
	}
	timer := c.readAgain // when it fires it is not c's any more
	timer.Reset(readAgainAfter)
	returned := false
	defer func() {
		reads = timer.Stop()
		c.wg.Done()
		if reads && !returned { // by Goexit
			go c.readOn()
		}
	}()
	r.run()
	returned = true
	return reads
}

// readOn is the read loop in a fresh goroutine.
func (c *conn) readOn() {
	c.deep, c.readAgain = false, nil
	c.serve()
}

// restTime is when a goroutine with a large stack has waited long enough: the zero
// time for never.
func (c *conn) restTime() time.Time {
	if !c.deep {
		return time.Time{}
	}
	return c.heard.Add(restAfter)
}
