package server

import "time"

// connReader is the connection as its read loop reads it: before each read it
// sets the deadline by which something must have come.
type connReader conn

// Read reads what there is, until the deadline that is in force.
func (cr *connReader) Read(p []byte) (int, error) {
	cr.prepare()
	var n int
	var err error
	if s := cr.socket; s.rc != nil {
		n, err = s.reader.Read(p)
	} else {
		n, err = cr.nc.Read(p)
	}
	cr.noteHeard(n)
	return n, err
}

// prepare is for before a read.
func (cr *connReader) prepare() {
	c := (*conn)(cr)
	if d := c.due(); !c.isEarly(d) {
		c.setReadDeadline(d)
	}
	c.unhandled.Store(c.reader.Pending())
}

// noteHeard notes that n bytes came.
func (cr *connReader) noteHeard(n int) {
	if n > 0 {
		cr.unhandled.Store(true)
		cr.heard = time.Now()
		cr.server.received.Add(int64(n))
	}
}

// sooner is the earlier one of two times, of which the zero time is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// isEarly reports whether the deadline that is set on nc serves for d: one that is
// earlier does, since expire looks at what is due. To set it at each read costs more.
func (c *conn) isEarly(d time.Time) bool {
	if c.deadline.IsZero() || c.deadline.Equal(passed) {
		return d.Equal(c.deadline)
	}
	return d.IsZero() || !d.Before(c.deadline)
}

// setReadDeadline is for the read loop. Who closes the connection sets a deadline
// too, at any moment, and that one holds.
func (c *conn) setReadDeadline(d time.Time) {
	c.deadline = d
	c.nc.SetReadDeadline(d)
	for _, until := range []int64{c.lastCall.Load(), c.lingering.Load()} {
		if until != 0 {
			c.nc.SetReadDeadline(time.Unix(0, until))
		}
	}
}

// due is when the read loop has something to do although nothing came: the
// zero time for never.
func (c *conn) due() time.Time {
	if until := c.lingering.Load(); until != 0 {
		return time.Unix(0, until)
	}
	if until := c.lastCall.Load(); until != 0 {
		return time.Unix(0, until)
	}
	c.forgetEnded()
	if len(c.receiving) > 0 {
		var first time.Time
		for _, r := range c.receiving {
			first = sooner(first, c.dueOf(r))
		}
		return first
	}
	if t := c.server.settings.Load().Limits.ReadTimeout; t > 0 && c.reader.Pending() {
		if c.partial.IsZero() {
			c.partial = time.Now()
		}
		return c.partial.Add(t)
	}
	d := c.restTime()
	if t := c.idleTimeout(); t > 0 {
		since, idle := c.idleSince()
		if !idle {
			since = time.Now() // looked at again before the time can have passed
		}
		d = sooner(d, since.Add(t))
	}
	return d
}

// isLate reports whether a deadline that was set on nc may be over. If not, a timeout
// is one of the connection's own, and its end: TCP's keepalive has such.
func (c *conn) isLate() bool {
	if c.lastCall.Load() != 0 || c.lingering.Load() != 0 {
		return true // it ends soon in any case
	}
	return !c.deadline.IsZero() && !time.Now().Before(c.deadline)
}

// passed is a deadline that is not the next one, whatever that is.
var passed = time.Unix(0, 1)

// expire ends what has been silent for too long. An error ends the connection.
func (c *conn) expire(now time.Time) error {
	c.deadline = passed
	for _, until := range []int64{c.lingering.Load(), c.lastCall.Load()} {
		if until != 0 && now.UnixNano() >= until {
			return errIdle
		}
	}
	c.forgetEnded()
	if len(c.receiving) > 0 {
		for i := len(c.receiving) - 1; i >= 0; i-- {
			r := c.receiving[i]
			if d := c.dueOf(r); !d.IsZero() && !now.Before(d) {
				c.drop(r, ErrReadTimeout)
			}
		}
		return nil
	}
	if t := c.server.settings.Load().Limits.ReadTimeout; t > 0 && !c.partial.IsZero() && now.Sub(c.partial) >= t {
		return errStalled
	}
	if t := c.idleTimeout(); t > 0 && (c.partial.IsZero() || c.excess) { // a record that comes may begin a request
		if since, idle := c.idleSince(); idle && now.Sub(since) >= t {
			return errIdle
		}
	}
	if d := c.restTime(); !d.IsZero() && !now.Before(d) {
		return errRest
	}
	return nil
}

// dueOf is when the client must have sent more of r: the zero time for never.
// PARAMS have to be complete by then, a body has to go on. While a record comes
// bit by bit no other can, so every byte of it is a sign of life of all bodies.
func (c *conn) dueOf(r *request) time.Time {
	t := r.settings.Limits.ReadTimeout
	switch {
	case t == 0:
		return time.Time{}
	case !r.paramsOver:
		return r.begun.Add(t)
	case c.reader.Pending() && c.heard.After(r.heard):
		return c.heard.Add(t)
	}
	return r.heard.Add(t)
}

// idleTimeout is how long the connection may be without a request; 0 is for
// ever. One over max_conns is here only to be told so.
func (c *conn) idleTimeout() time.Duration {
	if c.excess {
		return lingerTime
	}
	return c.server.settings.Load().Limits.IdleTimeout
}

// idleSince tells whether the connection has no request, and since when.
func (c *conn) idleSince() (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idle, len(c.table) == 0 && c.ending == 0
}
