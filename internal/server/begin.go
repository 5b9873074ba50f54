package server

import (
	"errors"
	"fmt"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

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
	out = protocol.AppendEnd(out, id, v.wireEnd())
	t.mu.Lock()
	t.noteTrailingLocked(id)
	if !b.Keep {
		t.phase = max(t.phase, phaseClosing)
	}
	t.mu.Unlock()
	now, name := time.Now(), protocol.Identify(new(protocol.Params))
	return t.conn.out.post(out, &Result{
		Outcome: v.outcome, HTTPStatus: v.httpStatus, End: v.wireEnd(), Reason: v.reason, Remote: t.conn.remote, Conn: t.conn.number,
		Serial: t.conn.server().opt.Serials.Add(1), ID: &name, Params: &protocol.Params{}, Begun: now, Ended: now,
		Sent: int64(len(answer)), Body: int64(ourBody(answer)),
	})
}

// maxOpen is how many requests a connection may have open beyond those that run
// or wait.
const maxOpen = 1024
