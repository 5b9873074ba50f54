package fcgi

import (
	"context"
	"slices"
)

// turns say who may use the connection: one call, or several that share it.
type turns struct {
	running int  // calls that have a turn
	sole    bool // the running one never shares
	queue   []*waiter
}

// A waiter is a call that waits for its turn.
type waiter struct {
	shares   bool
	admitted bool          // guarded by Conn.mu
	ready    chan struct{} // closed when admitted
}

// takeTurn waits until a call may use the connection, with others if it shares.
// Nobody overtakes: one that never shares would else wait for ever.
func (c *Conn) takeTurn(ctx context.Context, shares bool) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.mu.Lock()
	switch {
	case c.shutting:
		c.mu.Unlock()
		return c.explain("request", errClosed)
	case len(c.turns.queue) == 0 && c.mayRun(shares):
		c.turns.begin(shares)
		c.mu.Unlock()
		return nil
	}
	w := &waiter{shares: shares, ready: make(chan struct{})}
	c.turns.queue = append(c.turns.queue, w)
	if shares && !c.turns.sole {
		c.askOnce()
	}
	c.mu.Unlock()

	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
		c.stopWaiting(w)
		return context.Cause(ctx)
	case <-c.closed:
		c.stopWaiting(w)
		return c.explain("request", errClosed)
	}
}

func (c *Conn) stopWaiting(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.admitted {
		c.turns.end()
	} else {
		c.turns.queue = slices.DeleteFunc(c.turns.queue, func(other *waiter) bool { return other == w })
	}
	c.admit()
}

func (c *Conn) giveTurn() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns.end()
	c.admit()
}

// admit gives a turn to those at the head of the queue who may run. It needs mu,
// and is to be called after each change of what mayRun looks at.
func (c *Conn) admit() {
	for !c.shutting && len(c.turns.queue) > 0 {
		w := c.turns.queue[0]
		if !c.mayRun(w.shares) {
			return
		}
		c.turns.queue = slices.Delete(c.turns.queue, 0, 1)
		c.turns.begin(w.shares)
		w.admitted = true
		close(w.ready)
	}
}

// mayRun needs mu.
func (c *Conn) mayRun(shares bool) bool {
	if c.turns.running == 0 {
		return true
	}
	return shares && !c.turns.sole && c.mpx == mpxYes && c.requests.used < maxRequests
}

func (t *turns) begin(shares bool) {
	t.running++
	t.sole = !shares
}

func (t *turns) end() { t.running-- }

// shutIfAlone closes the connection unless another call has a turn at it. It
// reports whether it does.
func (c *Conn) shutIfAlone() bool {
	c.mu.Lock()
	alone := c.turns.running == 1
	c.shutting = c.shutting || alone
	c.mu.Unlock()
	if alone {
		c.shut(nil)
	}
	return alone
}
