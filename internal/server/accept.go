package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Drainer is a listener that can take no new connections and yet return, by Accept,
// those that the kernel has accepted. After the last one Accept returns net.ErrClosed,
// also when Drain has returned an error.
type Drainer interface{ Drain() error }

// Serve accepts connections of l and serves them until ctx ends. Then it drains l, if
// that is a Drainer, and closes it, lets requests go on for Settings.Grace, ends those
// that are left, and returns when nothing that it started is left. It returns an error
// when l breaks.
//
// With Settings.Abandon it does not wait for ever: when a Runner has not returned
// by then, the goroutines of its request and connection are left behind, until it
// does, and the error is an ErrAbandoned that says how many requests there are.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	drainer, drains := l.(Drainer)
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		if !drains {
			l.Close()
		} else if err := drainer.Drain(); err != nil {
			s.opt.Log.Warn("connections may be lost that nobody has accepted yet", "listener", l.Addr().String(), "error", err)
		}
	})
	g := &group{conns: make(map[*conn]struct{}), gone: make(chan struct{})}
	a := new(address)
	a.pool.Store(s)
	err := a.accept(ctx, l, g)
	stopped := !stop()
	if stopped {
		<-closed // Accept may return before the descriptor is closed
	}
	if !stopped || drains {
		l.Close()
	}
	settings := s.settings.Load()
	left := g.drain(settings.Grace, settings.Abandon)
	s.logRest()
	if ctx.Err() != nil {
		return left
	}
	return errors.Join(err, left)
}

// accept admits connections until l is closed. Running out of descriptors or
// memory is survived: the connection waits in the kernel, but no longer than
// Settings.Grace when ctx has ended.
func (a *address) accept(ctx context.Context, l net.Listener, g *group) error {
	const shortest, longest = 5 * time.Millisecond, time.Second
	_, drains := l.(Drainer)
	pause := shortest
	var giveUp time.Time
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = shortest
			a.start(ctx, nc, g)
			continue
		}
		if errors.Is(err, net.ErrClosed) || !isTemporary(err) {
			return err
		}
		if ctx.Err() != nil {
			if giveUp.IsZero() {
				giveUp = time.Now().Add(a.pool.Load().settings.Load().Grace)
			}
			if !drains || time.Now().After(giveUp) {
				return err
			}
			time.Sleep(shortest)
			continue
		}
		a.pool.Load().opt.Log.Warn("cannot accept a connection", "listener", l.Addr().String(), "error", err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longest)
	}
}

// An address is what connections belong to. Each request begins under the pool that
// has it at that moment.
type address struct {
	pool atomic.Pointer[Server]
}

// start serves a connection when there is room for it.
func (a *address) start(ctx context.Context, nc net.Conn, g *group) {
	s := a.pool.Load()
	s.connsTotal.Add(1)
	c := newConn(a, nc, g)
	s.admit(ctx, c)
	g.add(c)
	go c.serve()
}

// disconnected is called when c has no client any more. Its requests may go on.
func (a *address) disconnected() {
	s := a.pool.Load()
	s.mu.Lock()
	s.open--
	s.mu.Unlock()
	select {
	case s.room <- struct{}{}:
	default:
	}
}

// forget is called when nothing of c is left.
func (a *address) forget(c *conn) {
	s := a.pool.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
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
func (s *Server) admit(ctx context.Context, c *conn) {
	if s.add(c, false) {
		return
	}
	s.protocolError(kindConnections)
	ticker := time.NewTicker(roomEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		s.makeRoom()
		select {
		case <-s.room:
		case <-ticker.C:
		case <-ctx.Done():
		}
		if s.add(c, false) {
			return
		}
	}
	s.add(c, true)
}

// add takes c into the table if there is room, or without.
func (s *Server) add(c *conn, force bool) bool {
	limit := s.settings.Load().Limits.MaxConns
	s.mu.Lock()
	defer s.mu.Unlock()
	if limit > 0 && s.open >= limit && !force {
		return false
	}
	s.open++
	s.conns[c] = struct{}{}
	return true
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

// A group is the connections of one listener: what its Serve waits for.
type group struct {
	gone chan struct{} // closed when the last connection of a drained group is

	mu       sync.Mutex // guards the fields below
	conns    map[*conn]struct{}
	draining bool
}

// add is not to be called once drain was.
func (g *group) add(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[c] = struct{}{}
}

func (g *group) remove(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	g.closeIfGoneLocked()
}

func (g *group) closeIfGoneLocked() {
	if g.draining && len(g.conns) == 0 {
		close(g.gone)
	}
}

// drain lets the connections end by themselves for grace, then ends their
// requests, and a little later closes those whose clients do not take that.
// Unless abandon is 0 it waits no longer than that for what is left then. The
// error tells of it.
func (g *group) drain(grace, abandon time.Duration) error {
	g.each((*table).drain)
	end := time.AfterFunc(grace, func() {
		g.each((*table).force)
	})
	defer end.Stop()
	cut := time.AfterFunc(grace+lingerTime, func() {
		g.each(func(t *table) { t.conn.cut() })
	})
	defer cut.Stop()
	var enough <-chan time.Time
	if abandon > 0 {
		timer := time.NewTimer(grace + lingerTime + abandon)
		defer timer.Stop()
		enough = timer.C
	}
	g.mu.Lock()
	g.draining = true
	g.closeIfGoneLocked()
	g.mu.Unlock()
	select {
	case <-g.gone:
		return nil
	case <-enough:
		left := 0
		g.each(func(t *table) { left += t.running() })
		return fmt.Errorf("%w: %d are left", ErrAbandoned, left)
	}
}

func (g *group) each(do func(*table)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		do(&c.table)
	}
}
