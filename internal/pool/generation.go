package pool

import "sync"

// A generation is what a pool's requests run on between two reloads, while they
// need it: a Runner must not end before the last request that has begun with it.
type generation struct {
	over    chan struct{} // closed when it was retired and is needed no more
	release func()        // what hold returns, always the same

	mu      sync.Mutex // guards the fields below
	users   int
	retired bool
}

func newGeneration() *generation {
	g := &generation{over: make(chan struct{})}
	g.release = g.leave
	return g
}

// hold keeps it from being over until what it returns is called. That of a
// generation which is over keeps nothing.
func (g *generation) hold() (release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users++
	return g.release
}

func (g *generation) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.users--
	g.closeIfOverLocked()
}

// retire says that no more requests begin with it. It may be called again.
func (g *generation) retire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retired = true
	g.closeIfOverLocked()
}

func (g *generation) closeIfOverLocked() {
	if !g.retired || g.users > 0 {
		return
	}
	select {
	case <-g.over:
	default:
		close(g.over)
	}
}
