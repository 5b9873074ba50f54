package server

import "net"

// An heir is an Address that clients reach by a name of another one.
type heir struct {
	to    *Address
	takes func(local net.Addr) bool // by the name that the client has used
}

// Yield gives connections to another Address: those for whose local address takes is
// true. It gives those too that wait in the kernel and that Serve has still to accept. For
// the other Address they are as if it had accepted them. Requests that have begun stay
// with the Server under which they did, as with Move.
//
// It is called when another listener has replaced that of a, before a's Serve is told to
// end, and waits for nothing. An Address yields to newer ones only.
func (a *Address) Yield(to *Address, takes func(local net.Addr) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := heir{to, takes}
	a.heirs = append(a.heirs, h)
	moved := false
	for c, open := range a.conns {
		if takes(c.nc.LocalAddr()) {
			moved = a.giveLocked(c, open, to) || moved
		}
	}
	if moved {
		a.owner.Load().signalRoom()
		a.closeIfGoneLocked()
	}
}

// giveLocked gives one connection to another Address. It gives none to one that has
// ended.
func (a *Address) giveLocked(c *conn, open bool, to *Address) bool {
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.draining {
		return false
	}
	delete(a.conns, c)
	to.conns[c] = open
	c.address.Store(to)
	if from, pool := a.owner.Load(), to.owner.Load(); from != pool {
		from.removeConn(c, open)
		pool.addConn(c, open)
	}
	return true
}

// heirLocked is the Address that a has yielded a connection to, or nil.
func (a *Address) heirLocked(c *conn) *Address {
	for _, h := range a.heirs {
		if !h.takes(c.nc.LocalAddr()) {
			continue
		}
		if last := h.to.last(c); last != nil {
			return last
		}
	}
	return nil
}

// last is a if it still takes connections, else the last of its heirs that does, or nil.
func (a *Address) last(c *conn) *Address {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.draining {
		return a
	}
	return a.heirLocked(c)
}

// lock locks mu of the Address that c belongs to, and returns it.
func (c *conn) lock() *Address {
	for {
		a := c.address.Load()
		a.mu.Lock()
		if c.address.Load() == a {
			return a
		}
		a.mu.Unlock()
	}
}
