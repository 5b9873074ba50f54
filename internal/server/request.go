package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

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
	launched      bool // it was handed to admission: run releases stdin

	// Owned by the read loop. When the request is ready, stdin is set for good: run
	// reads from it and releases it, and the read loop still writes to a liveBody.
	refusal *refusal // why it is not to run, or cannot go on
	stdin   body     // nil while there is nothing in it

	// Owned by the read loop until the request is ready, then by run.
	came    protocol.Params // as they came; not changed once they are known
	isHead  bool
	queued  time.Time // when it was ready
	runner  Runner    // that does it: the settings', or of Settings.Own
	turn    turn
	req     protocol.Request
	timeout *time.Timer // while it runs; nil without one
	slow    *time.Timer // likewise

	// Guarded by table.mu.
	neighbors          // in table.live
	gone        error  // why nobody waits for it any more, or nil
	afterCancel func() // called when ctx ends while the Runner has the request

	memory  share   // for all to take from
	answer  answer  // has its own lock
	silence silence // likewise

	// Of finish. They are here to save allocations.
	end    [192]byte // for last.records, if they are small
	last   lastWord
	alone  [1]*request // for lastWords.waiting, if it is the only one
	result Result
	usage  protocol.Usage // of the Runner, until it has returned

	accounts atomic.Int32 // of finish and the Runner's return: who comes second calls account

	state     atomic.Uint32                   // a state; written by stepLocked alone
	known     atomic.Pointer[protocol.Params] // came, once they have
	stdinOver once                            // STDIN has ended, or its end is not waited for
	consumed  atomic.Bool                     // the client will send no more for it: STDIN's end has come, or ABORT_REQUEST
	hasPlace  atomic.Bool                     // it counts as running
	isOwn     atomic.Bool                     // Settings.Own has a Runner for it
	ends      atomic.Bool                     // what protocol.Request.Ends is
	held      atomic.Int64                    // bytes that the parsed PARAMS take
	pid       atomic.Int64
	startedAt atomic.Int64 // when it began to run, Unix nanoseconds
	heard     atomic.Int64 // when the last part of PARAMS or STDIN came, the same
	received  atomic.Int64
}

// A refusal is an answer of our own.
type refusal struct {
	httpStatus int
	appStatus  uint32
	status     protocol.Status
	outcome    Outcome
	reason     error
}

// Error is the reason: a refusal may be the cause of a context's end.
func (r *refusal) Error() string { return r.reason.Error() }

func refuse(httpStatus int, reason error) *refusal {
	return &refusal{httpStatus, uint32(httpStatus), protocol.StatusRequestComplete, Rejected, reason}
}

func overload(reason error) *refusal {
	return &refusal{503, 503, protocol.StatusOverloaded, Overloaded, reason}
}

