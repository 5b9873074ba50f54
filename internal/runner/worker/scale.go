package worker

import (
	"cmp"
	"log/slog"
	"math"
	"math/rand/v2"
	"time"
)

// spareLinger is how long a worker beyond MaxSpare stays idle before it ends:
// demand that comes and goes must not end and start one each time.
const spareLinger = time.Second

// adjustLocked does what the numbers call for, after any event.
//
// Reloads converge: while there is an outdated worker and fewer than size others, one
// more is started if there are not more than Max in all. Each of the others dies, which
// health tells, or settles within a second. Of those that have settled, one that leaves
// since it is spent takes an outdated one with it; if none leaves, the settled and the
// outdated come to be more than size, and rollLocked ends an outdated one. None becomes
// outdated but by Update; so all that can keep one is that no other can be started.
func (p *Pool) adjustLocked() {
	now := time.Now()
	if p.phase == phaseRunning {
		p.health.prove(p, now)
		p.ageLocked(now)
		p.resizeLocked()
		if p.ranks.outdated > 0 {
			p.rollLocked(now)
		}
		p.tellRollLocked()
		p.replaceLocked(now)
		p.boundLocked()
		p.dispatchLocked()
		p.shrinkLocked(now)
		p.growLocked(now)
		p.setTimerLocked(now)
	}
	p.saturation.set(p.ranks.count[stateBusy] >= p.opt.Max, now)
}

// resizeLocked sets the size, which is how many workers there are to be: as many as
// the load calls for, and those that there are. There are more of them while one and
// its successor are both there.
func (p *Pool) resizeLocked() {
	o, r := &p.opt, &p.ranks
	demand := (p.waiting.Len() + o.Concurrency - 1) / o.Concurrency
	needed := max(o.Min, r.count[stateBusy]+demand+o.MinSpare)
	p.size = min(max(needed, min(p.size, r.serving())), o.Max)
}

// maxLocked is how many workers may serve: one more than Max while another program takes
// over, and while some that are to be replaced stay since others may not start.
func (p *Pool) maxLocked() int {
	if p.ranks.outdated > 0 || p.ranks.tired > 0 && p.health.isDegraded() {
		return p.opt.Max + 1
	}
	return p.opt.Max
}

// rollLocked ends outdated workers whose work others can do: the others that have
// settled and the outdated ones are more than there are to be. One that is not even
// ready is not worth waiting for, if there are any others.
func (p *Pool) rollLocked(now time.Time) {
	settled, useful := 0, 0
	for _, w := range p.all {
		ready := w.state == stateIdle || w.state == stateBusy
		switch {
		case ready && w.outdated:
			useful++
		case ready && w.isSettled(now):
			settled++
			useful++
		}
	}
	p.settled = p.settled || settled > 0
	for _, w := range p.all {
		if w.outdated && w.state == stateStarting && useful > 0 {
			w.retire(exitReload)
		}
	}
	for p.ranks.outdated > 0 && settled+p.ranks.outdated > p.size {
		p.dispensableLocked((*worker).isOutdated).retire(exitReload)
	}
}

// tellRollLocked logs that a roll is over.
func (p *Pool) tellRollLocked() {
	before := p.rolling
	if p.rolling = p.ranks.outdated > 0; before && !p.rolling {
		p.logLocked(slog.LevelInfo, "workers have been replaced")
	}
}

// settleTime is how long a worker of another program has to live before it takes
// the place of an old one, if it has not answered anything by then.
const settleTime = time.Second

// isSettled reports whether the worker has shown that its program runs.
func (w *worker) isSettled(now time.Time) bool {
	return w.answered || now.Sub(w.readied) >= settleTime
}

func (w *worker) isOutdated() bool { return w.outdated }

func (w *worker) isTired() bool { return w.tired != "" && !w.outdated }

// replaceLocked ends workers that have reached a limit. A spent one is of no use, and
// has shown that its program can do the work of an outdated one. Another one stays until
// its successor is ready, or, if Max leaves no room for both, until it is idle and no
// other one is starting; and while another program takes over.
func (p *Pool) replaceLocked(now time.Time) {
	r := &p.ranks
	if r.tired == 0 || p.health.isDegraded() {
		return // what there is may be all that there will be
	}
	for _, w := range p.all {
		if !w.serves() || w.outdated || !w.isSpent() || w.inFlight >= p.opt.Concurrency {
			continue
		}
		if r.outdated > 0 && w.isSettled(now) {
			p.dispensableLocked((*worker).isOutdated).retire(exitReload)
		}
		w.retire(w.tired)
	}
	if r.outdated > 0 {
		return
	}
	for r.tired > 0 && r.fresh-r.count[stateStarting]+r.tired > p.size {
		w := p.dispensableLocked((*worker).isTired)
		w.retire(w.tired)
	}
	if r.tired > 0 && r.count[stateStarting] == 0 && r.serving() >= p.opt.Max {
		// One that takes several requests at once may never be idle.
		if w := p.dispensableLocked((*worker).isTired); w.state == stateIdle || p.opt.Concurrency > 1 {
			w.retire(w.tired)
		}
	}
}

