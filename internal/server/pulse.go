package server

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// A Nudger is a listener that can wake its own Accept, which returns
// os.ErrDeadlineExceeded then. No connection is lost by it.
type Nudger interface{ Nudge() error }

// A pulse is how others see that a loop comes round. It costs the loop nothing while
// nobody asks.
type pulse struct {
	isAsked atomic.Bool

	mu    sync.Mutex    // guards the fields below
	beats chan struct{} // closed at the next beat; nil if nobody waits for it
	nudge func() error  // wakes the loop where it waits; nil: nobody has to
	over  bool          // there is no loop any more
}

// begin says how the loop is woken.
func (p *pulse) begin(nudge func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nudge = nudge
}

// beat is called by the loop whenever it comes round, also while it waits for something
// that is not its own fault.
func (p *pulse) beat() {
	if !p.isAsked.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.beatLocked()
}

func (p *pulse) beatLocked() {
	p.isAsked.Store(false)
	if p.beats != nil {
		close(p.beats)
		p.beats = nil
	}
}

// end says that the loop is over: it does not stand still.
func (p *pulse) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.beatLocked()
}

// ask returns what is closed when the loop has come round once more, and how to wake it.
func (p *pulse) ask() (beats <-chan struct{}, nudge func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return closedChan, nil
	}
	if p.beats == nil {
		p.beats = make(chan struct{})
	}
	p.isAsked.Store(true)
	return p.beats, p.nudge
}

// Probe wakes one of the loops that Serve accepts connections with, and returns when one has
// come round: nothing holds it up. A loop that waits for room (Limits.MaxConns) comes round,
// and one that has ended is no failure. It waits until ctx ends, whose cause it returns.
func (a *Address) Probe(ctx context.Context) error {
	beats, nudge := a.pulse.ask()
	if nudge != nil {
		if err := nudge(); err != nil {
			return err
		}
	}
	select {
	case <-beats:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Probe goes the way of a request through the pool's admission, but takes no place. It
// does not return while something holds that up, and returns an error when requests wait
// that could run. A pool that is full, paused or drained is no failure.
func (s *Server) Probe() error {
	s.Snapshot()
	return s.admission.probe()
}

var (
	errIdlePlaces = errors.New("requests wait for a place, and there are free ones")
	errProbe      = errors.New("it was a probe")
)

// probe has a turn come that nobody wanted, and so takes no place from anybody.
func (a *admission) probe() error {
	var w probing
	a.mu.Lock()
	stuck := a.waiting.Len() > 0 && a.hasPlaceLocked()
	a.comeLocked(&turn{who: &w}, errProbe)
	a.unlock()
	if stuck || !w.told {
		return errIdlePlaces
	}
	return nil
}

// probing is the waiter of a probe.
type probing struct{ told bool }

func (p *probing) turnCame(error) { p.told = true }
