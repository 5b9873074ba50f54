package server

import (
	"context"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

const (
	// endSilence and endWait are how long an answer of our own waits for the end of
	// STDIN: while the client sends, and in all. Web servers stop sending a body, or
	// break, when its answer comes before its end; but it has to come.
	endSilence = 5 * time.Second
	endWait    = 30 * time.Second
)

// A lastWord is what ends a request for its client: the rest of its answer, or one of our own,
// the ends of the streams, END_REQUEST.
type lastWord struct {
	lastPart
	verdict verdict
	params  *protocol.Params    // none, if they had not come
	name    *protocol.RequestID // made, likewise
	isEarly bool                // it goes out before the client has sent all of STDIN

	hasRunner bool // when it was sent: the Runner has not returned
}

// finish ends the request, and waits until its last word is written. It is called once, by
// who has made the step to stateAnswer or stateParting, unless that calls finishSoon;
// nothing else ends what was begun.
func (r *request) finish(appStatus uint32, err error) {
	r.conclude(appStatus, err)
	r.conn.table.freeID(r)
	r.sendLast()
}

// finishSoon is finish for who has nothing else to do for r: what ends other requests may
// leave with it, and others may write it.
func (r *request) finishSoon(appStatus uint32, err error) {
	r.conclude(appStatus, err)
	others := r.conn.table.freeID(r)
	r.conn.out.gather(r, others)
}

// conclude closes the answer and makes r's last word.
func (r *request) conclude(appStatus uint32, err error) {
	hasHead, isOut := r.answer.close()
	if cause := context.Cause(r.ctx); cause != nil {
		err = cause
	}
	v := r.judge(appStatus, err, hasHead, isOut)
	if v.isOurs(isOut) {
		r.awaitStdin()
	}
	<-r.answer.backlog.drained()
	if gone := r.conn.table.whyGone(r); gone != nil {
		v = r.judge(0, gone, hasHead, isOut)
	}
	params, name := r.known.Load(), &r.req.ID
	if params == nil {
		params = new(protocol.Params)
		made := protocol.Identify(params)
		name = &made
	}
	isOurs := v.isOurs(isOut)
	r.last = lastWord{
		lastPart: r.lastPart(&v, params, isOurs), verdict: v, params: params, name: name,
		isEarly: isOurs && !r.consumed.Load() && r.req.Role != protocol.RoleAuthorizer,
	}
}

// sendLast sends r's last word, and waits for the client.
func (r *request) sendLast() {
	r.conn.out.write(r, r.last.records) // a connection that cannot be written to is closed
	now := time.Now()
	r.sent(now)
	r.tell(now)
}

// sent is called when r's last word was written at that time, or cannot be.
func (r *request) sent(at time.Time) {
	r.last.drop()
	r.last.hasRunner = r.conn.table.sent(r, at)
}

// tell hands over what became of r, after that.
func (r *request) tell(at time.Time) {
	r.result = results.Get().(*Result)
	r.report(at, r.result)
	r.account(r.last.hasRunner)
}

// account hands the result over to Hooks.Account. If the Runner still has the request, and
// is sure to end it soon, that is for whoever comes last.
func (r *request) account(hasRunner bool) {
	switch {
	case !hasRunner:
		r.result.Usage = r.usage
	case r.ctx.Err() == nil || r.settings.Abandon > 0:
	case r.accounts.Add(1) < 2:
		return
	default:
		r.result.Usage = r.usage
	}
	r.server.account(r.result)
}

// accountLate is called when the Runner has returned after END_REQUEST.
func (r *request) accountLate() {
	if r.accounts.Add(1) == 2 {
		r.result.Usage = r.usage
		r.server.account(r.result)
	}
}

// awaitStdin waits until the client has sent all, or will not, for as long as an answer
// of our own may wait.
func (r *request) awaitStdin() {
	if r.stdinOver.has.Load() {
		return
	}
	last := time.Now().Add(endWait)
	timer := time.NewTimer(endSilence)
	defer timer.Stop()
	for {
		select {
		case <-r.stdinOver.wait():
			return
		case now := <-timer.C:
			until := time.Unix(0, r.heard.Load()).Add(endSilence)
			if until.After(last) {
				until = last
			}
			if !now.Before(until) {
				return
			}
			timer.Reset(until.Sub(now))
		}
	}
}

// maxEnd is the length of what follows the rest of a usual answer: padding, the end
// of STDOUT, END_REQUEST.
const maxEnd = 2*protocol.HeaderLen + 7 + protocol.HeaderLen + 8

// lastPart is what ends the request: the rest of the answer, or one of our own, the ends of
// the streams, END_REQUEST.
func (r *request) lastPart(v *verdict, params *protocol.Params, isOurs bool) lastPart {
	w := &r.answer
	w.mu.Lock()
	defer w.mu.Unlock()
	var last lastPart
	switch {
	case v.outcome == Aborted:
		w.last.drop()
		last = r.roomFor(0)
	case isOurs:
		w.last.drop()
		answer := ourAnswer(v.httpStatus, params.Get("REQUEST_METHOD") == "HEAD")
		w.sent, w.status = int64(len(answer)), v.httpStatus
		w.headLen, w.block, w.blockAt = len(answer)-ourBody(answer), nil, time.Time{}
		last = r.roomFor(len(answer) + len(w.heldErr))
		last.records = protocol.AppendRecord(last.records, protocol.TypeStdout, r.id, answer)
		last.records = w.appendStderrLocked(last.records)
	default:
		last = w.takeLastLocked()
		last.records = w.appendStderrLocked(last.records)
	}
	if w.hasStderr {
		last.records = protocol.AppendRecord(last.records, protocol.TypeStderr, r.id, nil)
	}
	last.records = protocol.AppendRecord(last.records, protocol.TypeStdout, r.id, nil)
	last.records = protocol.AppendEnd(last.records, r.id, v.wireEnd())
	return last
}
