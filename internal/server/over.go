package server

import "time"

// close begins the connection's end, as phase says.
func (t *table) close(p phase) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.phase = max(t.phase, p)
	t.settleLocked()
}

// drain closes the connection once all is answered. A request that is on its way is
// answered too: its client cannot know that nobody wants it.
func (t *table) drain() { t.close(phaseDraining) }

// force ends the requests, and the connection after them.
func (t *table) force() {
	t.endAll(ErrShutdown)
	t.close(phaseForced)
}

// abandons is, for each Runner that has not returned, how long a drain that is over waits
// for it; 0 is for ever.
func (t *table) abandons() (all []time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.live.all {
		switch {
		case !r.stateNow().hasRunner():
		case r.ends.Load():
			all = append(all, 0)
		default:
			all = append(all, r.settings.Abandon)
		}
	}
	return all
}

// settle is called when something was answered that no request waits for.
func (t *table) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settleLocked()
}

// settleLocked closes the connection if that is to be closed, and all that was asked on it
// is answered. No other place decides that; a connection that is idle, full or broken is
// closed without it (docs/requests.md). What it decides holds: no request can begin in
// between.
func (t *table) settleLocked() {
	c := t.conn
	isDecided := t.phase == phaseOpen || t.phase == phaseLastCall || t.phase >= phaseEnding
	if isDecided || !t.isIdleLocked() || c.out.lost.Load() {
		return
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	switch {
	case len(t.trailing) > 0 && t.phase != phaseForced && ok:
		t.phase = phaseEnding
		c.sayLast(half.CloseWrite)
		c.in.stopAfter(lingerTime)
	case t.phase == phaseDraining && c.mayGive() && !c.in.hasInput():
		t.phase = phaseLastCall
		c.in.stopAfter(0)
	case t.phase == phaseDraining && (!t.used || c.in.hasInput()):
		t.phase = phaseLastCall
		c.in.stopAfter(lastCallTime)
	case c.under != nil:
		t.phase = phaseEnding
		c.in.stopAfter(lingerTime)
		c.sayLast(c.nc.Close)
	default:
		t.phase = phaseClosed
		c.nc.Close()
	}
}

// closeIdle closes the connection if nobody has asked anything on it, or is about to as
// far as that can be seen.
func (t *table) closeIdle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase != phaseOpen || !t.isIdleLocked() || t.conn.in.hasInput() {
		return false
	}
	t.phase = phaseClosed
	t.conn.cut()
	return true
}

// startIdle has the time without a request begin now.
func (t *table) startIdle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.idle = time.Now()
}

// idleSince tells whether the connection has no request, since when, and whether it has
// ever had one.
func (t *table) idleSince() (since time.Time, used, idle bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.idle, t.used, t.isIdleLocked()
}

func (t *table) isIdleLocked() bool {
	return len(t.byID) == 0 && t.sending == 0 && !t.conn.out.isFlushing()
}
