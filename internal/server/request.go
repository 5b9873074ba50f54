package server

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fcgid/fcgid/internal/later"
	"github.com/fcgid/fcgid/internal/protocol"
)

// A request is one FCGI_BEGIN_REQUEST and all that comes of it. What happens to it
// is an event, and each event has a method; lifecycle.go says what it means in
// which state.
//
// Its goroutines are those of its connection: run, from when its turn has come, or it is
// turned away, until its Runner has returned (it may be the read loop's: runInPlace); and
// finish, which writes END_REQUEST. run sees to that itself unless the request has to end
// before.
type request struct {
	// Immutable.
	conn     *conn
	server   *Server // of the pool that had the address when the request began
	settings *Settings
	id       uint16
	keep     bool
	begun    time.Time
	ctx      context.Context
	cancelFn context.CancelCauseFunc
	release  func() // of Settings.Hold

	// Owned by the read loop.
	params        strings.Builder
	paramsDropped bool // nothing of PARAMS is taken any more
	hasLength     bool // CONTENT_LENGTH is a number
	stdinClosed   bool // nothing of STDIN is taken any more; stdinOver tells the other goroutines
	launched      bool // it was handed to admission: run discards stdin

	// Owned by the read loop. When the request is ready, stdin is set for good: run
	// reads from it and discards it, and the read loop still writes to a liveBody.
	refusal *verdict // why it is not to run, or cannot go on
	stdin   body     // nil while there is nothing in it

	// Owned by the read loop until the request is ready, then by run.
	wireParams protocol.Params // as they came; not changed once they are known
	isHead     bool
	queued     time.Time // when it was ready
	runner     Runner    // that does it: the settings', or of Settings.Own
	turn       turn
	req        protocol.Request
	timeout    *time.Timer // while it runs; nil without one
	slow       *time.Timer // likewise

	// Guarded by table.mu.
	gone        error  // why nobody waits for it any more, or nil
	afterCancel func() // called when ctx ends while the Runner has the request

	sets   [lists]neighbors      // each guarded by what guards its set
	awayIn *later.List[*request] // where it has been; nil: in none
	away   later.Place[*request] // in awayIn

	memory  share    // for all to take from
	answer  answer   // has its own lock
	silence *silence // likewise; nil: there is none

	// Of finish. They are here to save allocations.
	lastBuf [192]byte // for last.records, if they are small
	last    lastWord
	alone   [1]*request    // for lastWords.waiting, if it is the only one
	result  *Result        // from report to account
	usage   protocol.Usage // of the Runner, until it has returned

	accounts atomic.Int32 // of finish and the Runner's return: who comes second calls account

	state      atomic.Uint32                   // a state; written by stepLocked alone
	known      atomic.Pointer[protocol.Params] // wireParams, once they have come
	stdinOver  once                            // STDIN has ended, or its end is not waited for
	consumed   atomic.Bool                     // the client will send no more for it: STDIN's end has come, or ABORT_REQUEST
	hasPlace   atomic.Bool                     // it counts as running
	isOwn      atomic.Bool                     // Settings.Own has a Runner for it
	ends       atomic.Bool                     // what protocol.Request.Ends is
	paramsSize atomic.Int64                    // bytes that the parsed PARAMS take
	pid        atomic.Int64
	startedAt  atomic.Int64 // when it began to run, Unix nanoseconds
	heard      atomic.Int64 // when the last part of PARAMS or STDIN came, the same
	received   atomic.Int64
}

// newRequest returns a request that begins under the Server which has the connection's
// address, and which knows of it when Move returns.
func newRequest(c *conn, id uint16, b protocol.Begin) *request {
	for {
		r := newRequestOf(c.server(), c, id, b)
		r.server.addRequest(r)
		if c.server() == r.server {
			return r
		}
		r.dispose() // the address was moved in between
	}
}

func newRequestOf(s *Server, c *conn, id uint16, b protocol.Begin) *request {
	settings, release := s.hold()
	r := &request{
		conn: c, server: s, settings: settings, release: release, id: id, keep: b.Keep, begun: c.in.heard,
	}
	r.ctx, r.cancelFn = context.WithCancelCause(c.values)
	r.heard.Store(r.begun.UnixNano())
	r.memory.init(r)
	r.answer.init(r)
	if settings.Silence > 0 {
		r.silence = &silence{limit: settings.Silence}
	}
	r.req.Role = b.Role
	r.req.Serial, r.req.Peer = s.opt.Serials.Add(1), c.remote
	r.req.Canceler, r.req.Ends = r, &r.ends
	return r
}

// isReady reports whether the request can run. With buffering a slow upload holds no
// place to run, since the request waits for the end of STDIN.
func (r *request) isReady() bool {
	return r.stateNow() == stateBody && (r.stdinClosed || !r.settings.Limits.RequestBuffering)
}

// prepare completes what the Runner gets.
func (r *request) prepare() {
	if r.stdin == nil && !r.stdinClosed {
		r.stdin = newBody(r)
	}
	if r.settings.Limits.RequestBuffering {
		r.setLength()
	}
	if r.stdin != nil {
		r.req.Stdin = r.stdin
	}
	if wants := r.server.opt.Hooks.Accounts; wants != nil && wants() {
		r.req.Usage = &r.usage
	}
	if _, unfit := r.req.Params.Lookup(protocol.IDParam); unfit && !r.req.ID.IsParam() {
		r.req.Params.Set(protocol.IDParam, r.req.ID.String())
	}
	r.req.Stdout = &r.answer
	r.req.Stderr = stderr{&r.answer}
	r.req.Started = func(pid int, _ string) { r.pid.Store(int64(pid)) }
	r.runner = r.settings.Runner
	if own := r.settings.Own; own != nil && r.req.Role == protocol.RoleResponder {
		if runner := own(&r.req.Params); runner != nil {
			r.runner = runner
			r.isOwn.Store(true)
		}
	}
	r.queued = r.conn.in.heard
	if d := r.settings.Limits.QueueTimeout; d > 0 {
		r.req.QueueDeadline = r.queued.Add(d)
	}
	r.turn.who, r.turn.ctx, r.turn.deadline = r, r.ctx, r.req.QueueDeadline
}

// dispose gives back what r holds. It is called once, when nothing of r is left.
func (r *request) dispose() {
	r.cancelFn(nil)
	r.memory.close()
	r.release()
	r.server.removeRequest(r)
}
