package fcgi

import (
	"errors"
	"fmt"
	"io"

	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/protocol"
)

// startReader needs mu. The reader ends with the last request, when it has read
// its end, and when the connection does.
func (c *Conn) startReader() {
	if !c.reading {
		c.reading = true
		c.own.Go(c.read)
	}
}

// goOnReading needs mu, and is for the reader: after false it must return.
func (c *Conn) goOnReading() bool {
	c.reading = c.requests.awaited > 0 || c.query != nil
	if !c.reading {
		c.resume()
		c.leading.by = nil
	}
	return c.reading
}

// read gives each record to its request.
func (c *Conn) read() {
	for more := true; more; {
		rec, err := c.fromPeer.Next()
		if err == nil {
			more, err = c.dispatch(rec)
		}
		if err != nil {
			c.lose(err)
			return
		}
	}
}

// errUnsolicited tells that the application speaks of a request that was not sent
// or that it has ended: the next request would take that for its answer.
var errUnsolicited = fmt.Errorf("%w: application sent a record of a request that has ended or not begun", ErrNoEnd)

// dispatch passes over records of requests that were given up, and returns
// errUnsolicited for those of a request that cannot have any.
func (c *Conn) dispatch(rec protocol.Record) (more bool, err error) {
	if rec.IsManagement() {
		return c.answerQuery(rec), nil
	}
	c.mu.Lock()
	x := c.requests.active(rec.ID)
	c.mu.Unlock()
	if x == nil {
		return false, errUnsolicited
	}
	if c.toWake != &x.in {
		c.wake()
	}
	switch rec.Type {
	case protocol.TypeStdout, protocol.TypeStderr:
		c.toWake = &x.in
		x.in.put(rec.Type, rec.Content, c.closed)
	case protocol.TypeEndRequest:
		end, err := protocol.ParseEnd(rec.Content)
		if err != nil {
			return false, err
		}
		c.toWake = nil
		more = c.answered(x, end)
		x.in.finish(end, nil)
		return more, nil
	}
	return true, nil
}

// wake wakes the Do whose request got the last records.
func (c *Conn) wake() {
	if c.toWake != nil {
		c.toWake.notify()
		c.toWake = nil
	}
}

// A wakingReader reads from the connection for the reader. Before that may
// wait it wakes who has got something: once for all records of a read.
type wakingReader struct{ c *Conn }

// Read reads what has come.
func (r wakingReader) Read(p []byte) (int, error) {
	r.c.wake()
	return r.c.conn.Read(p)
}

// lose ends all that waits for the application with err, which has ended the reader.
func (c *Conn) lose(err error) {
	c.shut(nil)
	c.mu.Lock()
	switch {
	case c.reason != nil:
		err = c.reason
	case err == io.EOF:
		err = ErrNoEnd
	case err == errUnsolicited: // says all
	default:
		err = fmt.Errorf("read response: %w", nbio.Cause(err))
	}
	c.reading, c.leading.by = false, nil
	if q := c.query; q != nil {
		q.err = err
		if err == ErrNoEnd {
			q.err = errors.New("connection closed before GET_VALUES_RESULT")
		}
		c.query = nil
		close(q.done)
	}
	waiting := make([]*exchange, 0, c.requests.awaited)
	for _, x := range c.requests.slots {
		if x != nil && x.awaited {
			c.requests.dismiss(x)
			waiting = append(waiting, x)
		}
	}
	c.mu.Unlock()
	for _, x := range waiting {
		x.in.finish(protocol.End{}, err)
	}
}
