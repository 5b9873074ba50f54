package worker

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// spareLinger is how long a worker beyond MaxSpare stays idle before it ends:
// demand that comes and goes must not end and start one each time.
const spareLinger = time.Second

// adjustLocked does what the numbers call for, after any event.
func (p *Pool) adjustLocked() {
	now := time.Now()
	if p.phase == phaseRunning {
		p.health.prove(p, now)
		p.succeedLocked(now)
		p.ageLocked(now)
		p.shrinkLocked(now)
		p.dispatchLocked()
		p.growLocked(now)
		p.setTimerLocked(now)
	}
	p.saturation.set(p.ranks.count[stateBusy] >= p.opt.Max, now, p.hooks.AtMax)
}

// growLocked starts as many workers as are wanted and may be.
func (p *Pool) growLocked(now time.Time) {
	n := min(p.wantedLocked(), p.roomLocked())
	if n > 0 && p.health.isDegraded() {
		n = min(n, p.probesLocked(now))
	}
	for ; n > 0 && p.spawns.take(now, p.opt.SpawnRate); n-- {
		p.startLocked(now)
	}
}

// wantedLocked is how many more workers there should be.
func (p *Pool) wantedLocked() int {
	r := &p.ranks
	demand := (p.waiting.Len() + p.opt.Concurrency - 1) / p.opt.Concurrency
	n := demand + p.opt.MinSpare - r.count[stateIdle] - r.count[stateStarting]
	n = max(n, p.opt.Min-r.serving())
	return max(n, r.leaving-r.count[stateStarting]) // the successors of those that leave
}

// roomLocked is how many more workers there may be. While another program takes
// over there may be one more than Max that is starting. Those that are ending
// do not count, unless they do not end: there are never more than Max of them.
func (p *Pool) roomLocked() int {
	r := &p.ranks
	room := p.opt.Max - r.serving()
	if r.outdated > 0 && r.count[stateStarting] == 0 {
		room = max(room, p.opt.Max+1-r.serving())
	}
	return min(room, 2*p.opt.Max+1-r.serving()-r.count[stateStopping])
}

func (p *Pool) startLocked(now time.Time) {
	p.lastID++
	p.starts++
	w := &worker{pool: p, id: p.lastID, program: p.program, born: now, lastUsed: now}
	if n := p.opt.MaxRequests; n > 0 {
		spread := n / 10
		w.softMax, w.hardMax = n-spread+rand.IntN(2*spread+1), n+spread
	}
	if d := p.opt.MaxLifetime; d > 0 {
		w.expires = now.Add(d*9/10 + rand.N(d/5+1))
		p.expiry = earliest(p.expiry, w.expires)
	}
	p.all = append(p.all, w)
	p.ranks.add(w)
	p.wg.Go(func() { p.attend(w) })
}

// earliest is the sooner of two times, of which a zero one is never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// tireLocked marks a worker that has had requests enough.
func (p *Pool) tireLocked(w *worker) {
	if w.leaving == "" && w.softMax > 0 && w.taken >= w.softMax {
		w.leave(exitMaxRequests)
	}
}

// ageLocked marks the workers that have lived long enough, and ends those of
// the marked that need not stay until their successor is ready.
func (p *Pool) ageLocked(now time.Time) {
	if !p.expiry.IsZero() && !now.Before(p.expiry) {
		p.expiry = time.Time{}
		for _, w := range p.all {
			switch {
			case !w.serves() || w.expires.IsZero():
			case w.leaving == "" && !now.Before(w.expires):
				w.leave(exitLifetime)
			case now.Before(w.expires):
				p.expiry = earliest(p.expiry, w.expires)
			}
		}
	}
	if p.ranks.leaving == 0 {
		return
	}
	for _, w := range slices.Clone(p.ranks.idle) {
		if w.leaving != "" && p.mayLeaveLocked(w) {
			w.retire(w.leaving)
		}
	}
}

// mayLeaveLocked reports whether an idle worker that is to be replaced can end
// before its successor is ready: nobody would wait for that, or there is no room
// for both.
func (p *Pool) mayLeaveLocked(w *worker) bool {
	r := &p.ranks
	switch {
	case w.leaving == exitReload:
		return r.serving() > p.opt.Max+1
	case p.health.isDegraded():
		return false
	}
	return w.isSpent() || r.fresh > 0 || r.serving() >= p.opt.Max && r.count[stateStarting] == 0
}

// settleTime is how long a worker of another program has to live before it takes
// the place of an old one, if it has not answered anything by then.
const settleTime = time.Second

