package server

import (
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/cpu"

	"github.com/fcgid/fcgid/internal/later"
)

// A lane is a part of what each request of a pool changes. Each connection has one, so
// that CPUs which serve different connections do not write to the same cache line: that
// costs each of them a hundred nanoseconds, and lets no more than some millions of requests
// a second come through however many CPUs there are.
type lane struct {
	served         atomic.Int64 // requests that have ended
	received, sent atomic.Int64 // bytes on the wire

	mu   sync.Mutex // guards the field below
	open requestSet // requests that have begun here, until they are over

	// away are requests whose connections have no reader.
	away later.List[*request]

	_ cpu.CacheLinePad
}

// mostLanes is how many there are at most: more make it no better, and take memory.
const mostLanes = 64

// Lanes is how many lanes serve for the CPUs that there are. It is a power of two.
func Lanes() int {
	n := 1
	for n < mostLanes && n < runtime.GOMAXPROCS(0) {
		n *= 2
	}
	return n
}

func newLanes() []lane {
	all := make([]lane, Lanes())
	for i := range all {
		all[i].open.list = inServer
		all[i].away.After = readAgainAfter
		all[i].away.Do = func(r *request) { go r.conn.readOn() }
	}
	return all
}

// lane is that of connections which have this number.
func (s *Server) lane(number uint32) *lane { return &s.lanes[number%uint32(len(s.lanes))] }

func (s *Server) addRequest(r *request) {
	l := s.lane(r.conn.number)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open.add(r)
}

// removeRequest is called when nothing of r is left.
func (s *Server) removeRequest(r *request) {
	l := s.lane(r.conn.number)
	l.mu.Lock()
	l.open.remove(r)
	l.mu.Unlock()
	if ended := s.ended.Load(); ended != nil { // Drain has stored it before it looked for r
		select {
		case *ended <- struct{}{}:
		default:
		}
	}
}

// openRequests are those that have begun under s and are not over.
func (s *Server) openRequests() (all []*request) {
	for i := range s.lanes {
		all = s.lanes[i].appendOpen(all)
	}
	return all
}

func (l *lane) appendOpen(to []*request) []*request {
	l.mu.Lock()
	defer l.mu.Unlock()
	for r := range l.open.all {
		to = append(to, r)
	}
	return to
}

// counted is the sum of what the lanes have counted.
func (s *Server) counted() (served, received, sent int64) {
	for i := range s.lanes {
		l := &s.lanes[i]
		served += l.served.Load()
		received += l.received.Load()
		sent += l.sent.Load()
	}
	return served, received, sent
}
