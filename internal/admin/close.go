package admin

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// closeTime is how long a server's end waits for answers that are on their way.
const closeTime = 3 * time.Second

// A closer knows the connections of one http.Server, and ends them without losing an answer.
// http.Server.Shutdown does not: it drops a request that is being read for the first time on
// its connection, and does not wait for a connection that is just being accepted.
type closer struct {
	mu       sync.Mutex // guards the fields below
	open     int
	isEnding bool
	none     chan struct{} // closed when it is ending and nothing is open
}

// newCloser is that of a server which does not serve yet.
func newCloser(srv *http.Server) *closer {
	c := &closer{none: make(chan struct{})}
	srv.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			c.count(+1)
		case http.StateClosed:
			c.count(-1)
		}
	}
	return c
}

func (c *closer) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += n
	if c.isEnding && c.open == 0 {
		close(c.none)
	}
}

// end lets the server, all of whose Serve have returned, answer what has been accepted. What
// is open after closeTime is cut. It is called once.
func (c *closer) end(srv *http.Server) {
	srv.SetKeepAlivesEnabled(false) // closes those that are idle
	c.mu.Lock()
	c.isEnding = true
	if c.open == 0 {
		close(c.none)
	}
	c.mu.Unlock()
	timer := time.NewTimer(closeTime)
	defer timer.Stop()
	select {
	case <-c.none:
	case <-timer.C:
	}
	srv.Close()
}
