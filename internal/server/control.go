package server

import (
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// SetGate says what becomes of requests that could run, from now on and also after
// Update.
func (s *Server) SetGate(g Gate) { s.admission.setGate(g) }

// ChangeGate is SetGate if the gate is from; it reports whether it was.
func (s *Server) ChangeGate(from, to Gate) bool {
	return s.admission.changeGate(from, to)
}

// Kill ends a request: its context ends, and it is answered with 503, unless some of its
// answer has left. The reason is for the log. It returns what the request was, and false
// when there is none of that serial.
func (s *Server) Kill(serial uint64, reason error) (RequestInfo, bool) {
	for _, r := range s.openRequests() {
		if r.req.Serial != serial {
			continue
		}
		info := r.info(time.Now())
		return info, r.conn.table.endLive(r, &verdict{503, 503, protocol.StatusRequestComplete, Failed, reason})
	}
	return RequestInfo{}, false
}
