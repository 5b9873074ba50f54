package server

import "github.com/fcgid/fcgid/internal/protocol"

// noteTrailingLocked notes that more of a request may come, which was answered before the client
// had sent all of it. What it still sends nobody wants, but a connection that is closed
// over it may take answers with it that the client has not read. A client that leaves too
// many so has its connection closed, once all is answered.
func (t *table) noteTrailingLocked(id uint16) {
	if t.trailing == nil {
		t.trailing = make(map[uint16]struct{})
	}
	t.trailing[id] = struct{}{}
	if len(t.trailing) > maxOpen {
		t.phase = max(t.phase, phaseClosing)
	}
}

// ignore notes what a record says of a request that is not, or no longer, active.
func (t *table) ignore(rec protocol.Record) {
	ends := rec.Type == protocol.TypeStdin && len(rec.Content) == 0 && t.conn.in.reader.Left() == 0
	if ends || rec.Type == protocol.TypeAbortRequest {
		t.forgetTrailing(rec.ID)
	}
}

// forgetTrailing notes that nothing more of a request comes.
func (t *table) forgetTrailing(id uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.trailing, id)
}
