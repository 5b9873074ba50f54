package pool

import (
	"fmt"

	"github.com/fcgid/fcgid/internal/plural"
)

// Ready is why a load balancer should send nothing to a pool, or nothing more; "" if there is
// no reason. One is that not so many requests more as room says would run at once: they would
// wait in the queue. Of direct workers it is known alone that they are all busy, when connections
// wait for them. It costs a few locks. The error tells that there is no such pool.
func (s *Set) Ready(name string, room int) (reason string, err error) {
	p, err := s.named(name)
	if err != nil {
		return "", err
	}
	now := p.server.Snapshot()
	places, waiting := now.Limits.MaxReqs, now.Queued
	if state := gateStates[now.Gate]; state != "" {
		return fmt.Sprintf("pool %s is %s (fcgid resume %s)", name, state, name), nil
	}
	if w := p.workersNow(); w != nil {
		n := w.Numbers()
		if n.Degraded && n.Idle+n.Busy+n.Serving == 0 {
			return fmt.Sprintf("pool %s: workers cannot be started", name), nil
		}
		if n.Direct {
			return p.directRoom(room), nil
		}
		waiting += n.Waiting
		places = atMost(places, n.Max*p.concurrency())
	}
	if room == 0 || places == 0 {
		return "", nil
	}
	free := max(places-now.InFlight-now.Queued, 0)
	if free >= room {
		return "", nil
	}
	text := "full"
	if free > 0 {
		text = "almost full"
	}
	return fmt.Sprintf("pool %s is %s: room for %d of %s, %d waiting", name, text, free, plural.Of(places, "request"), waiting), nil
}

// atMost is the lower one of two limits, of which 0 is none.
func atMost(a, b int) int {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// concurrency is how many requests a worker of the pool takes at once.
func (p *pool) concurrency() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cfg.Worker == nil {
		return 1 // what it runs has changed just now
	}
	return max(p.cfg.Worker.Concurrency, 1)
}
