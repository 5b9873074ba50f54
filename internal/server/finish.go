package server

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// An Outcome is what became of a request.
type Outcome string

// The outcomes. There are no others, so they can be a metric's label.
const (
	OK         Outcome = "ok"         // answered by its program, which was content
	Failed     Outcome = "error"      // its program failed or did not answer
	TimedOut   Outcome = "timeout"    // it or its client was too slow
	Aborted    Outcome = "aborted"    // its client gave up
	Overloaded Outcome = "overloaded" // there was no room for it
	Rejected   Outcome = "rejected"   // it was not to be run
)

// A Result is what became of a request, for logs and metrics.
type Result struct {
	Outcome    Outcome
	HTTPStatus int // of the response that was begun; 0 without one
	End        protocol.End
	Reason     error // why the answer is not its program's, or nil
	Serial     uint64
	ID         *protocol.RequestID
	IsOwn      bool // Settings.Own had a Runner for it
	Remote     string
	Params     *protocol.Params // valid during the call
	PID        int              // of the program; 0 without one
	Begun      time.Time        // BEGIN_REQUEST
	Queue      time.Duration    // from BEGIN_REQUEST until it ran, or to the end
	Run        time.Duration    // from then on; 0 when it never ran
	Received   int64            // bytes of STDIN
	Sent       int64            // bytes of STDOUT
	Body       int64            // of these without the header
	Dropped    []string         // lines of the response's header that are no fields
	OnAbort    OnAbort          // what was to become of it when its client left

	Header    []byte        // of the response as its program gave it, in lines that end with CRLF
	FirstByte time.Duration // of Run: until that was complete; 0 without one
	Ended     time.Time     // END_REQUEST
	Usage     protocol.Usage
}

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
	records []byte
	verdict refusal
	end     protocol.End
	isEarly bool // it goes out before the client has sent all of STDIN

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
	begun, left := r.answer.close()
	if cause := context.Cause(r.ctx); cause != nil {
		err = cause
	}
	v := r.verdict(appStatus, err, begun, left)
	if v.isOwn(left) {
		r.awaitStdin()
	}
	<-r.answer.backlog.drained()
	if gone := r.conn.table.whyGone(r); gone != nil {
		v = r.verdict(0, gone, begun, left)
	}
	params, name := r.known.Load(), &r.req.ID
	if params == nil {
		params = new(protocol.Params)
		made := protocol.Identify(params)
		name = &made
	}
	r.result.Params, r.result.ID = params, name
	isOwn := v.isOwn(left)
	end := protocol.End{AppStatus: v.appStatus, Status: v.status}
	// No pooled buffer: many may wait for a client that does not read.
	out := r.appendEnd(r.end[:0], &v, params, isOwn)
	r.last = lastWord{
		records: protocol.AppendEnd(out, r.id, end), verdict: v, end: end,
		isEarly: isOwn && !r.consumed.Load() && r.req.Role != protocol.RoleAuthorizer,
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
func (r *request) sent(at time.Time) { r.last.hasRunner = r.conn.table.sent(r, at) }

// tell hands over what became of r, after that.
func (r *request) tell(at time.Time) {
	r.report(at, r.last.verdict, r.last.end)
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
	r.server.account(&r.result)
}

// accountLate is called when the Runner has returned after END_REQUEST.
func (r *request) accountLate() {
	if r.accounts.Add(1) == 2 {
		r.result.Usage = r.usage
		r.server.account(&r.result)
	}
}

func (s *Server) account(res *Result) {
	if s.opt.Hooks.Account != nil {
		s.opt.Hooks.Account(res)
	}
}

// isOwn reports whether v is an answer of our own. Once some of the program's has left
// it can only be cut short.
func (v *refusal) isOwn(left bool) bool { return v.httpStatus != 0 && !left }

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

// appendEnd appends what comes before END_REQUEST: the rest of the answer, or
// one of our own, and the ends of the streams.
func (r *request) appendEnd(dst []byte, v *refusal, params *protocol.Params, isOwn bool) []byte {
	w := &r.answer
	w.mu.Lock()
	defer w.mu.Unlock()
	dst = slices.Grow(dst, len(w.held)+len(w.heldErr)+maxEnd)
	switch {
	case v.outcome == Aborted:
	case isOwn:
		answer := ownAnswer(v.httpStatus, params.Get("REQUEST_METHOD") == "HEAD")
		w.sent, w.status = int64(len(answer)), v.httpStatus
		w.headLen, w.block, w.blockAt = len(answer)-ownBody(answer), nil, time.Time{}
		dst = protocol.AppendRecord(dst, protocol.TypeStdout, r.id, answer)
		dst = w.appendStderrLocked(dst)
	default:
		dst = w.appendHeldLocked(dst)
		dst = w.appendStderrLocked(dst)
	}
	if w.hasStderr {
		dst = protocol.AppendRecord(dst, protocol.TypeStderr, r.id, nil)
	}
	return protocol.AppendRecord(dst, protocol.TypeStdout, r.id, nil)
}

// verdict decides how a request ends. A zero httpStatus is no answer of our
// own; where one has to be, what its program has begun and not sent is dropped.
func (r *request) verdict(appStatus uint32, err error, begun, left bool) refusal {
	if err != nil {
		if v, ok := knownVerdict(err); ok {
			return v
		}
	}
	if begun && (err == nil || left) {
		return r.ended(appStatus, err)
	}
	var instead []byte // of a header
	if err == nil {
		instead = r.answer.head
		err = cgi.Unfinished(instead)
	}
	if appStatus == 0 {
		appStatus = 500
	} else {
		err = fmt.Errorf("%w (%s)", err, cgi.ExitText(appStatus))
	}
	err = cgi.HeaderError(err, instead)
	return refusal{502, appStatus, 0, Failed, err}
}

// ended is the verdict on an answer that its program has begun.
func (r *request) ended(appStatus uint32, err error) refusal {
	switch short := r.answer.checkWhole(); {
	case err != nil && appStatus == 0:
		return refusal{0, 500, 0, Failed, err}
	case err != nil:
		return refusal{0, appStatus, 0, Failed, err}
	case short != nil && appStatus != 0:
		return refusal{0, appStatus, 0, Failed, fmt.Errorf("%w (%s)", short, cgi.ExitText(appStatus))}
	case short != nil:
		return refusal{0, appStatus, 0, Failed, short}
	}
	return refusal{0, appStatus, 0, OK, nil}
}

// knownVerdict is what an error means that says how a request is to end.
func knownVerdict(err error) (v refusal, ok bool) {
	var own *refusal
	var refused *protocol.Refusal
	switch {
	case errors.As(err, &own):
		return *own, true
	case errors.Is(err, ErrAborted), errors.Is(err, ErrClientGone): // also of a Runner that refuses for it
		return refusal{0, 0, 0, Aborted, err}, true
	case errors.As(err, &refused):
		v := refusal{refused.HTTPStatus, refused.AppStatus, 0, Rejected, err}
		switch {
		case refused.HTTPStatus == http.StatusServiceUnavailable:
			v.status, v.outcome = protocol.StatusOverloaded, Overloaded
		case refused.HTTPStatus == http.StatusRequestTimeout: // a handler has its own idea of how long
			v.outcome = TimedOut
		case refused.HTTPStatus >= 500:
			v.outcome = Failed
		}
		return v, true
	case errors.Is(err, ErrTimeout), errors.Is(err, ErrReadTimeout):
		return refusal{408, 408, 0, TimedOut, err}, true
	case errors.Is(err, ErrShutdown):
		return refusal{503, 503, protocol.StatusOverloaded, Overloaded, err}, true
	}
	return refusal{}, false
}

// ownAnswer is a complete CGI response: web servers look at nothing else.
func ownAnswer(status int, isHead bool) []byte {
	text := fmt.Sprintf("%d %s", status, http.StatusText(status))
	retry := ""
	if status == http.StatusServiceUnavailable {
		retry = "Retry-After: 1\r\n"
	}
	answer := "Status: " + text + "\r\nContent-Type: text/plain\r\n" + retry + "\r\n"
	if !isHead {
		answer += text + "\n"
	}
	return []byte(answer)
}

// ownBody is how long the body of an ownAnswer is.
func ownBody(answer []byte) int {
	return len(answer) - bytes.Index(answer, []byte("\r\n\r\n")) - len("\r\n\r\n")
}

func (r *request) report(now time.Time, v refusal, end protocol.End) {
	s := r.server
	res := &r.result
	*res = Result{
		Outcome: v.outcome, HTTPStatus: r.answer.status, End: end, Reason: v.reason,
		Serial: r.req.Serial, ID: res.ID, IsOwn: r.isOwn.Load(), Remote: r.conn.remote, Params: res.Params, PID: int(r.pid.Load()),
		Begun: r.begun, Queue: now.Sub(r.begun),
		Received: r.received.Load(), Sent: r.answer.sent, Dropped: r.answer.dropped, OnAbort: r.settings.OnAbort,
		Body: max(0, r.answer.sent-int64(r.answer.headLen)), Header: r.answer.block, Ended: now,
	}
	if nanos := r.startedAt.Load(); nanos != 0 {
		started := time.Unix(0, nanos)
		res.Queue, res.Run = started.Sub(r.begun), now.Sub(started)
		if !r.answer.blockAt.IsZero() {
			res.FirstByte = r.answer.blockAt.Sub(started)
		}
	}
	s.done(res)
}

func (s *Server) done(res *Result) {
	s.served.Add(1)
	if len(res.Dropped) > 0 {
		s.opt.Log.Warn("response header has lines that are no fields, which were dropped",
			"lines", res.Dropped, "request", res.Serial, "client", cmp.Or(res.Params.Get("REMOTE_ADDR"), res.Remote),
			"script", res.Params.Get("SCRIPT_FILENAME"))
	}
	if res.Outcome != OK || res.End.AppStatus != 0 {
		s.log(res)
	}
	if s.opt.Hooks.Done != nil {
		s.opt.Hooks.Done(res)
	}
}

// log tells what went wrong. The level is Warn for what a program or an overload did; Info
// for what was not allowed, so that whoever set it up finds out why, and for a program that
// failed behind its answer or whose client has left; Debug for what happens every day.
// Of many of one kind a few are logged, unless the log takes Debug.
func (s *Server) log(res *Result) {
	level := slog.LevelWarn
	switch {
	case res.Outcome == OK, res.Outcome == Aborted && res.Run > 0:
		level = slog.LevelInfo
	case res.Outcome == Aborted:
		level = slog.LevelDebug
	case res.Outcome == Rejected:
		level = slog.LevelInfo
	}
	ctx := context.Background()
	if !s.opt.Log.Enabled(ctx, level) {
		return
	}
	fields := []slog.Attr{
		slog.String("outcome", string(res.Outcome)), slog.Uint64("request", res.Serial), slog.String("id", res.ID.String()),
		slog.String("remote", res.Remote), slog.String("client", cmp.Or(res.Params.Get("REMOTE_ADDR"), res.Remote)),
		slog.String("script", res.Params.Get("SCRIPT_FILENAME")), slog.String("uri", res.Params.Get("REQUEST_URI")),
		slog.Int("status", res.HTTPStatus), slog.Uint64("app_status", uint64(res.End.AppStatus)),
		slog.Duration("queue", res.Queue), slog.Duration("run", res.Run),
	}
	if !s.opt.Log.Enabled(ctx, slog.LevelDebug) {
		n, ok := s.sampler.admit(resultKind{res.Outcome, res.HTTPStatus}, time.Now())
		if !ok {
			return
		}
		if n > 0 {
			fields = append(fields, slog.Int("left_out_before", n))
		}
	}
	if res.PID != 0 {
		fields = append(fields, slog.Int("pid", res.PID))
	}
	message := "request not served as asked"
	switch {
	case res.Outcome == OK:
		message = "request was answered, and its program failed"
		fields = append(fields, slog.String("error", cgi.ExitText(res.End.AppStatus)))
	case res.Reason != nil:
		fields = append(fields, slog.Any("error", res.Reason))
	}
	if res.Outcome == Aborted && res.Run > 0 {
		fields = append(fields, slog.String("on_client_abort", res.OnAbort.String()))
	}
	s.opt.Log.LogAttrs(ctx, level, message, fields...)
}

// logRest tells of results that were left out and that no other was logged for.
func (s *Server) logRest() {
	for kind, n := range s.sampler.rest() {
		s.opt.Log.Warn("more requests not served as asked, which were not logged",
			"outcome", string(kind.outcome), "status", kind.status, "requests", n)
	}
}