// succeedLocked ends a worker for each one that has become ready to replace it.
func (p *Pool) succeedLocked(now time.Time) {
	if p.ranks.leaving == 0 {
		return
	}
	for _, w := range p.all {
		if !w.heir || !w.serves() || w.leaving != "" {
			continue
		}
		if oldest := p.oldestLeavingLocked(); oldest != nil && (oldest.leaving != exitReload || w.isSettled(now)) {
			w.heir = false
			oldest.retire(oldest.leaving)
		}
	}
}

// isSettled reports whether the worker has shown that its program runs.
func (w *worker) isSettled(now time.Time) bool {
	return w.answered || now.Sub(w.born) >= settleTime
}

// oldestLeavingLocked is the worker to be replaced first: one that is idle, the
// longest, if there is one.
func (p *Pool) oldestLeavingLocked() (oldest *worker) {
	for _, w := range p.all {
		if w.leaving == "" || w.state != stateIdle && w.state != stateBusy {
			continue
		}
		if oldest == nil || w.state < oldest.state || w.state == oldest.state && w.used < oldest.used {
			oldest = w
		}
	}
	return oldest
}

// shrinkLocked ends idle workers of which there are too many, longest idle first.
func (p *Pool) shrinkLocked(now time.Time) {
	for len(p.ranks.idle) > 0 {
		w := p.ranks.idle[0]
		reason := p.surplusLocked(now.Sub(w.lastUsed))
		if reason == "" {
			return // the others have been idle for less
		}
		w.retire(reason)
	}
}

// surplusLocked is why a worker that has been idle for d is to end, or "".
func (p *Pool) surplusLocked(d time.Duration) string {
	o, r := &p.opt, &p.ranks
	successor := min(r.outdated, 1) // for which there is room, see roomLocked
	idle, serving := r.count[stateIdle]-successor, r.serving()-successor
	above := serving > o.Min && idle > o.MinSpare
	switch {
	case serving-r.count[stateStarting] > o.Max:
		return exitScale
	case above && idle > o.MaxSpare && d >= spareLinger:
		return exitScale
	case above && o.Scale != ScaleStatic && o.IdleTimeout > 0 && d >= o.IdleTimeout:
		return exitIdle
	}
	return ""
}

// setTimerLocked lets Supervise call adjustLocked when time alone will call for
// something. It may be called for nothing: the timer is only ever set to a sooner
// time, until it has rung.
func (p *Pool) setTimerLocked(now time.Time) {
	next := p.expiry
	if filled := p.spawns.refill(p.opt.SpawnRate); filled.After(now) {
		next = earliest(next, filled)
	}
	if len(p.ranks.idle) > 0 {
		first := p.ranks.idle[0].lastUsed
		for _, d := range []time.Duration{spareLinger, p.opt.IdleTimeout} {
			if until := first.Add(d); until.After(now) {
				next = earliest(next, until)
			}
		}
	}
	if p.ranks.outdated > 0 {
		for _, w := range p.all {
			if settled := w.born.Add(settleTime); w.heir && settled.After(now) {
				next = earliest(next, settled)
			}
		}
	}
	if p.health.isDegraded() {
		for _, until := range []time.Time{p.health.retry, p.health.last.Add(p.opt.StartTimeout)} {
			if until.After(now) {
				next = earliest(next, until)
			}
		}
		for _, w := range p.all {
			if proven := w.born.Add(p.opt.StartTimeout); proven.After(now) {
				next = earliest(next, proven)
			}
		}
	}
	if !next.IsZero() && (p.wake.IsZero() || next.Before(p.wake)) {
		p.wake = next
		p.timer.Reset(next.Sub(now))
	}
}

// A bucket holds what may be started at once: a second's worth at most.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) fill(now time.Time, rate int) {
	b.tokens, b.at = float64(rate), now
}

// take reports whether one may be started, with a rate a second; 0 is no bound.
func (b *bucket) take(now time.Time, rate int) bool {
	if rate <= 0 {
		return true
	}
	b.tokens = min(float64(rate), b.tokens+now.Sub(b.at).Seconds()*float64(rate))
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// refill is when a bucket that has less than one has one again. A bucket that
// has more need not be waited for: that is the zero time.
func (b *bucket) refill(rate int) time.Time {
	if rate <= 0 || b.tokens >= 1 {
		return time.Time{}
	}
	missing := (1 - b.tokens) / float64(rate)
	return b.at.Add(time.Duration(math.Ceil(missing*1e9)) + time.Microsecond)
}
