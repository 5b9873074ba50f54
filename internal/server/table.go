package server

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A table is what a connection carries: its requests, from BEGIN_REQUEST until
// nothing of them is left. handle does what a record means, settleLocked decides whether
// the connection is over once all is answered.
type table struct {
	conn *conn

	// Owned by the read loop.
	receiving   []*request // of which the client has more to send
	paramsBytes int64      // PARAMS held by receiving
	ready       []*request // that start before the read loop waits for more

	paramsHeld atomic.Int64 // bytes of the PARAMS of live requests, as parsed

	mu       sync.Mutex          // guards the fields below, and the state of each request
	byID     map[uint16]*request // until END_REQUEST
	live     requestSet          // until they are over
	sending  int                 // ends of requests, and other records, that are being written
	phase    phase
	used     bool                // a request was begun
	trailing map[uint16]struct{} // what the client may still send of requests that are answered
	idle     time.Time           // when the connection was taken in, or its last request ended
}

// A phase is how far a connection has come to its end. It never goes back, but from
// phaseLastCall when a request comes.
type phase uint8

const (
	phaseOpen     phase = iota
	phaseDraining       // closed once all is answered, and no request is on its way
	phaseLastCall       // the same, and nothing is open: a request may be on its way
	phaseClosing        // closed once all is answered
	phaseForced         // the same, without reading what nobody wants
	phaseEnding         // our last word is said; what the client still sends is read
	phaseClosed
)

func (t *table) init(c *conn) {
	t.conn, t.byID = c, make(map[uint16]*request)
}

// handle does what a record means. An error ends the connection.
func (t *table) handle(rec protocol.Record) error {
	t.conn.in.bulk = nil
	if rec.IsManagement() {
		return t.manage(rec)
	}
	if rec.Type == protocol.TypeBeginRequest {
		return t.begin(rec)
	}
	r := t.find(rec.ID)
	if r == nil {
		t.ignore(rec)
		return nil // section 3.3: records of an inactive request are ignored
	}
	switch rec.Type {
	case protocol.TypeParams:
		return t.params(r, rec.Content)
	case protocol.TypeStdin:
		t.stdin(r, rec.Content)
	case protocol.TypeAbortRequest:
		r.consumed.Store(true) // nothing of it follows
		t.ignore(rec)
		t.drop(r, ErrAborted)
	default:
		if rec.Type != protocol.TypeData || r.req.Role != protocol.RoleFilter { // which is refused
			r.server.protocolError(kindUnexpectedType)
		}
	}
	return nil
}

// manage answers a record that belongs to no request (section 4).
func (t *table) manage(rec protocol.Record) error {
	c, s := t.conn, t.conn.server()
	if t.isEnding() {
		return nil
	}
	switch rec.Type {
	case protocol.TypeGetValues:
		return c.out.post(protocol.AppendGetValuesResult(nil, rec.Content, s.value))
	case protocol.TypeGetValuesResult, protocol.TypeUnknownType:
		s.protocolError(kindUnexpectedType)
		return nil
	}
	s.protocolError(kindUnknownType)
	return c.out.post(protocol.AppendUnknownType(nil, rec.Type))
}

// params takes PARAMS of r.
func (t *table) params(r *request, content []byte) error {
	switch r.stateNow() {
	case stateParams:
	case stateAnswer:
		if r.known.Load() == nil {
			return nil // it is being ended without them
		}
		fallthrough
	default:
		r.server.protocolError(kindSequence)
		return nil
	}
	before := r.params.Len()
	r.addParams(content)
	t.paramsBytes += int64(r.params.Len() - before)
	if limit := r.settings.Limits.Params; limit > 0 && t.paramsBytes > 4*limit {
		return fmt.Errorf("PARAMS of %d unfinished requests: %w", len(t.receiving), errFlood)
	}
	t.progress(r)
	return nil
}

// stdin takes the content of a STDIN record, or the part of it that was read.
func (t *table) stdin(r *request, content []byte) {
	if r.consumed.Load() {
		r.server.protocolError(kindSequence)
		return
	}
	left := t.conn.in.reader.Left()
	if left == 0 || len(content) > 0 { // else nothing was read of it
		r.addStdin(content)
		if len(content) == 0 {
			t.forgetTrailing(r.id) // it may have been answered meanwhile
		}
		t.progress(r)
	}
	if len(content)+left >= bulkMin {
		t.conn.in.bulk = r
	}
}

