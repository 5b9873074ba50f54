package server

import (
	"io"
	"net"
	"sync"
)

// A conn is one transport connection: what reads it, what it carries, and what writes
// to it. Each of the three can be read alone. The read loop, serve, belongs to the
// first; it never writes to the socket and never waits for a request.
type conn struct {
	address *Address
	nc      net.Conn
	under   net.Conn // that nc speaks TLS over, or nil
	remote  string
	wg      sync.WaitGroup // all goroutines but the read loop

	in    intake
	table table
	out   outlet

	spooled budget // bytes in files of its requests
	memory  budget // bytes that they hold in memory
}

func newConn(a *Address, nc net.Conn) *conn {
	c := &conn{address: a, nc: nc}
	if layer, ok := nc.(interface{ NetConn() net.Conn }); ok { // a *tls.Conn
		c.under = layer.NetConn()
	}
	if a := nc.RemoteAddr(); a != nil {
		c.remote = a.String()
	}
	c.in.init(c)
	c.table.init(c)
	c.out.init(c)
	return c
}

// server is that of the pool which has the connection's address now.
func (c *conn) server() *Server { return c.address.pool.Load() }

// serve reads until the connection is of no use, then ends what it carries, and takes
// it off the lists when all its goroutines have returned.
func (c *conn) serve() {
	growReadStack(1)
	err := c.read()
	if err != nil && !c.in.isOver(err) {
		c.server().protocolError(errorKind(err))
		c.server().opt.Log.Debug("connection broken off", "remote", c.remote, "error", err)
	}
	c.out.lost.Store(true)
	c.cut()
	c.address.disconnected(c)
	c.table.clientGone()
	c.wg.Wait()
	c.address.forget(c)
}

func (c *conn) read() error {
	for {
		rec, err := c.in.next()
		if err == io.EOF && c.halfClosed() {
			err = c.awaitHangup()
		}
		if err != nil {
			return err
		}
		if err := c.table.take(rec); err != nil {
			return err
		}
		c.in.release()
	}
}
