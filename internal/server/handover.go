package server

import (
	"errors"
	"net"
	"time"
)

// errGiven is the end of a connection that somebody else has now.
var errGiven = errors.New("connection was given away")

// HandOver has a drain of a give connections away that it would close for being idle: a
// client that keeps one may be about to send a request on it, which to close it would lose.
// give gets connections of which no byte was read that is not handled, reports whether
// somebody else has a copy of their descriptor now, and does not wait for long. It is called
// before Serve is told to end.
func (a *Address) HandOver(give func(net.Conn) bool) { a.give.Store(&give) }

// Adopt serves a connection that another process has accepted, and given away when it was
// idle. It belongs to the address like those that Serve accepts, but is not counted
// as accepted. Adopt is false, and the connection stays the caller's, when a drains.
func (a *Address) Adopt(nc net.Conn) bool {
	c := newConn(a, nc)
	c.table.used = true
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining {
		return false
	}
	a.addLocked(c, true)
	go c.serve()
	return true
}

// mayGive reports whether somebody takes the connection when it is idle.
func (c *conn) mayGive() bool { return c.under == nil && c.address.Load().give.Load() != nil }

// giveAway gives the connection away, whose read loop was told to stop. Its error is nil while
// there is something to read or to send first.
func (c *conn) giveAway(stopped error) error {
	give := c.address.Load().give.Load()
	if give == nil || c.under != nil {
		return stopped
	}
	switch isLastCall, isIdle := c.table.closeToGive(!c.in.reader.Pending()); {
	case !isLastCall:
		return stopped
	case !isIdle && c.in.isStalled(time.Now()):
		return stopped
	case !isIdle:
		c.in.stopAfter(lastCallTime)
		return nil
	case !(*give)(c.nc):
		return stopped
	}
	return errGiven
}

// closeToGive ends all use of the connection if it ends for want of a request, and nothing
// is on its way. isRead tells that of what has been read nothing is left.
func (t *table) closeToGive(isRead bool) (isLastCall, isIdle bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	isLastCall = t.phase == phaseLastCall && !t.conn.out.lost.Load()
	isIdle = isRead && t.isIdleLocked() && len(t.trailing) == 0
	if isLastCall && isIdle {
		t.phase = phaseClosed
	}
	return isLastCall, isIdle
}
