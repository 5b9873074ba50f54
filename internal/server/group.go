package server

import (
	"fmt"
	"sync"
	"time"
)

// A group is the connections of one listener: what its Serve waits for.
type group struct {
	gone chan struct{} // closed when the last connection of a drained group is

	mu       sync.Mutex     // guards the fields below
	conns    map[*conn]bool // until nothing of them is left: whether they have a client
	heirs    []heir         // that take connections in its place
	draining bool
}

func (g *group) closeIfGoneLocked() {
	if g.draining && len(g.conns) == 0 {
		close(g.gone)
	}
}

// drain lets the connections end by themselves for grace, then ends their requests, and
// lingerTime later closes those whose clients do not take that. If Runners have not
// returned abandon later, and the settings of all their requests let them be given up, it
// returns an ErrAbandoned that says how many there are.
func (g *group) drain(grace, abandon time.Duration) error {
	g.startDrain()
	end := time.AfterFunc(grace, func() {
		g.each((*table).force)
	})
	defer end.Stop()
	cut := time.AfterFunc(grace+lingerTime, func() {
		g.each(func(t *table) { t.conn.cut() })
	})
	defer cut.Stop()
	enough := time.NewTimer(grace + lingerTime + abandon)
	defer enough.Stop()
	for waited := abandon; ; {
		select {
		case <-g.gone:
			return nil
		case <-enough.C:
		}
		left, most := 0, abandon
		ever := abandon == 0
		g.each(func(t *table) {
			for _, abandon := range t.abandons() {
				ever = left > 0 && ever || abandon == 0
				most = max(most, abandon)
				left++
			}
		})
		if left > 0 && !ever && waited >= most { // else a connection is about to end
			return fmt.Errorf("%w: %d are left", ErrAbandoned, left)
		}
		step := max(most-waited, time.Second)
		waited += step
		enough.Reset(step)
	}
}

// startDrain has the connections end that there are, and none come from now on.
func (g *group) startDrain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.draining = true
	for c := range g.conns {
		c.table.drain()
	}
	g.closeIfGoneLocked()
}

func (g *group) each(do func(*table)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		do(&c.table)
	}
}
