package pool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/plural"
	"github.com/fcgid/fcgid/internal/server"
)

// directSettled is how long a direct worker has to live to count as started: nobody sees
// whether it answers.
const directSettled = time.Second

// errStays is that of an address which another pool is to have.
var errStays = errors.New("direct workers have its socket, which no other pool can have with them: restart the daemon, or give the pool another address")

// mayGoOn is why what a pool gives up at an address cannot be what another one, or the same
// with other keys, goes on with: the socket of direct workers stays theirs.
func (e *endpoint) mayGoOn(as *config.Pool, isTheSame bool) error {
	err := listen.ErrOtherMode
	if e.IsDirect() == as.IsDirect() {
		if isTheSame || !e.IsDirect() {
			return nil
		}
		err = errStays
	}
	return fmt.Errorf("pool %s: listen %s: %w", as.Name, e.Options().Address, err)
}

// isReplaced reports whether a pool that runs is retired as a whole, and another one of its
// name has its place: direct workers go with their socket.
func (p *Plan) isReplaced(running *pool, cfg *config.Pool) bool {
	if running == nil {
		return false
	}
	return running.cfg.IsDirect() != cfg.IsDirect() || cfg.IsDirect() && len(p.opened[cfg.Name]) > 0
}

// directEndpoint has the workers of a pool accept the connections of l, until it is stopped:
// then nothing new comes, and what waits is theirs for as long as requests may go on.
func (s *Set) directEndpoint(p *pool, l *listen.Listener) *endpoint {
	ctx, stop := context.WithCancel(context.Background())
	e := &endpoint{Listener: l, address: server.NewAddress(p.server), stop: stop, pool: p}
	p.attach(e)
	s.opt.Logs.With("pool", p.name).Info("listening", "address", l.Options().Address, "connections", "direct")
	workers := p.workers
	p.serving.Go(func() {
		<-ctx.Done()
		p.mu.Lock()
		grace := p.settings.Grace
		p.mu.Unlock()
		if err := exhaust(l, workers, grace); err != nil {
			s.opt.Logs.With("pool", p.name).Warn("connections may be lost that no worker has accepted yet", "error", err)
		}
	})
	return e
}

// exhaustPause is how often it is looked whether workers have accepted all that waits.
const exhaustPause = 10 * time.Millisecond

// exhaust closes a listener when its workers have accepted all that waited, or grace is over.
func exhaust(l *listen.Listener, workers *workerPool, grace time.Duration) error {
	defer l.Close()
	stopped, stopErr := l.StopDirect() // after an error more may come
	if !stopped {
		return stopErr
	}
	until := time.Now().Add(grace)
	for quiet := 0; quiet < 2; { // the last packet of a handshake may be on its way
		n, err := l.AcceptQueue()
		if quiet++; err != nil || n > 0 { // an unknown queue is empty when the last worker has left
			quiet = 0
		}
		isOver := workers.Exhaust() == 0
		switch {
		case isOver && n == 0, err != nil && isOver:
			return stopErr
		case isOver || time.Now().After(until):
			return errors.Join(stopErr, err, fmt.Errorf("%d wait", n))
		}
		time.Sleep(exhaustPause)
	}
	return stopErr
}

// directRoom is why no more should be sent to direct workers; "" is that nothing is known against it.
func (p *pool) directRoom(room int) (reason string) {
	var waiting int
	for _, n := range p.acceptQueues() {
		waiting += int(n)
	}
	if room == 0 || waiting == 0 {
		return ""
	}
	return fmt.Sprintf("pool %s is full: %s waiting for a worker", p.name, plural.Of(waiting, "connection"))
}

// undirect is the error of an order that only the daemon's own connections can obey.
func (p *pool) undirect(what string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cfg.IsDirect() {
		return fmt.Errorf("pool %s: its workers accept connections themselves (connections: direct), so it cannot be %s", p.name, what)
	}
	return nil
}
