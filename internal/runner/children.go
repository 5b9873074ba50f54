package runner

import "sync"

// Children are the programs that are running, of all Process runners that share
// it. The zero value is empty and ready.
type Children struct {
	mu     sync.Mutex // guards the fields below; a child's own mu may be taken under it
	all    map[*child]struct{}
	killed bool
}

// Kill kills every program with its process group, at once, and from now on
// every one that is started.
func (c *Children) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	for child := range c.all {
		child.killGroup()
	}
}

// Len is how many programs there are.
func (c *Children) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

func (c *Children) add(started *child) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[*child]struct{})
	}
	c.all[started] = struct{}{}
	if c.killed {
		started.killGroup()
	}
}

// remove is for a child that was reaped.
func (c *Children) remove(reaped *child) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, reaped)
}
