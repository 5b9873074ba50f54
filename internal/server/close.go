package server

import (
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lingerTime is how long a connection that we close is still read, so that a
	// client which sends gets its answer and not a reset.
	lingerTime = 3 * time.Second
	// lastCallTime is how long a drained connection waits for a request that its
	// client has sent, or will since it has just connected.
	lastCallTime = time.Second
)

// closeWhenDone closes the connection once all is answered.
func (c *conn) closeWhenDone() {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	c.closeIfDone()
}

// drain closes the connection once all is answered. A request that is on its
// way is answered too: its client cannot know that nobody wants it.
func (c *conn) drain() {
	c.mu.Lock()
	c.draining = true
	c.mu.Unlock()
	c.closeWhenDone()
}

// force ends the requests, and the connection after them.
func (c *conn) force() {
	c.mu.Lock()
	c.forced = true
	c.mu.Unlock()
	c.cancelAll(ErrShutdown)
	c.closeIfDone()
}

// closeIfDone closes a connection that is closing once the last answer is out.
// What it decides holds: no request can begin in between.
func (c *conn) closeIfDone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	done := c.closing && len(c.table) == 0 && c.ending == 0 && !c.flushing
	if !done || c.lost.Load() {
		return
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	switch {
	case c.unread && !c.forced && ok:
		c.finishLocked(half.CloseWrite)
		c.stopReadingAt(&c.lingering, lingerTime)
	case c.draining && !c.forced && (!c.used || c.unhandled.Load() || c.hasInput()):
		c.stopReadingAt(&c.lastCall, lastCallTime)
	case c.under != nil:
		c.stopReadingAt(&c.lingering, lingerTime)
		c.finishLocked(c.nc.Close)
	default:
		c.nc.Close()
	}
}

// stopReadingAt lets the read loop end after d, as when says from now on.
func (c *conn) stopReadingAt(when *atomic.Int64, d time.Duration) {
	until := time.Now().Add(d)
	when.Store(until.UnixNano())
	c.nc.SetReadDeadline(until)
}

// hasInput reports whether the client has sent something that was not read.
func (c *conn) hasInput() bool {
	sc, ok := c.nc.(syscall.Conn) // also one that embeds a socket
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n > 0
}
