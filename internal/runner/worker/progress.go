package worker

import "time"

// failuresEnough is after how many failed starts in a row, some two seconds, it is told
// that a program cannot be started.
const failuresEnough = 5

// Progress is how far a Pool has come to what its options say.
type Progress struct {
	Outdated int    // workers that serve and run another program
	Ready    bool   // a worker of the program has shown that it runs, or none is wanted
	Failing  string // why workers cannot be started, after several were tried; "" otherwise
}

// IsDone reports whether all that serves is of the program that the options name, and
// that runs.
func (p Progress) IsDone() bool { return p.Outdated == 0 && p.Ready }

// Progress returns how far the pool has come. One that ends has come to its end.
func (p *Pool) Progress() Progress {
	p.mu.Lock()
	defer p.unlock()
	switch p.phase {
	case phaseNew:
		return Progress{}
	case phaseEnding:
		return Progress{Ready: true}
	}
	progress := Progress{Outdated: p.ranks.outdated, Ready: p.settled || p.size == 0}
	now := time.Now()
	for _, w := range p.all {
		isReady := w.state == stateIdle || w.state == stateBusy
		progress.Ready = progress.Ready || isReady && !w.outdated && w.isSettled(now)
	}
	if p.health.failures >= failuresEnough {
		progress.Failing = p.health.why
	}
	return progress
}
