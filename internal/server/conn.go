package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
)

// A conn is one transport connection: what reads it, what it carries, and what writes
// to it. Each of the three can be read alone. The read loop belongs to the first; it
// never writes to the socket and never waits for a request: while one runs where it was
// read, the loop is soon another goroutine's (runInPlace).
type conn struct {
	address atomic.Pointer[Address] // changed with mu of the one before held
	nc      net.Conn
	under   net.Conn // that nc speaks TLS over, or nil
	remote  string
	number  uint32          // of those of its Address; says which lane it has
	parent  context.Context // see Address.Context
	values  context.Context // parent without its end
	wg      sync.WaitGroup  // all goroutines but the read loop
	all     *Memory         // nil: nothing is counted

	unfollow func() // ends followParent; of the read loop

	in      intake
	inPlace inPlace
	table   table
	out     outlet

	spooled budget // bytes in files of its requests
	memory  budget // bytes that they hold in memory, and its own buffers
}

// charge counts n bytes that a buffer of the connection has, or has no more.
func (c *conn) charge(n int64) {
	if c.all != nil {
		c.memory.add(n)
		c.all.add(c.number, n)
	}
}

func newConn(a *Address, nc net.Conn) *conn {
	c := &conn{nc: nc, number: a.accepted.Add(1), parent: context.Background(), all: a.owner.Load().opt.Memory}
	c.address.Store(a)
	c.values = c.parent
	if a.Context != nil {
		c.parent = a.Context(nc)
		c.values = context.WithoutCancel(c.parent)
	}
	if layer, ok := nc.(interface{ NetConn() net.Conn }); ok { // a *tls.Conn
		c.under = layer.NetConn()
	}
	if a := nc.RemoteAddr(); a != nil {
		c.remote = nameOf(a)
	}
	c.in.init(c)
	c.table.init(c)
	c.out.init(c)
	return c
}

// nameOf is what a peer is called: that of a Unix socket has no address, as a rule.
func nameOf(a net.Addr) string {
	if name := a.String(); a.Network() != "unix" || strings.Trim(name, "@") != "" {
		return name
	}
	return "unix"
}

// server is that of the pool which has the connection's address now.
func (c *conn) server() *Server { return c.address.Load().owner.Load() }

// lane is that in which it counts now.
func (c *conn) lane() *lane { return c.server().lane(c.number) }

// serve is the read loop from its beginning.
func (c *conn) serve() {
	growReadStack(false)
	c.unfollow = c.followParent()
	c.readLoop()
}

// readLoop reads until the connection is of no use, then ends what it carries, and takes
// it off the lists when all its goroutines have returned. It may leave that to another
// goroutine, which goes on where it was.
func (c *conn) readLoop() {
	err := c.read()
	switch {
	case err == errReadOn:
		return
	case err == errRenew:
		go c.readOn()
		return
	}
	if err != nil && !c.in.isOver(err) {
		c.server().protocolError(errorKind(err))
		c.server().opt.Log.Debug("connection broken off", "remote", c.remote, "error", err)
	}
	c.out.lost.Store(true)
	c.cut()
	c.disconnected()
	c.table.clientGone()
	c.unfollow()
	c.charge(-int64(c.in.counted))
	c.wg.Wait()
	c.forget()
}

func (c *conn) read() error {
	for {
		rec, err := c.in.next()
		if err == io.EOF && c.halfClosed() {
			err = c.awaitHangup()
		}
		if err == errStopped {
			if err = c.giveAway(err); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if err := c.table.handle(rec); err != nil {
			return err
		}
		c.in.trim()
		if !c.runInPlace() {
			return errReadOn
		}
	}
}

// followParent ends the requests when the parent context does.
func (c *conn) followParent() (stop func()) {
	if c.parent.Done() == nil {
		return func() {}
	}
	ended := make(chan struct{})
	forget := context.AfterFunc(c.parent, func() {
		defer close(ended)
		c.table.endAll(c.parentEnd())
	})
	return func() {
		if !forget() {
			<-ended
		}
	}
}

// parentEnd is why requests cannot go on if the parent context has ended, else nil.
func (c *conn) parentEnd() error {
	if c.parent.Err() == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrShutdown, context.Cause(c.parent))
}

// disconnected is called when c has no client any more. Its requests may go on.
func (c *conn) disconnected() {
	a := c.lock()
	defer a.mu.Unlock()
	s := a.owner.Load()
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	a.conns[c] = false
	s.signalRoom()
}

// forget is called when nothing of c is left.
func (c *conn) forget() {
	a := c.lock()
	defer a.mu.Unlock()
	a.owner.Load().removeConn(c, false)
	delete(a.conns, c)
	a.closeIfGoneLocked()
}