// boundLocked ends workers of which there are more than there may be: those first that
// are missed least. The one beyond Max that may be there while others cannot be started
// is the one that is tried: those that are to be replaced do not take its place.
func (p *Pool) boundLocked() {
	r := &p.ranks
	for r.serving() > p.maxLocked() {
		p.dispensableLocked((*worker).serves).retire(exitScale)
	}
	for r.outdated == 0 && r.tired > p.opt.Max {
		p.dispensableLocked((*worker).isTired).retire(exitScale)
	}
}

// dispensableLocked is the one of the workers that is missed least: an idle one, one
// that is to be replaced anyway, one that has shown the least, one that was not used
// for longest.
func (p *Pool) dispensableLocked(is func(*worker) bool) (least *worker) {
	for _, w := range p.all {
		if !w.serves() || !is(w) {
			continue
		}
		if least == nil || cmp.Or(w.worth()-least.worth(), cmp.Compare(w.used, least.used)) < 0 {
			least = w
		}
	}
	return least
}

// worth is how much a worker is missed, but for how long ago it was used.
func (w *worker) worth() int {
	worth := 0
	switch {
	case w.outdated:
	case w.tired != "":
		worth = 2
	default:
		worth = 4
	}
	if w.state == stateBusy {
		worth += 6
	}
	if w.answered {
		worth++
	}
	return worth
}

// growLocked starts as many workers as are missing and may be.
func (p *Pool) growLocked(now time.Time) {
	p.resizeLocked()
	n := min(p.size-p.ranks.fresh, p.roomLocked(now))
	if n > 0 && p.health.isDegraded() {
		n = min(n, p.probesLocked(now))
	}
	for ; n > 0 && p.spawns.take(now, p.opt.SpawnRate); n-- {
		p.startLocked(now)
	}
}

// roomLocked is how many more workers there may be. Those that are ending do not count,
// unless not even KILL ends them: then there are never more than Max of these.
func (p *Pool) roomLocked(now time.Time) int {
	room := p.maxLocked() - p.ranks.serving()
	if p.ranks.count[stateStopping] <= p.opt.Max {
		return room
	}
	overdue := 0
	for _, w := range p.all {
		if w.state == stateStopping && !w.overdue.IsZero() && now.After(w.overdue) {
			overdue++
		}
	}
	return min(room, 2*p.opt.Max+1-p.ranks.serving()-overdue)
}

func (p *Pool) startLocked(now time.Time) {
	p.lastID++
	p.starts++
	w := &worker{pool: p, id: p.lastID, program: p.program, stopWith: p.opt.StopSignal, born: now, lastUsed: now, spread: 2*rand.Float64() - 1}
	p.limitLocked(w)
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

// limitLocked gives a worker the limits of the options, spread a little so that
// workers which started together do not leave together.
func (p *Pool) limitLocked(w *worker) {
	w.softMax, w.hardMax, w.expires, w.maxMemory = 0, 0, time.Time{}, p.opt.MaxMemory
	if n := p.opt.MaxRequests; n > 0 {
		tenth := n / 10
		w.softMax, w.hardMax = n+int(math.Round(w.spread*float64(tenth))), n+tenth
	}
	if d := p.opt.MaxLifetime; d > 0 {
		w.expires = w.born.Add(d + time.Duration(w.spread*float64(d/10)))
		p.expiry = earliest(p.expiry, w.expires)
	}
}

// ageLocked tires the workers that have lived long enough.
func (p *Pool) ageLocked(now time.Time) {
	if p.expiry.IsZero() || now.Before(p.expiry) {
		return
	}
	p.expiry = time.Time{}
	for _, w := range p.all {
		switch {
		case !w.serves():
		case now.Before(w.expires):
			p.expiry = earliest(p.expiry, w.expires)
		default:
			w.tire(now) // one that is starting when it is ready
		}
	}
}

// shrinkLocked ends idle workers of which there are too many, longest idle first. It
// does not while it is open whether others can be started.
func (p *Pool) shrinkLocked(now time.Time) {
	if p.ranks.outdated > 0 || p.health.isDegraded() {
		return
	}
	for w := p.ranks.idlest(); w != nil; w = p.ranks.idlest() {
		reason := p.surplusLocked(now.Sub(w.lastUsed))
		if reason == "" {
			return // the others have been idle for less
		}
		p.size--
		w.retire(reason)
	}
}

// surplusLocked is why a worker that has been idle for d is to end, or "".
func (p *Pool) surplusLocked(d time.Duration) string {
	o, r := &p.opt, &p.ranks
	idle := r.count[stateIdle] - max(r.serving()-p.size, 0) // not those that are there twice
	above := p.size > o.Min && idle > o.MinSpare
	switch {
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
	if w := p.ranks.idlest(); w != nil {
		for _, d := range []time.Duration{spareLinger, p.opt.IdleTimeout} {
			if until := w.lastUsed.Add(d); until.After(now) {
				next = earliest(next, until)
			}
		}
	}
	if p.ranks.outdated > 0 {
		for _, w := range p.all {
			if settled := w.readied.Add(settleTime); !w.outdated && settled.After(now) {
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
