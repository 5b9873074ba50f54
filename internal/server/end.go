package server

import "errors"

// drop ends a request of which the client will not send the rest.
func (t *table) drop(r *request, cause error) {
	t.end(r, cause)
	r.dropStdin()
	t.forget(r)
}

// end is the event that a request has to end, for a reason. Whoever holds a request
// that is live may call it: the goroutine it starts is one that the connection waits for.
func (t *table) end(r *request, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLocked(r, cause)
}

// endLive is end for whoever does not know whether r is live. It reports whether it is.
func (t *table) endLive(r *request, cause error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.sets[inTable].isIn {
		t.endLocked(r, cause)
	}
	return r.sets[inTable].isIn
}

func (t *table) endLocked(r *request, cause error) {
	from, to, _ := r.stepLocked(eventEnd)
	if to == stateOver {
		return
	}
	outlives := from == stateRun && r.mayOutlive() || from == stateParting || from == stateLeft
	if !isLeaving(cause) || !outlives {
		t.cancelLocked(r, cause)
	}
	if from == stateWait {
		r.server.admission.giveUp(&r.turn)
	}
	if errors.Is(cause, ErrShutdown) || isLeaving(cause) {
		r.stdinOver.happen() // the answer does not wait for it
	}
	if isLeaving(cause) && r.gone == nil {
		r.gone = cause
		r.answer.backlog.drop()
	}
	if from != to {
		t.conn.wg.Go(func() { r.finish(0, cause) })
	}
}

// whyGone is why nobody waits for r any more, or nil.
func (t *table) whyGone(r *request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.gone == nil && t.conn.out.lost.Load() {
		return ErrClientGone // the read loop is about to find out
	}
	return r.gone
}

// isLeaving reports whether a request ends since nobody waits for it.
func isLeaving(cause error) bool { return cause == ErrAborted || cause == ErrClientGone }

// cancelLocked ends what works for r.
func (t *table) cancelLocked(r *request, cause error) {
	if r.ctx.Err() != nil {
		return
	}
	r.cancelFn(cause)
	if r.afterCancel != nil {
		t.conn.wg.Go(r.afterCancel)
		r.afterCancel = nil
	}
	if r.stateNow().hasRunner() { // before that the read loop may be about to set Stdin
		if live, ok := r.req.Stdin.(*liveBody); ok {
			t.conn.wg.Go(live.wake) // which waits while the file is written
		}
	}
	t.conn.out.hurry(r)
}

// endAll ends every request.
func (t *table) endAll(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.live.all {
		t.endLocked(r, cause)
	}
}

// clientGone ends the requests of a connection that is gone. It is the last thing
// that the read loop does.
func (t *table) clientGone() {
	t.endAll(ErrClientGone)
	for _, r := range t.receiving {
		r.dropStdin()
	}
	t.receiving, t.ready = nil, nil
}
