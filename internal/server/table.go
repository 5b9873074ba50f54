package server

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// maxOpen is how many requests a connection may have open beyond those that run
// or wait.
const maxOpen = 1024

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

// begin opens a request. One that is refused has its answer when its PARAMS have
// come, so that the log knows what it was; only where there are too many it is not
// opened at all.
func (t *table) begin(rec protocol.Record) error {
	b, err := protocol.ParseBegin(rec.Content)
	if err != nil {
		return err
	}
	limits := t.conn.server().settings.Load().Limits
	t.mu.Lock()
	active, open, phase, known := len(t.byID), t.live.size, t.phase, t.byID[rec.ID] != nil
	t.mu.Unlock()
	if known {
		return fmt.Errorf("BEGIN_REQUEST of the active request %d: %w", rec.ID, errSequence)
	}
	if phase >= phaseEnding {
		return nil
	}
	if active > 0 {
		t.conn.inPlace.shared = true
	}
	if open >= maxOpen+limits.MaxReqs+limits.Queue {
		return t.refuseBegin(rec.ID, b, errors.New("too many open requests on one connection"))
	}
	r := newRequest(t.conn, rec.ID, b)
	if err := r.memory.take(requestSize); err != nil {
		r.dispose()
		return t.refuseBegin(rec.ID, b, err)
	}
	switch {
	case b.Role != protocol.RoleResponder && b.Role != protocol.RoleAuthorizer:
		r.refusal = &verdict{501, 501, protocol.StatusUnknownRole, Rejected, fmt.Errorf("%v is not supported", b.Role)}
	case active > 0 && !limits.Multiplex:
		r.refusal = &verdict{503, 503, protocol.StatusCantMpxConn, Rejected, errors.New("multiplexing is off")}
	case active > 0 && phase >= phaseClosing:
		r.refusal = overload(errors.New("connection is being closed"))
	}
	t.receiving = append(t.receiving, r)
	if t.enter(r) {
		t.conn.in.resume()
	}
	if err := t.conn.parentEnd(); err != nil {
		t.end(r, err)
	}
	return nil
}

// enter takes r in. It reports whether the connection was about to be closed for
// want of a request.
func (t *table) enter(r *request) (lastCall bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = true
	delete(t.trailing, r.id)
	t.byID[r.id] = r
	t.live.add(r)
	if t.phase == phaseLastCall {
		t.phase = phaseDraining
		return true
	}
	return false
}

// refuseBegin answers a BEGIN_REQUEST at once. No request comes of it, and what
// follows is ignored, like all records of inactive ones.
func (t *table) refuseBegin(id uint16, b protocol.Begin, reason error) error {
	v := overload(reason)
	answer := ourAnswer(v.httpStatus, false)
	out := protocol.AppendRecord(nil, protocol.TypeStdout, id, answer)
	out = protocol.AppendRecord(out, protocol.TypeStdout, id, nil)
	end := protocol.End{AppStatus: v.appStatus, Status: v.status}
	out = protocol.AppendEnd(out, id, end)
	t.mu.Lock()
	t.noteTrailingLocked(id)
	if !b.Keep {
		t.phase = max(t.phase, phaseClosing)
	}
	t.mu.Unlock()
	now, name := time.Now(), protocol.Identify(new(protocol.Params))
	return t.conn.out.post(out, &Result{
		Outcome: v.outcome, HTTPStatus: v.httpStatus, End: end, Reason: v.reason, Remote: t.conn.remote,
		Serial: t.conn.server().opt.Serials.Add(1), ID: &name, Params: &protocol.Params{}, Begun: now, Ended: now,
		Sent: int64(len(answer)), Body: int64(ourBody(answer)),
	})
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
	switch came, err := r.server.admission.enter(&r.turn); {
	case !came:
	case err == nil && t.conn.mayRunInPlace(r):
		t.conn.inPlace.next = r
	default:
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

// drop ends a request of which the client will not send the rest.
func (t *table) drop(r *request, cause error) {
	t.end(r, cause)
	r.dropStdin()
	t.forget(r)
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

// end is the event that a request has to end, for a reason. Whoever holds a request
// that is live may call it: the goroutine it starts is one that the connection waits for.
func (t *table) end(r *request, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLocked(r, cause)
}

// endLive is end for whoever does not know whether r is live. It reports whether it is.
func (t *table) endLive(r *request, cause error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.inSet {
		t.endLocked(r, cause)
	}
	return r.inSet
}

func (t *table) endLocked(r *request, cause error) {
	from, to, _ := r.stepLocked(eventEnd)
	if to == stateOver {
		return
	}
	goesOn := from == stateRun && r.mayOutlive() || from == stateParting || from == stateLeft
	if !isLeaving(cause) || !goesOn {
		t.cancelLocked(r, cause)
	}
	if from == stateWait {
		r.server.admission.giveUp(&r.turn)
	}
	if errors.Is(cause, ErrShutdown) || isLeaving(cause) {
		r.stdinOver.happen() // the answer does not wait for it
	}
	if isLeaving(cause) && r.gone == nil {
		r.gone = cause
		r.answer.backlog.drop()
	}
	if from != to {
		t.conn.wg.Go(func() { r.finish(0, cause) })
	}
}

// whyGone is why nobody waits for r any more, or nil.
func (t *table) whyGone(r *request) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.gone == nil && t.conn.out.lost.Load() {
		return ErrClientGone // the read loop is about to find out
	}
	return r.gone
}

// isLeaving reports whether a request ends since nobody waits for it.
func isLeaving(cause error) bool { return cause == ErrAborted || cause == ErrClientGone }

// cancelLocked ends what works for r.
func (t *table) cancelLocked(r *request, cause error) {
	if r.ctx.Err() != nil {
		return
	}
	r.cancelFn(cause)
	if r.afterCancel != nil {
		t.conn.wg.Go(r.afterCancel)
		r.afterCancel = nil
	}
	if live, ok := r.req.Stdin.(*liveBody); ok && r.stateNow().hasRunner() {
		t.conn.wg.Go(live.wake) // which waits while the file is written
	}
	t.conn.out.hurry(r)
}

// endAll ends every request.
func (t *table) endAll(cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.live.all {
		t.endLocked(r, cause)
	}
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

// clientGone ends the requests of a connection that is gone. It is the last thing
// that the read loop does.
func (t *table) clientGone() {
	t.endAll(ErrClientGone)
	for _, r := range t.receiving {
		r.dropStdin()
	}
	t.receiving, t.ready = nil, nil
}
