package pool

import (
	"context"
	"fmt"
	"maps"

	"github.com/fcgid/fcgid/internal/status"
)

// A Brief is a pool in a few numbers, which cost a few locks.
type Brief struct {
	Name     string
	State    string // one of package status
	Running  int    // requests
	Waiting  int    // requests, for a place or a worker
	Served   int64  // requests that have ended since the pool's start
	Workers  int    // that have not ended
	Degraded bool   // its workers cannot be started
}

// Briefs are those of all pools, and then of those that drain.
func (s *Set) Briefs() (all []Brief) {
	for _, p := range s.withDraining() {
		now := p.server.Snapshot()
		b := Brief{Name: p.name, State: p.state(now.Gate), Running: now.InFlight, Waiting: now.Queued, Served: now.Served}
		if w := p.workersNow(); w != nil {
			n := w.Numbers()
			b.Workers, b.Degraded = n.Total(), n.Degraded
			b.Running, b.Waiting = max(b.Running-n.Waiting, 0), b.Waiting+n.Waiting
		}
		all = append(all, b)
	}
	return all
}

// Oldest is the request of a pool which drains that was begun first, and how many there
// are in such pools of that name.
func (s *Set) Oldest(pool string) (oldest status.Request, open int) {
	for _, p := range s.withDraining() {
		if p.name != pool || !p.isDraining() {
			continue
		}
		requests := p.server.Requests()
		open += len(requests)
		if len(requests) > 0 && (oldest.ID == 0 || requests[0].Serial < oldest.ID) {
			oldest = describeRequest(requests[0])
		}
	}
	return oldest, open
}

// Probe goes the way of a request, as far as that is the daemon's own, through each pool
// of the configuration: the loops that accept its connections, admission, its workers. It
// returns when it has come through, and does not while something stands still; at is
// called with what it looks at next. That a pool is full, paused or drained is no failure.
func (s *Set) Probe(ctx context.Context, at func(what string)) error {
	at("the pools")
	for _, p := range s.list() {
		p.mu.Lock()
		endpoints := maps.Clone(p.endpoints)
		p.mu.Unlock()
		for address, e := range endpoints {
			if e.IsDirect() {
				continue // nobody here accepts
			}
			at(fmt.Sprintf("pool %s: who accepts connections at %s", p.name, address))
			if err := e.address.Probe(ctx); err != nil {
				return err
			}
		}
		at(fmt.Sprintf("pool %s: admission", p.name))
		if err := p.server.Probe(); err != nil {
			return err
		}
		if w := p.workersNow(); w != nil {
			at(fmt.Sprintf("pool %s: the workers' queue", p.name))
			w.Numbers()
		}
	}
	return nil
}
