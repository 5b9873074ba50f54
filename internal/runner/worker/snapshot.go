package worker

import (
	"fmt"
	"maps"
	"time"
)

// Numbers are how a Pool is at one moment.
type Numbers struct {
	Scale string
	Max   int
	// Starting, Idle, Busy and Stopping are how many workers are in that state. Of direct ones
	// nobody knows whether they are idle: those are Serving.
	Starting, Idle, Busy, Serving, Stopping int
	Direct                                  bool
	Outdated                                int               // of the idle and busy ones: they run another program than the pool is to
	Leaving                                 int               // of the stopping ones: likewise
	WhyOutdated                             string            // why there are still such
	Waiting                                 int               // requests without a worker
	Starts                                  uint64            // workers that were started, or were to be
	Exits                                   map[string]uint64 // by ExitReasons
	Degraded                                bool              // workers cannot be started
	Why                                     string            // then: how the last one ended
	Retry                                   time.Time         // then: when the next one is tried, if that is not now
	AtMax                                   uint64            // times that all of Max workers have become busy
	AtMaxTime                               time.Duration     // how long they were
	MostBusy                                int               // workers at once, since the start
	MostWaiting                             int               // requests at once, likewise
}

// Total is how many workers there are.
func (n *Numbers) Total() int { return n.Starting + n.Idle + n.Busy + n.Serving + n.Stopping }

// A Snapshot is how a Pool and its workers are at one moment.
type Snapshot struct {
	Numbers
	Workers []Info // in the order of their starts
}

// An Info is how a worker is at one moment.
type Info struct {
	PID      int // 0: it is being started
	State    string
	Leaving  string // one of ExitReasons, if it is ending or to be replaced
	Requests int
	Started  time.Time
	LastUsed time.Time
	CPU      time.Duration // with that of its descendants
	RSS      int64         // bytes, with that of its descendants: what they share counts for each
	Current  []CurrentRequest
}

// A CurrentRequest is one that a worker has.
type CurrentRequest struct {
	Serial              uint64
	Method, URI, Script string
	User, Authorization string    // REMOTE_USER; the header's field
	Length              string    // CONTENT_LENGTH
	Since               time.Time // when the worker got it
}

// Numbers returns what the pool knows by itself.
func (p *Pool) Numbers() Numbers {
	p.mu.Lock()
	defer p.unlock()
	return p.numbersLocked()
}

// Snapshot returns that and the workers, for each of which it asks the kernel: some
// three files of /proc.
func (p *Pool) Snapshot() Snapshot {
	s := p.snapshot()
	for i := range s.Workers {
		if pid := s.Workers[i].PID; pid != 0 {
			s.Workers[i].CPU, s.Workers[i].RSS = p.measure(pid)
		}
	}
	return s
}

// usage is that of a worker, which this process may not see.
func (p *Pool) usage(pid int) (cpu time.Duration, rss int64) {
	return p.telling.Load().launcher.Usage(pid)
}

// Measure asks the kernel how much memory the workers have, with their descendants, and
// counts the CPU time that they have used: see Hooks.Used.
func (p *Pool) Measure() (rss int64) {
	p.mu.Lock()
	pids := make(map[*worker]int, len(p.all))
	for _, w := range p.all {
		if w.process != nil {
			pids[w] = w.process.pid()
		}
	}
	p.unlock()
	used := make(map[*worker]time.Duration, len(pids))
	for w, pid := range pids {
		cpu, memory := p.measure(pid)
		used[w] = cpu
		rss += memory
	}
	p.mu.Lock()
	defer p.unlock()
	for _, w := range p.all { // what has exited meanwhile has been counted
		p.countLocked(w, used[w])
	}
	return rss
}

// countLocked counts what of a worker's CPU time was not counted yet. It may be less than
// what was: that of a descendant which has left is not there any more.
func (p *Pool) countLocked(w *worker, cpu time.Duration) {
	more := cpu - w.counted
	if more <= 0 {
		return
	}
	w.counted = cpu
	if p.hooks.Used != nil {
		p.laterLocked(func() { p.hooks.Used(more) })
	}
}

func (p *Pool) snapshot() Snapshot {
	p.mu.Lock()
	defer p.unlock()
	s := Snapshot{Numbers: p.numbersLocked()}
	for _, w := range p.all {
		s.Workers = append(s.Workers, w.snapshot())
	}
	return s
}

func (p *Pool) numbersLocked() Numbers {
	n := p.ranks.count
	numbers := Numbers{
		Scale: p.opt.Scale, Max: p.opt.Max, Direct: p.opt.Direct,
		Starting: n[stateStarting], Idle: n[stateIdle], Busy: n[stateBusy], Stopping: n[stateStopping],
		Outdated: p.ranks.outdated, Waiting: p.waiting.Len(), Starts: p.starts, Exits: maps.Clone(p.exits),
		Degraded: p.health.isFailing(), Retry: p.health.retry,
		AtMax: p.saturation.times, AtMaxTime: p.saturation.total, MostBusy: p.ranks.mostBusy, MostWaiting: p.mostWaiting,
	}
	if p.opt.Direct {
		numbers.Idle, numbers.Serving = 0, numbers.Idle
	}
	if numbers.Degraded {
		numbers.Why = p.health.why
	}
	numbers.Leaving, numbers.WhyOutdated = p.outdatedLocked()
	if p.saturation.is {
		numbers.AtMaxTime += time.Since(p.saturation.since)
	}
	return numbers
}

// outdatedLocked tells how many workers are ending since a reload has replaced what they
// run, and why there are still such workers, ending or not.
func (p *Pool) outdatedLocked() (leaving int, why string) {
	busy := 0
	for _, w := range p.all {
		if w.state == stateStopping && w.reason == exitReload {
			leaving++
			busy += min(w.inFlight, 1)
		}
	}
	switch {
	case p.ranks.outdated > 0 && p.health.isFailing():
		why = "workers of the new configuration cannot be started: " + p.health.why
	case p.ranks.outdated > 0:
		why = "those of the new configuration are not ready"
	case busy > 0:
		why = fmt.Sprintf("requests that have not ended are with %d of them", busy)
	case leaving > 0:
		why = "they were asked to end, and have not exited"
	}
	return leaving, why
}

func (w *worker) snapshot() Info {
	s := Info{
		State: w.state.String(), Leaving: w.leaving(), Requests: w.taken, Started: w.born, LastUsed: w.lastUsed,
	}
	if w.pool.opt.Direct && w.state == stateIdle {
		s.State = "serving"
	}
	if w.process != nil {
		s.PID = w.process.pid()
	}
	for _, seat := range w.seats {
		if r := seat.req; r != nil {
			s.Current = append(s.Current, CurrentRequest{
				Serial: r.Serial, Since: seat.since, Method: r.Params.Get("REQUEST_METHOD"),
				URI: r.Params.Get("REQUEST_URI"), Script: r.Params.Get("SCRIPT_FILENAME"), User: r.Params.Get("REMOTE_USER"),
				Authorization: r.Params.Get("HTTP_AUTHORIZATION"), Length: r.Params.Get("CONTENT_LENGTH"),
			})
		}
	}
	return s
}
