package server

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"
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

	_        cpu.CacheLinePad // all requests read what is above
	accepted atomic.Uint32    // connections so far
	pulse    pulse            // of the loops that accept
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
		from.removeConn(c, open)
		to.addConn(c, open)
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
	var others sync.WaitGroup
	accepting, hurry := context.WithCancel(ctx) // ends when l breaks: nobody waits for room any more
	for range acceptors() - 1 {
		others.Go(func() {
			defer hurry()
			a.accept(accepting, l)
		})
	}
	err := a.acceptFirst(accepting, l)
	hurry()
	stopped := !stop()
	if stopped {
		<-closed // Accept may return before the descriptor is closed
	}
	if !stopped || drains {
		l.Close()
	}
	others.Wait() // they have what they have accepted served
	settings := a.owner.Load().settings.Load()
	left := a.drain(settings.Grace, settings.Abandon)
	a.owner.Load().logRest()
	if ctx.Err() != nil {
		return left
	}
	return errors.Join(err, left)
}

// acceptors is how many goroutines accept the connections of an address. One of them takes in
// some hundred thousand a second, which is more than a dozen CPUs answer that come for one
// request each.
func acceptors() int { return 1 + (runtime.GOMAXPROCS(0)-1)/16 }

// acceptFirst is accept of the one that begins and ends the pulse. All of them beat: a nudge
// wakes the one that waits in Accept, whichever it is, and Probe sees that one comes round.
func (a *Address) acceptFirst(ctx context.Context, l net.Listener) error {
	if nudger, ok := l.(Nudger); ok {
		a.pulse.begin(nudger.Nudge)
	}
	defer a.pulse.end()
	return a.accept(ctx, l)
}

// accept admits connections until l is closed. Running out of descriptors or
// memory is survived: the connection waits in the kernel, but no longer than
// Settings.Grace when ctx has ended.
func (a *Address) accept(ctx context.Context, l net.Listener) error {
	const shortest, longest = 5 * time.Millisecond, time.Second
	_, drains := l.(Drainer)
	pause := shortest
	var giveUp time.Time
	_, isNudger := l.(Nudger)
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
