package worker

import (
	"log/slog"
	"time"
)

// ranks count the workers of a pool, and order those that serve.
type ranks struct {
	count    [stateCount]int
	byLoad   []queue // idle and busy ones, by how many requests they have; longer, if need be
	fresh    int     // starting, idle or busy, not to be replaced
	tired    int     // idle or busy, to be replaced by others of the same program
	outdated int     // idle or busy, to be replaced by others of another program
	mostBusy int     // since the start
}

// serving is how many count against Max.
func (r *ranks) serving() int {
	return r.count[stateStarting] + r.count[stateIdle] + r.count[stateBusy]
}

// add takes in a worker that has not been there, or has just changed.
func (r *ranks) add(w *worker) {
	if w.state == stateIdle || w.state == stateBusy {
		for len(r.byLoad) <= w.inFlight {
			r.byLoad = append(r.byLoad, queue{})
		}
		r.byLoad[w.inFlight].add(w)
	}
	r.tally(w, 1)
}

// remove takes out a worker that is gone, or is about to change.
func (r *ranks) remove(w *worker) {
	if w.state == stateIdle || w.state == stateBusy {
		r.byLoad[w.inFlight].remove(w)
	}
	r.tally(w, -1)
}

// idlest is the worker that is idle for longest; nil if none is.
func (r *ranks) idlest() *worker {
	if len(r.byLoad) == 0 {
		return nil
	}
	return r.byLoad[0].first
}

// A queue is workers in the order of their last use. Each is in one at most, and it takes no
// time to find in it.
type queue struct{ first, last *worker }

func (q *queue) add(w *worker) {
	before := q.last
	for before != nil && before.used > w.used { // most often it was used last; not if it has changed in another way
		before = before.before
	}
	w.before = before
	if before == nil {
		w.after, q.first = q.first, w
	} else {
		w.after, before.after = before.after, w
	}
	if w.after == nil {
		q.last = w
	} else {
		w.after.before = w
	}
}

func (q *queue) remove(w *worker) {
	if w.before == nil {
		q.first = w.after
	} else {
		w.before.after = w.after
	}
	if w.after == nil {
		q.last = w.before
	} else {
		w.after.before = w.before
	}
	w.before, w.after = nil, nil
}

func (r *ranks) tally(w *worker, n int) {
	r.count[w.state] += n
	r.mostBusy = max(r.mostBusy, r.count[stateBusy])
	switch {
	case !w.serves():
	case w.outdated:
		r.outdated += n
	case w.tired != "":
		r.tired += n
	default:
		r.fresh += n
	}
}

// saturation is how often and how long all workers were busy.
type saturation struct {
	is    bool
	since time.Time
	times uint64
	total time.Duration // without the present time
}

func (s *saturation) set(is bool, now time.Time) {
	if is == s.is {
		return
	}
	s.is = is
	if is {
		s.since = now
		s.times++
	} else {
		s.total += now.Sub(s.since)
	}
}

const (
	shortestBackoff = 100 * time.Millisecond
	longestBackoff  = 30 * time.Second
)

// health tells whether workers can be started. While they cannot, one at a
// time is, after a pause that grows, until one has shown that it can.
type health struct {
	failures int // in a row; 0 is healthy
	last     time.Time
	retry    time.Time // when the next probe may start
	why      string
	isPast   bool // all that of a program before this one, of which none has failed
}

func (h *health) isDegraded() bool { return h.failures > 0 }

// isFailing reports whether the program cannot be started, as far as is known: why says
// how it fails. One that is degraded only since another program was that, is not.
func (h *health) isFailing() bool { return h.isDegraded() && !h.isPast }

// hurry is called when the program is another one: the next probe is due, and a
// worker that it has already may be the proof that it runs. Care is taken on.
func (h *health) hurry() {
	h.failures, h.retry, h.last, h.isPast = min(h.failures, 1), time.Time{}, time.Time{}, true
}

// probesLocked is how many workers may be started while degraded: one, unless
// there is one that has not shown yet that it can be used.
func (p *Pool) probesLocked(now time.Time) int {
	if p.ranks.count[stateStarting] > 0 || now.Before(p.health.retry) {
		return 0
	}
	for _, w := range p.all {
		if w.isProbe() && w.program.isSame(p.program) && w.born.After(p.health.last) && !p.isProven(w, now) {
			return 0
		}
	}
	return 1
}

// isProbe reports whether the worker's end, if that comes early, counts as a start
// that failed, unless it has shown that it can be used. One that is ending for
// another reason, however long that takes, shows nothing any more.
func (w *worker) isProbe() bool {
	if w.serves() {
		return true
	}
	switch w.reason {
	case exitSelf, exitStart, exitProtocol:
		return w.state == stateStopping && !w.hasReadHead
	}
	return false
}

// fail is called when a worker has ended that has not shown that it can start.
// Those that were started together count once.
func (h *health) fail(p *Pool, w *worker, why string, now time.Time) {
	if !w.program.isSame(p.program) || h.failures > 0 && !w.born.After(h.last) {
		return
	}
	pause := min(shortestBackoff<<min(h.failures, 20), longestBackoff)
	h.failures++
	h.last, h.retry, h.why, h.isPast = now, now.Add(pause), why, false
	p.logLocked(slog.LevelWarn, "workers cannot be started", "command", w.program.argv,
		"reason", h.why, "failures", h.failures, "retry_in", pause)
}

// prove ends the degraded state if a worker that was started in it can be used, or,
// after a while in which no more workers were wanted, one that was started before.
func (h *health) prove(p *Pool, now time.Time) {
	if !h.isDegraded() {
		return
	}
	quiet := p.ranks.fresh >= p.size && now.Sub(h.last) >= p.opt.StartTimeout
	for _, w := range p.all {
		if w.program.isSame(p.program) && w.serves() && (quiet || w.born.After(h.last)) && p.isProven(w, now) {
			p.logLocked(slog.LevelInfo, "workers can be started again", "command", w.program.argv, "failures", h.failures)
			*h = health{}
			return
		}
	}
}

// isProven reports whether a worker has shown that it can start: it has answered,
// or has lived for StartTimeout.
func (p *Pool) isProven(w *worker, now time.Time) bool {
	return w.answered || w.state != stateStarting && now.Sub(w.born) >= p.opt.StartTimeout
}
