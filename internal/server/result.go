package server

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
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

// A Result is what became of a request, for logs and metrics. It is valid during the call, with what
// it points to.
type Result struct {
	Outcome    Outcome
	HTTPStatus int // of the response that was begun; 0 without one
	End        protocol.End
	Reason     error // why the answer is not its program's, or nil
	Serial     uint64
	ID         *protocol.RequestID
	IsOwn      bool // Settings.Own had a Runner for it
	Remote     string
	Conn       uint32 // number of its connection; one of another Address may have the same
	Params     *protocol.Params
	PID        int           // of the program; 0 without one
	Begun      time.Time     // BEGIN_REQUEST
	Queue      time.Duration // from BEGIN_REQUEST until it ran, or to the end
	Run        time.Duration // from then on; 0 when it never ran
	Received   int64         // bytes of STDIN
	Sent       int64         // bytes of STDOUT
	Body       int64         // of these without the header
	Dropped    []string      // lines of the response's header that are no fields
	OnAbort    OnAbort       // what was to become of it when its client left

	Header    []byte        // of the response as its program gave it, in lines that end with CRLF
	FirstByte time.Duration // of Run: until that was complete; 0 without one
	Ended     time.Time     // END_REQUEST
	Usage     protocol.Usage
}

// results are those that are not in use.
var results = sync.Pool{New: func() any { return new(Result) }}

// report fills in all but Usage, and hands it over.
func (r *request) report(now time.Time, res *Result) {
	last := &r.last
	r.answer.mu.Lock() // its Runner may be about to take back what it has counted (unsend)
	*res = Result{
		Outcome: last.verdict.outcome, HTTPStatus: r.answer.status, End: last.verdict.wireEnd(), Reason: last.verdict.reason,
		Serial: r.req.Serial, ID: last.name, IsOwn: r.isOwn.Load(), Remote: r.conn.remote, Conn: r.conn.number, Params: last.params, PID: int(r.pid.Load()),
		Begun: r.begun, Queue: now.Sub(r.begun),
		Received: r.received.Load(), Sent: r.answer.sent, Dropped: r.answer.dropped, OnAbort: r.settings.OnAbort,
		Body: max(0, r.answer.sent-int64(r.answer.headLen)), Header: r.answer.block, Ended: now,
	}
	blockAt := r.answer.blockAt
	r.answer.mu.Unlock()
	if nanos := r.startedAt.Load(); nanos != 0 {
		started := time.Unix(0, nanos)
		res.Queue, res.Run = started.Sub(r.begun), now.Sub(started)
		if !blockAt.IsZero() {
			res.FirstByte = blockAt.Sub(started)
		}
	}
	r.server.done(res)
}

func (s *Server) done(res *Result) {
	s.lane(res.Conn).served.Add(1)
	if len(res.Dropped) > 0 {
		s.opt.Log.Warn("response header has lines that are no fields, which were dropped",
			"lines", res.Dropped, "request", res.Serial, "client", res.client(),
			"script", res.Params.Get("SCRIPT_FILENAME"))
	}
	if res.Outcome != OK || res.End.AppStatus != 0 {
		s.log(res)
	}
	if s.opt.Hooks.Done != nil {
		s.opt.Hooks.Done(res)
	}
}

// account hands a result over for the last time.
func (s *Server) account(res *Result) {
	if s.opt.Hooks.Account != nil {
		s.opt.Hooks.Account(res)
	}
	*res = Result{}
	results.Put(res)
}

// client is who asked, as far as is known.
func (r *Result) client() string { return cmp.Or(r.Params.Get("REMOTE_ADDR"), r.Remote) }

// level is Warn for what a program or an overload did; Info for what was not allowed, so that
// whoever set it up finds out why, and for a program that failed behind its answer or whose
// client has left; Debug for what happens every day.
func (r *Result) level() slog.Level {
	switch {
	case r.Outcome == OK, r.Outcome == Rejected, r.Outcome == Aborted && r.Run > 0:
		return slog.LevelInfo
	case r.Outcome == Aborted:
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// log tells what went wrong. Of many of one kind a few are logged, unless the log takes Debug.
func (s *Server) log(res *Result) {
	level := res.level()
	ctx := context.Background()
	if !s.opt.Log.Enabled(ctx, level) {
		return
	}
	fields := []slog.Attr{
		slog.String("outcome", string(res.Outcome)), slog.Uint64("request", res.Serial), slog.String("id", res.ID.String()),
		slog.String("remote", res.Remote), slog.String("client", res.client()),
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
