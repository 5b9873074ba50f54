package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/logs"
	"github.com/fcgid/fcgid/internal/server"
)

// An endpoint is an address that a pool serves, until stop is called. It may go over
// to another pool, with its connections and the goroutine that serves them: the pool
// that has it, or had it when it was stopped, waits for that.
type endpoint struct {
	*listen.Listener
	address *server.Address
	stop    context.CancelFunc

	mu   sync.Mutex // guards the fields below
	pool *pool
	over bool // its goroutine has come to its end
}

// serve begins to serve l. A listener that breaks ends the daemon: it would look
// alive and not be.
func (s *Set) serve(p *pool, l *listen.Listener) *endpoint {
	if l.IsDirect() {
		return s.directEndpoint(p, l)
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &endpoint{Listener: l, address: server.NewAddress(p.server), stop: stop, pool: p}
	l.OnRefused = e.refused(s)
	p.attach(e)
	s.opt.Logs.With("pool", p.name).Info("listening", "address", l.Options().Address)
	p.serving.Add(1)
	go func() {
		defer stop()
		err := e.address.Serve(ctx, l)
		p := e.finish()
		defer p.serving.Done()
		switch {
		case err == nil:
		case errors.Is(err, server.ErrAbandoned):
			s.opt.Logs.With("pool", p.name).Warn("pool stopped with functions that do not return", "error", err)
		default:
			s.opt.Broken(fmt.Errorf("pool %s cannot accept connections: %w", p.name, err))
		}
	}()
	return e
}

// refused counts and logs who may not connect; the log must not be filled by them.
func (e *endpoint) refused(s *Set) func(client string, reason error) {
	sampled := logs.Sampled(s.opt.Logs.Logger)
	return func(client string, reason error) {
		pool := e.owner().name
		s.opt.Metrics.Pool(pool).Refused()
		sampled.Warn("connection refused", "pool", pool, "client", client, "error", reason)
	}
}

func (e *endpoint) owner() *pool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pool
}

// finish returns the pool that waits for the endpoint's goroutine. It does not change
// after that.
func (e *endpoint) finish() *pool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	return e.pool
}

// takeOver has a pool that runs serve an endpoint which another one has served, or the same
// by another name. It cannot fail.
func (s *Set) takeOver(p *pool, e *endpoint) {
	e.move(p)
	p.attach(e)
	s.opt.Logs.With("pool", p.name).Info("listening", "address", e.Options().Address)
}

func (e *endpoint) move(to *pool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if from := e.pool; from != to && !e.over {
		to.serving.Add(1)
		from.serving.Done()
		e.pool = to
	}
	e.address.Move(to.server)
}

// attach has the pool have an endpoint, by the name that its options have.
func (p *pool) attach(e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endpoints[e.Options().Address] = e
}

// detach is its opposite.
func (p *pool) detach(e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for address, is := range p.endpoints {
		if is == e {
			delete(p.endpoints, address)
		}
	}
}

// remove takes an address off the pool and returns its endpoint. That is to be stopped;
// what is in flight on it ends.
func (p *pool) remove(address string) *endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.endpoints[address]
	delete(p.endpoints, address)
	return e
}

// handed is the endpoint of the socket that was handed to this process at a place, or nil.
func (p *pool) handed(place int) *endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.endpoints {
		if at, ok := e.Place(); ok && at == place {
			return e
		}
	}
	return nil
}

func listenOptions(l config.Listen, direct bool) listen.Options {
	return listen.Options{
		Address: l.Address, Mode: l.Mode, Owner: l.Owner, Group: l.Group,
		Backlog: l.Backlog, Allow: l.Allow, AllowUIDs: l.AllowUIDs, Direct: direct,
	}
}
