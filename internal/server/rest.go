package server

import "github.com/fcgid/fcgid/internal/protocol"

// leaveLocked notes that more of a request may come, which was answered before the client
// had sent all of it. What it still sends nobody wants, but a connection that is closed
// over it may take answers with it that the client has not read. A client that leaves too
// many so has its connection closed, once all is answered.
func (t *table) leaveLocked(id uint16) {
	if t.rest == nil {
		t.rest = make(map[uint16]struct{})
	}
	t.rest[id] = struct{}{}
	if len(t.rest) > maxOpen {
		t.phase = max(t.phase, phaseClosing)
	}
}

// ignore notes what a record says of a request that is not, or no longer, active.
func (t *table) ignore(rec protocol.Record) {
	ends := rec.Type == protocol.TypeStdin && len(rec.Content) == 0 && t.conn.in.reader.Left() == 0
	if ends || rec.Type == protocol.TypeAbortRequest {
		t.forgetRest(rec.ID)
	}
}

// forgetRest notes that nothing more of a request comes.
func (t *table) forgetRest(id uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.rest, id)
}