// progress notes that r has received something, and starts it when it can run.
func (t *table) progress(r *request) {
	r.heard.Store(t.conn.in.heard.UnixNano())
	if r.stdinClosed && r.stateNow() != stateParams {
		t.forget(r)
	}
	switch {
	case !r.isReady():
	case !r.stdinClosed: // the rest may be at hand, and then there is nothing to wait for
		t.ready = append(t.ready, r)
	default:
		t.launch(r)
	}
}

// launchReady starts what is ready and has not heard the end of STDIN: the read loop
// is about to wait for more.
func (t *table) launchReady() {
	for _, r := range t.ready {
		t.launch(r)
	}
	t.ready = t.ready[:0]
}

// launch has r run, unless that was done or it has ended.
func (t *table) launch(r *request) {
	if !r.isReady() {
		return
	}
	r.prepare()
	if !t.step(r, eventReady) {
		return
	}
	r.launched = true
	t.conn.wg.Add(1)
	if r.isOwn.Load() {
		r.turnCame(r.server.own.enter())
		return
	}
	if t.conn.mayRunInPlace(r) {
		t.conn.inPlace.next = r
		return
	}
	if came, err := r.server.admission.enter(&r.turn); came {
		r.turnCame(err)
	}
}

// forget takes r off what the read loop watches.
func (t *table) forget(r *request) {
	if i := slices.Index(t.receiving, r); i >= 0 {
		t.receiving = slices.Delete(t.receiving, i, i+1)
		t.paramsBytes -= int64(r.params.Len())
	}
}

// forgetAnswered does that to requests that were answered before STDIN had ended.
func (t *table) forgetAnswered() {
	for i := len(t.receiving) - 1; i >= 0; i-- {
		if r := t.receiving[i]; !t.isOpen(r) {
			t.forget(r)
			r.dropStdin()
		}
	}
}

// isOpen reports whether r's END_REQUEST is not on its way.
func (t *table) isOpen(r *request) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.byID[r.id] == r
}

func (t *table) find(id uint16) *request {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase >= phaseEnding {
		return nil
	}
	return t.byID[id]
}

// isEnding reports whether our last word is said.
func (t *table) isEnding() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.phase >= phaseEnding
}

// step is an event that changes nothing but the state.
func (t *table) step(r *request, e event) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _, ok := r.stepLocked(e)
	return ok
}

// returned is the event that r's Runner has returned, or that it was never its turn.
// The rest of the answer is sent from here, unless somebody does already.
func (t *table) returned(r *request, appStatus uint32, err error) {
	t.mu.Lock()
	from, to, ok := r.stepLocked(eventReturned)
	t.letGoLocked(r)
	t.mu.Unlock()
	switch {
	case !ok: // it was ended while it waited
	case to == stateOver:
		r.accountLate()
		r.dispose()
	case from != stateParting:
		r.finishSoon(appStatus, err)
	}
}

// freeID is for before r's last word is written: the peer may use r's id again as soon as
// it has seen that. It reports whether other requests are open, or about to be answered.
func (t *table) freeID(r *request) (others bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.byID, r.id)
	t.sending++
	if !r.keep || r.last.isEarly {
		t.phase = max(t.phase, phaseClosing)
	}
	if !r.consumed.Load() && r.req.Role != protocol.RoleAuthorizer {
		t.noteTrailingLocked(r.id)
	}
	return len(t.byID) > 0 || t.sending > 1
}

// sent is the event that r's last word was written at that time, or cannot be. It reports
// whether r's Runner still has it.
func (t *table) sent(r *request, at time.Time) (hasRunner bool) {
	t.mu.Lock()
	t.sending--
	t.idle = at
	_, to, _ := r.stepLocked(eventSent)
	t.letGoLocked(r)
	t.settleLocked()
	t.mu.Unlock()
	if to == stateOver {
		r.dispose()
	}
	return to == stateLeft
}

// letGoLocked takes r off the live requests when it is over.
func (t *table) letGoLocked(r *request) {
	if r.stateNow() == stateOver {
		t.live.remove(r)
		t.paramsHeld.Add(-r.paramsSize.Swap(0))
	}
}
