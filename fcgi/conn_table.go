package fcgi

import (
	"errors"
	"slices"

	"github.com/fcgid/fcgid/internal/protocol"
)

// maxRequests is how many ids there are for requests.
const maxRequests = 1<<16 - 1

// A table holds the requests that the application may still speak of, by their
// id less one. An id is taken until END_REQUEST was read and nothing more is
// sent: what comes late must not meet another request.
type table struct {
	slots   []*exchange
	used    int // slots that are taken
	awaited int // of them, the requests whose Do waits for the end
	open    int // of them, the requests that were not answered
}

// add gives x the smallest free id: some applications take no other than 1.
func (t *table) add(x *exchange) bool {
	i := slices.Index(t.slots, nil)
	if i < 0 {
		i = len(t.slots)
		if i == maxRequests {
			return false
		}
		t.slots = append(t.slots, nil)
	}
	t.slots[i] = x
	x.id, x.awaited = uint16(i+1), true
	t.used++
	t.awaited++
	t.open++
	return true
}

// active is the request of that id unless it is over or has not begun.
func (t *table) active(id uint16) *exchange {
	if id == 0 || int(id) > len(t.slots) {
		return nil
	}
	x := t.slots[id-1]
	if x == nil || x.answered || !x.heardOf {
		return nil
	}
	return x
}

// answer tells that nothing more may come for x.
func (t *table) answer(x *exchange) {
	if !x.answered {
		x.answered = true
		t.open--
	}
	t.free(x)
}

// dismiss tells that no Do waits for x any more.
func (t *table) dismiss(x *exchange) {
	if x.awaited {
		x.awaited = false
		t.awaited--
	}
}

// free gives up the id of x if nothing more will come of it.
func (t *table) free(x *exchange) {
	if x.answered && x.silent && t.slots[x.id-1] == x {
		t.slots[x.id-1] = nil
		t.used--
	}
}

// errNoID tells that all ids are taken, by requests that run or were given up.
var errNoID = errors.New("no request id is free: 65535 requests run on this connection or were given up; a Client takes more connections")

// begin puts x into the table and sees that somebody reads: if nobody did, it is
// the Do of x that leads.
func (c *Conn) begin(x *exchange) (leads bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shutting {
		return false, errClosed
	}
	if !c.requests.add(x) {
		return false, errNoID
	}
	switch {
	case !c.reading:
		c.reading, c.leading.by = true, x
		return true, nil
	case c.leading.by != nil:
		c.takeOver()
	}
	return false, nil
}

// tellOf notes that the application is about to hear of x.
func (c *Conn) tellOf(x *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.heardOf = true
}

// senderEnded tells that nothing more is sent for x.
func (c *Conn) senderEnded(x *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x.silent = true
	c.requests.free(x)
	c.admit()
}

// answered takes the end of x, and reports whether there is more to read. What is
// left in the buffer when all requests have been answered is nobody's: the next one
// would take it for its own, so it costs the connection.
func (c *Conn) answered(x *exchange, end protocol.End) (more bool) {
	c.mu.Lock()
	c.requests.answer(x)
	c.requests.dismiss(x)
	if end.Status == protocol.StatusCantMpxConn {
		c.mpx = mpxRefused
	}
	more = c.goOnReading()
	unsolicited := !more && c.requests.open == 0 && c.fromPeer.Buffered() > 0
	c.shutting = c.shutting || unsolicited
	c.admit()
	c.mu.Unlock()
	if unsolicited {
		c.shut(nil)
	}
	return more
}

// isAnswered reports whether the application has ended x.
func (c *Conn) isAnswered(x *exchange) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return x.answered
}

// forget ends x, of which the application has not heard.
func (c *Conn) forget(x *exchange) {
	c.mu.Lock()
	c.requests.answer(x)
	c.mu.Unlock()
	c.giveUp(x)
}

// giveUp ends x without an END_REQUEST. Alone on the connection it closes that;
// else its id stays taken if the application has heard of it.
func (c *Conn) giveUp(x *exchange) {
	c.mu.Lock()
	c.requests.dismiss(x)
	if c.leading.by == x {
		c.stopLeading()
	}
	c.mu.Unlock()
	c.shutIfAlone()
	x.in.finish(protocol.End{}, errOver)
}
