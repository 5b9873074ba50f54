package server

import (
	"fmt"
	"time"
)

// write sends whole records of r, or of no request. It waits for the client for as
// long as that takes something now and then, but not long once r has been
// cancelled. An error is ErrClientGone, and the connection is closed.
func (c *conn) write(r *request, b []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	return c.writeLocked(r, b)
}

func (c *conn) writeLocked(r *request, b []byte) error {
	if c.lost.Load() {
		return ErrClientGone
	}
	n := c.output.WriteNow(c.socket.rc, b)
	c.server.sent.Add(int64(n))
	if b = b[n:]; len(b) == 0 {
		return nil
	}
	c.writing.Store(r)
	defer c.writing.Store(nil)
	for len(b) > 0 {
		c.setWriteDeadline(r)
		n, err := c.writeSome(b[:c.piece(r, len(b))])
		c.server.sent.Add(int64(n))
		b = b[n:]
		if err != nil && !c.mayWriteOn(r, n, err) {
			return c.lose(err)
		}
	}
	return nil
}

// writeSome writes all of b, unless the deadline comes first.
func (c *conn) writeSome(b []byte) (int, error) {
	if rc := c.socket.rc; rc != nil {
		return c.output.WriteAll(rc, b)
	}
	return c.nc.Write(b)
}

// mayWriteOn reports whether a write that took n bytes until its deadline is to
// go on.
func (c *conn) mayWriteOn(r *request, n int, err error) bool {
	return n > 0 && c.isTimeout(err) && (r == nil || r.ctx.Err() == nil)
}

// setWriteDeadline gives the client write_timeout to take something.
func (c *conn) setWriteDeadline(r *request) {
	t := c.server.settings.Load().Limits.WriteTimeout
	cancelled := r != nil && r.ctx.Err() != nil
	if cancelled && (t == 0 || t > lingerTime) {
		t = lingerTime
	}
	var deadline time.Time // none; an earlier one may have been set
	if t > 0 {
		deadline = time.Now().Add(t)
	}
	c.nc.SetWriteDeadline(deadline)
	if r != nil && !cancelled && r.ctx.Err() != nil {
		c.setWriteDeadline(r) // hurry came in between
	}
}

// hurry shortens the wait for a client that does not take what is being written
// of r, which was cancelled: it must not keep the place to run.
func (c *conn) hurry(r *request) {
	if c.writing.Load() == r {
		c.setWriteDeadline(r)
	}
}

// lose closes a connection to which nothing can be written.
func (c *conn) lose(err error) error {
	c.lost.Store(true)
	c.cut()
	return fmt.Errorf("%w: %w", ErrClientGone, err)
}
