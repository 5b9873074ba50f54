package server

import (
	"context"
	"slices"
	"time"
)

const (
	// idleForRoom is how long a connection has to be without a request to be closed
	// for the sake of a new one.
	idleForRoom = time.Second
	// roomEvery is how often a connection that waits for room looks for such a one.
	roomEvery = 250 * time.Millisecond
)

// admit takes c into the pool. Where max_conns are open it makes room by one that is
// idle, or waits, and all that come later wait in the kernel meanwhile. It does not wait
// once ctx has ended: what the kernel had accepted by then is served.
func (a *Address) admit(ctx context.Context, c *conn) {
	if a.enter(c, false) {
		return
	}
	c.server().protocolError(kindConnections)
	ticker := time.NewTicker(roomEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		a.pulse.beat()
		s := c.server()
		s.makeRoom()
		select {
		case <-s.room:
		case <-ticker.C: // another Server may have the address now
		case <-ctx.Done():
		}
		if a.enter(c, false) {
			return
		}
	}
	a.enter(c, true)
}

// enter takes c in if there is room, or without. It belongs to a, or to an heir.
func (a *Address) enter(c *conn, force bool) bool {
	for {
		at := c.lock()
		next := at.heirLocked(c)
		if next == nil && at.draining {
			next = a // whose own end waits for what it accepts
		}
		if next == nil {
			defer at.mu.Unlock()
			return at.addLocked(c, force)
		}
		c.address.Store(next)
		at.mu.Unlock()
	}
}

func (a *Address) addLocked(c *conn, force bool) bool {
	s := a.owner.Load()
	limit := s.settings.Load().Limits.MaxConns
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit > 0 && s.open >= limit && !force {
		return false
	}
	c.table.startIdle() // not when it was accepted: it may have waited for room since
	s.open++
	s.conns[c] = struct{}{}
	a.conns[c] = true
	return true
}

// signalRoom wakes who waits for room.
func (s *Server) signalRoom() {
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// makeRoom closes a connection that is idle: one that has never had a request if there
// is one, and of those that are equal the one that has been idle for longest.
func (s *Server) makeRoom() {
	s.mu.Lock()
	idle := make([]idleConn, 0, len(s.conns))
	for c := range s.conns {
		if since, used, ok := c.table.idleSince(); ok && time.Since(since) >= idleForRoom {
			idle = append(idle, idleConn{c, since, used})
		}
	}
	s.mu.Unlock()
	slices.SortFunc(idle, func(a, b idleConn) int {
		if a.used != b.used {
			if b.used {
				return -1
			}
			return 1
		}
		return a.since.Compare(b.since)
	})
	for _, i := range idle {
		if i.conn.table.closeIdle() {
			return
		}
	}
}

type idleConn struct {
	conn  *conn
	since time.Time
	used  bool
}

// addConn counts a connection that another Server had.
func (s *Server) addConn(c *conn, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	if open {
		s.open++
	}
}

// removeConn counts it no more.
func (s *Server) removeConn(c *conn, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if open {
		s.open--
	}
}
