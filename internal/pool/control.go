package pool

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/status"
)

// named is a pool that runs, or an error that says which there are.
func (s *Set) named(name string) (*pool, error) {
	pools := s.running()
	if p := pools[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("no pool %q; there is %s", name, strings.Join(slices.Sorted(maps.Keys(pools)), ", "))
}

// SetGate says what becomes of a pool's requests that could run. It holds until it is
// called again or the pool is removed: a reload does not change it.
func (s *Set) SetGate(name string, g server.Gate) error {
	p, err := s.named(name)
	if err == nil {
		err = p.undirect("paused or drained")
	}
	if err != nil {
		return err
	}
	p.server.SetGate(g)
	return nil
}

// Refuse has a pool take no requests any more, if its gate is still GateLeave.
func (s *Set) Refuse(name string) error {
	p, err := s.named(name)
	if err != nil {
		return err
	}
	if !p.server.ChangeGate(server.GateLeave, server.GateRefuse) {
		return fmt.Errorf("pool %s: another order has ended the notice", name)
	}
	return nil
}

// IsLeaving reports whether a pool's gate is GateLeave.
func (s *Set) IsLeaving(name string) bool {
	p := s.running()[name]
	return p != nil && p.server.Snapshot().Gate == server.GateLeave
}

// Busy is how many requests a pool runs, and how many wait. A pool that is gone has none.
func (s *Set) Busy(name string) (running, queued int) {
	p := s.running()[name]
	if p == nil {
		return 0, 0
	}
	now := p.server.Snapshot()
	return now.InFlight, now.Queued
}

// Kill ends a request of whatever pool, with all that runs for it. It returns the pool
// and what the request was; false when there is none of that serial.
func (s *Set) Kill(serial uint64, reason error) (pool string, r status.Request, ok bool) {
	for _, p := range s.withDraining() {
		if info, ok := p.server.Kill(serial, reason); ok {
			return p.name, describeRequest(info), true
		}
	}
	return "", status.Request{}, false
}

// Recycle has a pool replace its workers, and returns how many there are to be
// replaced; Progress tells how far that has come. Like Plan it is for the one goroutine
// that plans.
func (s *Set) Recycle(name string) (workers int, err error) {
	p, err := s.named(name)
	switch {
	case err != nil:
		return 0, err
	case p.workers == nil:
		return 0, fmt.Errorf("pool %s has no workers: %s", name, recycleless[p.cfg.Runner()])
	}
	p.workers.recycled++
	s.updateWorkers(p, &p.cfg)
	return p.workers.replaces, nil
}

// recycleless is why there is nothing to recycle.
var recycleless = map[string]string{
	"process":  "each request has a process of its own, which reads its program anew",
	"function": "its functions are part of the daemon",
}

// Scale changes how many requests a pool does at once: worker.max, or
// limits.max_reqs of a pool without workers. It returns which, and what that was. It holds
// until the next reload. Like Plan it is for the one goroutine that plans.
func (s *Set) Scale(name string, n int) (key string, before int, err error) {
	p, err := s.named(name)
	if err != nil {
		return "", 0, err
	}
	scaled, key := p.cfg, "limits.max_reqs"
	before = p.settings.Limits.MaxReqs
	if p.cfg.Worker != nil {
		w := *p.cfg.Worker
		key, before, w.Max = "worker.max", w.Max, n
		scaled.Worker = &w
	} else {
		scaled.Limits.MaxReqs = n
	}
	if most := config.MostAtOnce(&p.cfg); n < 1 || n > most {
		return "", 0, fmt.Errorf("pool %s: %s must be from 1 to %d, not %d", name, key, most, n)
	}
	s.configurePool(p, scaled, s.global(), nil)
	return key, before, nil
}

// global is the configuration in force.
func (s *Set) global() *config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

// Progress is how far a pool's workers have come to what is in force. A pool without
// workers has come to its end.
func (s *Set) Progress(name string) worker.Progress {
	if p := s.running()[name]; p != nil {
		if w := p.workersNow(); w != nil {
			return w.Progress()
		}
	}
	return worker.Progress{Ready: true}
}

// Diff is what cfg changes in what runs. Like Plan it is for the one goroutine that
// plans. Workers are not told of: see Replaces.
func (s *Set) Diff(cfg *config.Config) status.Changes {
	changes := status.Changes{Changed: s.global().Diff(cfg), Pools: []status.PoolChange{}}
	running := s.running()
	for i := range cfg.Pools {
		changes.Pools = append(changes.Pools, running[cfg.Pools[i].Name].change(&cfg.Pools[i]))
	}
	for _, p := range s.list() {
		if cfg.Named(p.name) == nil {
			changes.Pools = append(changes.Pools, status.PoolChange{Name: p.name, Change: status.Removed})
		}
	}
	slices.SortFunc(changes.Pools, func(a, b status.PoolChange) int { return cmp.Compare(a.Name, b.Name) })
	return changes
}

// change is what becomes of a pool, which is nil if there is none of that name yet.
func (p *pool) change(to *config.Pool) status.PoolChange {
	if p == nil {
		return status.PoolChange{Name: to.Name, Change: status.Added}
	}
	c := status.PoolChange{Name: to.Name, Change: status.Unchanged, State: gateStates[p.server.Snapshot().Gate]}
	if !reflect.DeepEqual(p.cfg, *to) {
		c.Change, c.Changed = status.Changed, p.cfg.Diff(to)
	}
	return c
}

// gateStates are what orders have made of a pool.
var gateStates = map[server.Gate]string{server.GateHold: status.Paused, server.GateRefuse: status.Drained, server.GateLeave: status.Leaving}

// Replaces is how many workers of a pool the last Commit is to replace. It is for a pool
// that this has changed, or that has worker.reload: always. Like Plan it is for the one
// goroutine that plans.
func (s *Set) Replaces(name string) int {
	if p := s.running()[name]; p != nil && p.workers != nil {
		return p.workers.replaces
	}
	return 0
}
