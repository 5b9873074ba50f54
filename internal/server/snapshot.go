package server

import (
	"cmp"
	"slices"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A Snapshot is the state of a pool at one moment.
type Snapshot struct {
	Limits           Limits
	Gate             Gate
	Connections      int   // open now
	ConnectionsTotal int64 // accepted since the start
	InFlight         int   // requests running, and what is overdue
	Overdue          int   // what runs though its request has ended
	Queued           int   // requests waiting for their turn
	Served           int64 // requests that have ended since the start
	Received, Sent   int64 // bytes on the wire
	Tally            Tally
	Spooled          int64 // bytes in files of bodies and answers
}

// A RequestInfo describes one open request.
type RequestInfo struct {
	Serial uint64
	Remote string
	Stage  string             // params, body, queued, running or ending
	Age    time.Duration      // since BEGIN_REQUEST
	Queue  time.Duration      // of it until it ran, or till now
	Run    time.Duration      // of it since then; 0 when it does not run yet
	PID    int                // of its program; 0 without one
	IsOwn  bool               // Settings.Own has a Runner for it
	Params *protocol.Params   // nil while they come; not to be changed
	ID     protocol.RequestID // none while they come
}

// Snapshot returns the pool's numbers.
func (s *Server) Snapshot() Snapshot {
	running, overdue, waiting, gate := s.admission.numbers()
	served, received, sent := s.counted()
	s.mu.Lock()
	conns := s.open
	s.mu.Unlock()
	return Snapshot{
		Limits: s.settings.Load().Limits, Gate: gate, Connections: conns, ConnectionsTotal: s.connsTotal.Load(),
		InFlight: running, Overdue: overdue, Queued: waiting, Served: served, Tally: s.admission.tallied(),
		Received: received, Sent: sent, Spooled: s.spooled.used.Load(),
	}
}

// Requests returns what is open, the oldest first.
func (s *Server) Requests() []RequestInfo {
	var all []RequestInfo
	now := time.Now()
	for _, r := range s.openRequests() {
		all = append(all, r.info(now))
	}
	slices.SortFunc(all, func(a, b RequestInfo) int { return cmp.Compare(a.Serial, b.Serial) })
	return all
}

// info describes the request, from any goroutine.
func (r *request) info(now time.Time) RequestInfo {
	i := RequestInfo{
		Serial: r.req.Serial, Remote: r.conn.remote, Stage: listedAs[r.stateNow()],
		PID: int(r.pid.Load()), IsOwn: r.isOwn.Load(), Params: r.known.Load(), Age: now.Sub(r.begun),
	}
	if i.Params != nil {
		i.ID = r.req.ID
	}
	if i.Stage == listedAs[stateRun] && r.startedAt.Load() == 0 {
		i.Stage = listedAs[stateWait] // in a queue of its Runner
	}
	i.Queue = i.Age
	if nanos := r.startedAt.Load(); nanos != 0 {
		started := time.Unix(0, nanos)
		i.Queue, i.Run = started.Sub(r.begun), now.Sub(started)
	}
	return i
}