// newRequest returns a request that begins under the Server which has the connection's
// address, and which knows of it when Move returns.
func newRequest(c *conn, id uint16, b protocol.Begin) *request {
	for {
		r := newRequestOf(c.server(), c, id, b)
		r.server.begin(r)
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
	r.silence.limit = settings.Silence
	r.req.Role = b.Role
	r.req.Serial, r.req.Peer = s.opt.Serials.Add(1), c.remote
	r.req.Canceler, r.req.Ends = r, &r.ends
	return r
}

// addParams takes a part of PARAMS; an empty one ends them.
func (r *request) addParams(content []byte) {
	switch limit := r.settings.Limits.Params; {
	case len(content) == 0:
		r.endParams()
	case r.paramsDropped:
	case limit > 0 && int64(r.params.Len()+len(content)) > limit:
		r.dropParams(refuse(431, errors.New("PARAMS are larger than limits.params")))
	default:
		before := r.params.Cap()
		need := max(0, r.params.Len()+len(content)-before)
		if err := r.memory.take(int64(need)); err != nil {
			r.dropParams(overload(fmt.Errorf("PARAMS: %w", err)))
			return
		}
		r.params.Write(content)
		r.memory.charge(int64(r.params.Cap() - before - need))
	}
}

// dropParams takes no more of PARAMS.
func (r *request) dropParams(why *refusal) {
	r.memory.giveBack(int64(r.params.Cap()))
	r.params.Reset()
	r.refusal, r.paramsDropped = why, true
}

// endParams is the event that PARAMS are complete. A request that is not to run has
// its answer now.
func (r *request) endParams() {
	var err error
	if r.req.Params, err = protocol.ParseParams(r.params.String()); err != nil {
		r.server.protocolError(kindParams)
		r.refuseUnless(refuse(400, fmt.Errorf("PARAMS: %w", err)))
	}
	r.holdParams(r.params.Cap())
	r.params.Reset()
	r.came = r.req.Params
	r.req.ID = protocol.Identify(&r.came)
	r.known.Store(&r.came)
	r.isHead = r.req.Params.Get("REQUEST_METHOD") == "HEAD"
	var length uint64
	if text := r.req.Params.Get("CONTENT_LENGTH"); text != "" { // an error of ParseUint costs memory, and most have none
		length, err = strconv.ParseUint(text, 10, 63)
		r.hasLength = err == nil
	}
	if limit := r.settings.Limits.Body; limit > 0 && r.hasLength && int64(length) > limit {
		r.refuseUnless(refuse(413, errBodyTooLarge))
	}
	r.conn.table.step(r, eventParams)
	if r.req.Role == protocol.RoleAuthorizer {
		// An Authorizer has no STDIN, and some servers do not even end it
		// (section 6.3; mod_authnz_fcgi).
		r.closeStdin()
	}
	if r.refusal != nil {
		r.conn.table.end(r, r.refusal)
	}
}

// refuseUnless is why the request is not to run, unless there is a reason already.
func (r *request) refuseUnless(ref *refusal) {
	if r.refusal == nil {
		r.refusal = ref
	}
}

// maxHeldParams is how many times limits.params the parsed PARAMS of a
// connection's requests may take.
const maxHeldParams = 64

// holdParams counts parsed PARAMS against what a connection may hold, and memory. Where
// that is too much they are dropped, and the request is told to come back later.
func (r *request) holdParams(raw int) {
	const pair = 32 // bytes of two strings
	parsed := int64(pair * r.req.Params.Len())
	size := int64(raw) + parsed
	if err := r.memory.take(parsed); err != nil {
		r.memory.giveBack(int64(raw))
		r.refuseUnless(overload(fmt.Errorf("PARAMS: %w", err)))
		r.req.Params = protocol.Params{}
		return
	}
	limit := r.settings.Limits.Params
	if limit > 0 && r.conn.table.paramsHeld.Load()+size > maxHeldParams*limit && r.refusal == nil {
		r.refusal = overload(errors.New("the connection's open requests have too many PARAMS"))
		r.req.Params = protocol.Params{}
		return
	}
	r.held.Store(size)
	r.conn.table.paramsHeld.Add(size)
}

// addStdin takes a part of STDIN; an empty one ends it.
func (r *request) addStdin(content []byte) {
	r.received.Add(int64(len(content)))
	switch {
	case len(content) == 0:
		r.consumed.Store(true)
		r.closeStdin()
	case r.stdinClosed || r.refusal != nil:
	default:
		if r.stdin == nil {
			r.stdin = newBody(r)
		}
		if err := r.stdin.write(content); err != nil {
			r.bodyBroke(err)
		}
	}
}

// bodyBroke answers for a body that cannot be taken. The program is told by the end
// of its context, so that what it makes of it cannot come before the reason.
func (r *request) bodyBroke(err error) {
	r.refusal = overload(err)
	if errors.Is(err, errBodyTooLarge) {
		r.refusal = refuse(413, err)
	}
	if !r.launched {
		r.stdin.release()
	}
	if r.now() != stateParams { // else endParams does it, when it is known what was asked
		r.conn.table.end(r, r.refusal)
	}
}

// closeStdin takes no more of STDIN.
func (r *request) closeStdin() {
	if r.stdinClosed {
		return
	}
	r.stdinClosed = true
	if r.stdin != nil {
		if err := r.stdin.end(); err != nil && r.refusal == nil {
			r.bodyBroke(err)
		}
	}
	r.silence.note(r)
	r.stdinOver.happen()
}

// dropStdin is closeStdin for what nobody wants.
func (r *request) dropStdin() {
	if r.stdin != nil && !r.launched {
		r.stdin.release()
	}
	r.closeStdin()
}

// hears reports whether the client has something to send that the request is not
// done without.
func (r *request) hears() bool { return !r.stdinClosed }

// isReady reports whether the request can run. With buffering a slow upload holds no
// place to run, since the request waits for the end of STDIN.
func (r *request) isReady() bool {
	return r.now() == stateBody && (r.stdinClosed || !r.settings.Limits.RequestBuffering)
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

// setLength has CONTENT_LENGTH say what came, since a CGI program reads so much and
// php-cgi waits for it.
func (r *request) setLength() {
	var size int64
	if r.stdin != nil {
		size = r.stdin.length()
	}
	declared, given := r.req.Params.Lookup("CONTENT_LENGTH")
	text := strconv.FormatInt(size, 10)
	if declared == text || size == 0 && declared == "" {
		return
	}
	if given && r.hasLength && size > 0 { // web servers that keep the body to themselves send the length all the same
		r.server.opt.Log.Info("CONTENT_LENGTH is not the length of the body that came", "request", r.req.Serial,
			"client", r.req.Client(), "script", r.req.Params.Get("SCRIPT_FILENAME"), "declared", declared, "came", size)
	}
	r.req.Params.Set("CONTENT_LENGTH", text)
}

// errGoexit is what a Runner comes to that ends its goroutine.
var errGoexit = &protocol.Refusal{HTTPStatus: 500, AppStatus: 500, Reason: errors.New("runner ended its goroutine")}

// turnCame starts the goroutine of a request that may run, or is turned away; see waiter.
func (r *request) turnCame(err error) { go r.run(err) }

// run does the request from when its turn has come, or may not come for the reason
// that err tells, to its end. Goexit passes through it, and so does a panic, which nothing
// here is to delay.
func (r *request) run(turnedAway error) {
	defer r.conn.wg.Done()
	growStack(false)
	var appStatus uint32
	var err error = errGoexit
	defer func() {
		if p := recover(); p != nil {
			panic(p)
		}
		if r.stdin != nil {
			r.stdin.release()
		}
		r.conn.table.returned(r, appStatus, err)
	}()
	if turnedAway != nil {
		if err = turnedAway; r.ctx.Err() == nil {
			err = overload(err)
		}
		return
	}
	appStatus, err = r.work()
}

// answered is the event that the client may have all of the answer that there will be,
// though the Runner goes on, and keeps its place.
func (r *request) answered(appStatus uint32) {
	if r.conn.table.step(r, eventAnswered) {
		r.finish(appStatus, nil)
	}
}

// leavePlace frees the place to run, once.
func (r *request) leavePlace() {
	switch {
	case !r.hasPlace.Swap(false):
	case r.isOwn.Load():
		r.server.own.leave()
	default:
		r.server.admission.leavePlace()
	}
}

// work runs the Runner. The place to run is free again when the program has exited or the
// Runner has returned, however slow the client is.
func (r *request) work() (appStatus uint32, err error) {
	r.hasPlace.Store(true)
	defer r.leavePlace()
	if !r.conn.table.step(r, eventAdmitted) {
		return 0, context.Cause(r.ctx)
	}
	r.req.Exited = r.leavePlace
	r.req.Answered = r.answered
	r.req.Overdue = r.server.overdue
	defer r.stopTimers()
	if q, ok := r.runner.(Queuer); ok && q.Queues() {
		r.req.Running = r.runs
	} else {
		r.runs()
	}
	return r.runner.Run(r.runContext(), &r.req)
}

// runContext is ctx with the time by which it ends, where that is known.
func (r *request) runContext() context.Context {
	ctx := r.ctx
	if deadline, ok := r.conn.parent.Deadline(); ok {
		ctx = protocol.WithDeadline(ctx, deadline)
	}
	if r.timeout != nil { // else it waits for a place of its Runner first
		ctx = protocol.WithDeadline(ctx, time.Now().Add(r.settings.Timeout))
	}
	return ctx
}

// runs is called once, when the request has waited for the last time: the times that
// it may run, and may run unnoticed, begin.
func (r *request) runs() {
	hooks, now := &r.server.opt.Hooks, time.Now()
	if hooks.Queued != nil && !r.isOwn.Load() {
		hooks.Queued(now.Sub(r.queued))
	}
	r.startedAt.Store(now.UnixNano())
	if r.settings.Timeout > 0 {
		r.timeout = r.endAfter(r.settings.Timeout)
	}
	r.watchSilence()
	if hooks.Slow != nil && r.settings.SlowAfter > 0 {
		r.slow = time.AfterFunc(r.settings.SlowAfter, func() { hooks.Slow(r.info(time.Now())) })
	}
}

func (r *request) stopTimers() {
	for _, t := range []*time.Timer{r.timeout, r.slow} {
		if t != nil {
			t.Stop()
		}
	}
	if r.silence.limit > 0 {
		r.silence.stop()
	}
}

func (r *request) endAfter(d time.Duration) *time.Timer {
	return time.AfterFunc(d, func() { r.conn.table.end(r, ErrTimeout) })
}

// EndAfter ends the request when it has gone on for d more; see protocol.Canceler.
func (r *request) EndAfter(d time.Duration) (stop func() bool) { return r.endAfter(d).Stop }

// AfterCancel has f called once ctx has ended; see protocol.Canceler.
func (r *request) AfterCancel(f func()) (stop func() bool) {
	t := &r.conn.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.ctx.Err() != nil {
		r.conn.wg.Go(f)
		return func() bool { return false }
	}
	r.afterCancel = f
	return r.forgetAfterCancel
}

// forgetAfterCancel reports whether that has kept the function from being called.
func (r *request) forgetAfterCancel() bool {
	t := &r.conn.table
	t.mu.Lock()
	defer t.mu.Unlock()
	forgotten := r.afterCancel != nil
	r.afterCancel = nil
	return forgotten
}

// dispose gives back what r holds. It is called once, when nothing of r is left.
func (r *request) dispose() {
	r.cancelFn(nil)
	r.memory.close()
	r.release()
	r.server.end(r)
}
