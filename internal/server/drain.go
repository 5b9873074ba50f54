package server

import (
	"fmt"
	"time"
)

// Drain waits for the requests that have begun under s on addresses which other
// Servers have now. Those that are left after Settings.Grace are ended. Like Serve it
// gives up by Settings.Abandon. It is called once, when s has no address any more or
// the Serve of each has been told to end.
func (s *Server) Drain() error {
	settings := s.settings.Load()
	ended := make(chan struct{}, 1)
	s.ended.Store(&ended)
	end := time.NewTimer(settings.Grace)
	defer end.Stop()
	var enough <-chan time.Time
	if settings.Abandon > 0 {
		timer := time.NewTimer(settings.Grace + lingerTime + settings.Abandon)
		defer timer.Stop()
		enough = timer.C
	}
	for {
		left := s.movedAway()
		if len(left) == 0 {
			return nil
		}
		select {
		case <-ended:
		case <-end.C:
			for _, r := range left {
				r.conn.table.endLive(r, ErrShutdown)
			}
			end.Reset(time.Second) // for one that was just beginning
		case <-enough:
			return fmt.Errorf("%w: %d are left", ErrAbandoned, len(left))
		}
	}
}

// movedAway are the requests of s on addresses that it does not have.
func (s *Server) movedAway() (left []*request) {
	for _, r := range s.openRequests() {
		if r.conn.server() != s {
			left = append(left, r)
		}
	}
	return left
}

// Force ends all requests on the connections of s, and those connections after them, as a
// drain does whose time is over.
func (s *Server) Force() {
	s.mu.Lock()
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	s.mu.Unlock()
	for _, c := range conns {
		c.table.force()
	}
}
