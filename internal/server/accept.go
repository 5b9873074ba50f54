package server

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// A Drainer is a listener that can take no new connections and yet return, by Accept,
// those that the kernel has accepted. After the last one Accept returns net.ErrClosed,
// also when Drain has returned an error.
type Drainer interface{ Drain() error }

// An Address is what connections belong to. Each request begins under the Server that
// has it at that moment, whichever had it when the connection was made.
type Address struct {
	// Context, if not nil, returns the context of a connection's requests: they have its
	// values, and end with an ErrShutdown when it does. It is set before Serve is called.
	Context func(net.Conn) context.Context

	owner atomic.Pointer[Server]              // changed with group.mu held
	give  atomic.Pointer[func(net.Conn) bool] // see HandOver
	pulse pulse                               // of the loop that accepts
	group
}

// NewAddress returns an address that s has.
func NewAddress(s *Server) *Address {
	a := &Address{group: group{conns: make(map[*conn]bool), gone: make(chan struct{})}}
	a.owner.Store(s)
	return a
}

// Move gives the address to another Server, with all connections: they count there
// from now on. What has begun stays with the Server under which it did, whose Drain
// waits for it. It does not wait for anything.
func (a *Address) Move(to *Server) {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := a.owner.Swap(to)
	if from == to {
		return
	}
	for c, open := range a.conns {
		from.remove(c, open)
		to.include(c, open)
	}
	from.signalRoom()
}

// Serve accepts connections of l and serves them until ctx ends. Then it drains l, if
// that is a Drainer, and closes it, lets requests go on for Settings.Grace, ends those
// that are left, and returns when nothing that it started is left. It returns an error
// when l breaks. It is called once.
//
// With Settings.Abandon it does not wait for ever: when a Runner has not returned
// by then, the goroutines of its request and connection are left behind, until it
// does, and the error is an ErrAbandoned that says how many requests there are.
func (a *Address) Serve(ctx context.Context, l net.Listener) error {
	drainer, drains := l.(Drainer)
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		if !drains {
			l.Close()
		} else if err := drainer.Drain(); err != nil {
			a.owner.Load().opt.Log.Warn("connections may be lost that nobody has accepted yet", "listener", l.Addr().String(), "error", err)
		}
	})
	err := a.accept(ctx, l)
	stopped := !stop()
	if stopped {
		<-closed // Accept may return before the descriptor is closed
	}
	if !stopped || drains {
		l.Close()
	}
	settings := a.owner.Load().settings.Load()
	left := a.drain(settings.Grace, settings.Abandon)
	a.owner.Load().logRest()
	if ctx.Err() != nil {
		return left
	}
	return errors.Join(err, left)
}

// accept admits connections until l is closed. Running out of descriptors or
// memory is survived: the connection waits in the kernel, but no longer than
// Settings.Grace when ctx has ended.
func (a *Address) accept(ctx context.Context, l net.Listener) error {
	const shortest, longest = 5 * time.Millisecond, time.Second
	_, drains := l.(Drainer)
	pause := shortest
	var giveUp time.Time
	nudger, isNudger := l.(Nudger)
	if isNudger {
		a.pulse.begin(nudger.Nudge)
	}
	defer a.pulse.end()
	for {
		a.pulse.beat()
		nc, err := l.Accept()
		if err == nil {
			pause = shortest
			a.start(ctx, nc)
			continue
		}
		if isNudger && errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if errors.Is(err, net.ErrClosed) || !isTemporary(err) {
			return err
		}
		if ctx.Err() != nil {
			if giveUp.IsZero() {
				giveUp = time.Now().Add(a.owner.Load().settings.Load().Grace)
			}
			if !drains || time.Now().After(giveUp) {
				return err
			}
			time.Sleep(shortest)
			continue
		}
		a.owner.Load().opt.Log.Warn("cannot accept a connection", "listener", l.Addr().String(), "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longest)
	}
}

// start serves a connection when there is room for it.
func (a *Address) start(ctx context.Context, nc net.Conn) {
	c := newConn(a, nc)
	a.admit(ctx, c)
	c.server().connsTotal.Add(1)
	go c.serve()
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
	a.owner.Load().remove(c, false)
	delete(a.conns, c)
	a.closeIfGoneLocked()
}

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

// include counts a connection that another Server had.
func (s *Server) include(c *conn, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	if open {
		s.open++
	}
}

// remove counts it no more.
func (s *Server) remove(c *conn, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if open {
		s.open--
	}
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
