package fcgi

import (
	"errors"
	"net"
	"os"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// longAgo as a deadline unblocks whoever reads.
var longAgo = time.Unix(1, 0)

// A leading says that the reader is no goroutine of its own but the Do of a
// request that is alone: its answer needs no copy and nobody has to be woken.
type leading struct {
	by          *exchange
	delivering  bool // it is in a Write of its caller's
	interrupted bool // a deadline of conn bids it stop
}

// takeOver makes a goroutine of its own the reader, since the leader has got a
// neighbour. It needs mu. A Write that goes on does not hold it up.
func (c *Conn) takeOver() {
	if !c.leading.delivering {
		c.stopLeading()
		return
	}
	c.resume()
	c.fromPeer = c.fromPeer.Rest()
	c.leading = leading{}
	c.own.Go(c.read)
}

// stopBeingReader lets somebody else read, if x does: its Do ends within a Write.
func (c *Conn) stopBeingReader(x *exchange) {
	c.mu.Lock()
	leads := c.leading.by == x
	shutting := c.shutting
	if leads && !shutting {
		c.takeOver()
	}
	c.mu.Unlock()
	if leads && shutting { // nobody would wait for a goroutine, and the connection ends
		c.lose(net.ErrClosed)
	}
}

// stopLeading interrupts the leader when it next reads. It needs mu.
func (c *Conn) stopLeading() {
	c.leading.interrupted = true
	_ = c.conn.SetReadDeadline(longAgo)
}

// resume ends an interruption, and reports whether there was one. It needs mu.
func (c *Conn) resume() bool {
	if !c.leading.interrupted {
		return false
	}
	c.leading.interrupted = false
	_ = c.conn.SetReadDeadline(time.Time{})
	return true
}

// lead is read by the Do of x. It returns when x is over or somebody else reads;
// what it did not deliver itself is in the inbox.
func (c *Conn) lead(x *exchange) {
	for more := true; more; {
		rec, err := c.fromPeer.Next()
		c.mu.Lock()
		switch {
		case c.resume():
			c.leading.by = nil
			c.mu.Unlock()
			c.handOver(rec, err)
			return
		case err == nil && c.requests.active(rec.ID) == x && isOutput(rec.Type):
			c.leading.delivering = true
			c.mu.Unlock()
			x.write(rec.Type, rec.Content)
			c.mu.Lock()
			if c.leading.by == x {
				c.leading.delivering = false
			} else {
				more = false
			}
			c.mu.Unlock()
			continue
		}
		c.mu.Unlock()
		if err == nil {
			more, err = c.dispatch(rec)
		}
		if err != nil {
			c.lose(err)
			return
		}
	}
}

// handOver gives a record or an error that the leader got last to a reader of
// its own goroutine, if there is more to read.
func (c *Conn) handOver(rec protocol.Record, err error) {
	more := true
	switch {
	case err == nil:
		more, err = c.dispatch(rec)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = nil
		c.mu.Lock()
		more = c.goOnReading()
		c.mu.Unlock()
	}
	if err != nil {
		c.lose(err)
		return
	}
	if !more {
		return
	}
	c.mu.Lock()
	shutting := c.shutting
	if !shutting {
		c.own.Go(c.read)
	}
	c.mu.Unlock()
	if shutting { // nobody would wait for a goroutine, and the connection ends
		c.read()
	}
}

func isOutput(t protocol.Type) bool {
	return t == protocol.TypeStdout || t == protocol.TypeStderr
}
