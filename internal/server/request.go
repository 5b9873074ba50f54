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

// A stage is how far a request has come.
type stage int32

const (
	stageParams  stage = iota // PARAMS come
	stageBody                 // STDIN comes, and no program was given it yet
	stageQueued               // waits for its turn to run
	stageRunning              // its Runner has it
	stageEnding               // its END_REQUEST is on its way or was sent
)

var stageNames = [...]string{"params", "body", "queued", "running", "ending"}

// A request is one entry of a connection's table, from BEGIN_REQUEST to
// END_REQUEST, and on until its Runner has returned.
type request struct {
	// Immutable.
	conn     *conn
	id       uint16
	keep     bool
	settings *Settings
	release  func() // of Settings.Hold
	begun    time.Time
	ctx      context.Context
	cancelFn context.CancelCauseFunc

	// Owned by the read loop.
	params      strings.Builder
	paramsOver  bool
	hasLength   bool // CONTENT_LENGTH is a number
	stdinIsOver bool
	bodyIsGone  bool      // what comes of STDIN is dropped
	heard       time.Time // when the last part of PARAMS or STDIN came

	// Owned by the read loop, then, once it has started, by run.
	came    protocol.Params // as they came; not changed once it is known
	refusal *refusal        // why it is not to run
	timeout *time.Timer     // while it runs; nil without one
	slow    *time.Timer     // likewise
	isHead  bool
	req     protocol.Request

	// Guarded by conn.mu.
	neighbors          // in conn.live
	started     bool   // run was called
	answered    bool   // its client has all of the answer; its Runner goes on
	afterCancel func() // called when ctx ends while it runs

	stdinOver event // the answer need not wait for STDIN (any longer)
	finished  event // finish has done its work
	body      body
	response  response

	stage     atomic.Int32                    // a stage
	known     atomic.Pointer[protocol.Params] // came, once they have
	consumed  atomic.Bool                     // the client has sent the end of STDIN
	finishing atomic.Bool                     // finish was called
	ended     atomic.Bool                     // its id is free again
	hasLeft   atomic.Bool                     // its place to run is free again
	held      atomic.Int64                    // bytes that the parsed PARAMS take
	pid       atomic.Int64
	running   atomic.Int64 // when it began to run, Unix nanoseconds
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

func refuse(httpStatus int, reason error) *refusal {
	return &refusal{httpStatus, uint32(httpStatus), protocol.StatusRequestComplete, Rejected, reason}
}

func overload(reason error) *refusal {
	return &refusal{503, 503, protocol.StatusOverloaded, Overloaded, reason}
}

func newRequest(c *conn, id uint16, b protocol.Begin) *request {
	settings, release := c.server.hold()
	r := &request{
		conn: c, id: id, keep: b.Keep, settings: settings, release: release,
		begun: c.heard,
	}
	r.ctx, r.cancelFn = context.WithCancelCause(context.Background())
	r.body.init(settings.SpoolDir, settings.Limits.BodyMemory, settings.Limits.Body)
	r.response.req = r
	r.req.Role = b.Role
	r.req.Serial = c.server.serial.Add(1)
	r.req.Canceler = r
	return r
}

// addParams takes a part of PARAMS; an empty one ends them.
func (r *request) addParams(content []byte) {
	switch limit := r.settings.Limits.Params; {
	case len(content) == 0:
		r.endParams()
	case r.refusal != nil:
	case limit > 0 && int64(r.params.Len()+len(content)) > limit:
		r.params.Reset()
		r.refusal = refuse(431, errors.New("PARAMS are larger than limits.params"))
	default:
		r.params.Write(content)
	}
}

func (r *request) endParams() {
	r.paramsOver = true
	var err error
	if r.req.Params, err = protocol.ParseParams(r.params.String()); err != nil && r.refusal == nil {
		r.conn.server.protocolError(kindParams)
		r.refusal = refuse(400, fmt.Errorf("PARAMS: %w", err))
	}
	r.holdParams(r.params.Cap())
	r.params.Reset()
	r.came = r.req.Params
	r.known.Store(&r.came)
	r.isHead = r.req.Params.Get("REQUEST_METHOD") == "HEAD"
	var length uint64
	if text := r.req.Params.Get("CONTENT_LENGTH"); text != "" { // an error of ParseUint costs memory, and most have none
		length, err = strconv.ParseUint(text, 10, 63)
		r.hasLength = err == nil
	}
	if limit := r.settings.Limits.Body; limit > 0 && r.hasLength && int64(length) > limit && r.refusal == nil {
		r.refusal = refuse(413, errBodyTooLarge)
	}
	r.stage.Store(int32(stageBody))
	if r.req.Role == protocol.RoleAuthorizer {
		// An Authorizer has no STDIN, and some servers do not even end it
		// (section 6.3; mod_authnz_fcgi).
		r.endStdin()
	}
}

// maxHeldParams is how many times limits.params the parsed PARAMS of a
// connection's requests may take.
const maxHeldParams = 64

// holdParams counts parsed PARAMS against what a connection may hold. Where that
// is too much they are dropped, and the request is told to come back later.
func (r *request) holdParams(raw int) {
	const pair = 32 // bytes of two strings
	size := int64(raw + pair*r.req.Params.Len())
	limit := r.settings.Limits.Params
	if limit > 0 && r.conn.paramsHeld.Load()+size > maxHeldParams*limit && r.refusal == nil {
		r.refusal = overload(errors.New("the connection's open requests have too many PARAMS"))
		r.req.Params = protocol.Params{}
		return
	}
	r.held.Store(size)
	r.conn.paramsHeld.Add(size)
}

// addStdin takes a part of STDIN; an empty one ends it.
func (r *request) addStdin(content []byte) {
	r.received.Add(int64(len(content)))
	switch {
	case len(content) == 0:
		r.consumed.Store(true)
		r.endStdin()
	case r.refusal == nil && !r.bodyIsGone && !r.stdinIsOver:
		if err := r.body.write(content); err != nil {
			r.bodyBroke(err)
		}
	}
}

// bodyBroke answers for a body that cannot be taken. The program is told by
// cancel, so that what it makes of it cannot come before the reason.
func (r *request) bodyBroke(err error) {
	r.bodyIsGone = true
	ref := refuse(413, err)
	if !errors.Is(err, errBodyTooLarge) {
		ref = overload(err)
	}
	if stage(r.stage.Load()) > stageBody {
		r.conn.cancel(r, &refusedError{ref})
		return
	}
	r.refusal = ref
}

// refusedError carries a refusal as a context's cause.
type refusedError struct{ *refusal }

func (e *refusedError) Error() string { return e.reason.Error() }

func (r *request) endStdin() {
	if !r.stdinIsOver {
		r.body.end()
		r.stopStdin()
		if stage(r.stage.Load()) == stageRunning {
			r.conn.wg.Go(r.response.release)
		}
	}
}

// stopStdin takes no more of STDIN.
func (r *request) stopStdin() {
	r.stdinIsOver = true
	r.awaitNoStdin()
}

// awaitNoStdin lets the answer go.
func (r *request) awaitNoStdin() {
	r.stdinOver.fire()
}

// ready reports whether the request can start. A body that is not complete must
// not hold a place to run, so a request waits until it is, or fills the memory
// meant for it: a client that sends so much is not idle. A body whose length
// was not told is taken whole, since a CGI program needs CONTENT_LENGTH.
func (r *request) ready() bool {
	switch {
	case stage(r.stage.Load()) != stageBody:
		return false
	case r.stdinIsOver || r.refusal != nil:
		return true
	case !r.hasLength, r.settings.WholeBody:
		return false
	case r.settings.Limits.EarlyResponse:
		return true
	}
	return r.body.length() >= r.settings.Limits.BodyMemory
}

// prepare completes what the Runner gets.
func (r *request) prepare() {
	size := r.body.length()
	value, given := r.req.Params.Lookup("CONTENT_LENGTH")
	if !r.hasLength && (size > 0 || given && value != "") {
		r.req.Params.Set("CONTENT_LENGTH", strconv.FormatInt(size, 10))
	}
	if r.settings.WholeBody && r.hasLength {
		r.checkLength(size)
	}
	if size > 0 || !r.stdinIsOver {
		r.req.Stdin = &r.body
	}
	r.req.Stdout = &r.response
	r.req.Stderr = stderr{&r.response}
	r.req.Started = func(pid int, _ string) { r.pid.Store(int64(pid)) }
}

// checkLength sees that a program which waits for CONTENT_LENGTH bytes, however
// few come, gets so many: php-cgi does. A web server that was told to keep the body
// to itself sends the length all the same.
func (r *request) checkLength(size int64) {
	declared, _ := strconv.ParseInt(r.req.Params.Get("CONTENT_LENGTH"), 10, 64)
	switch {
	case size >= declared || r.refusal != nil:
	case size == 0:
		r.req.Params.Set("CONTENT_LENGTH", "0")
	default:
		r.refusal = refuse(400, fmt.Errorf("request body ended after %d bytes of %d", size, declared))
	}
}

// mayOutlive reports whether the request goes on without its client.
func (r *request) mayOutlive() bool {
	return r.settings.IgnoreAbort && r.running.Load() != 0 && r.body.isWhole()
}

// AfterCancel has f called once ctx has ended; see protocol.Canceler.
func (r *request) AfterCancel(f func()) (stop func() bool) {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	if r.ctx.Err() != nil {
		r.conn.wg.Go(f)
		return func() bool { return false }
	}
	r.afterCancel = f
	return r.forgetAfterCancel
}

// forgetAfterCancel reports whether that has kept the function from being called.
func (r *request) forgetAfterCancel() bool {
	r.conn.mu.Lock()
	defer r.conn.mu.Unlock()
	forgotten := r.afterCancel != nil
	r.afterCancel = nil
	return forgotten
}

// errGoexit is what a Runner comes to that ends its goroutine.
var errGoexit = &protocol.Refusal{HTTPStatus: 500, AppStatus: 500, Reason: errors.New("runner ended its goroutine")}

// run does the request, from the queue to its end. Goexit passes through it, and
// so does a panic, which nothing here is to delay.
func (r *request) run() {
	var appStatus uint32
	var err error = errGoexit
	defer func() {
		if p := recover(); p != nil {
			panic(p)
		}
		defer r.conn.leave(r)
		r.body.Close()
		r.finish(appStatus, err)
		<-r.finished.wait() // by another goroutine, perhaps, which waits for the client
		r.cancelFn(nil)
	}()
	appStatus, err = r.work()
}

// answer ends the request for its client; its Runner goes on, and keeps its place.
func (r *request) answer(appStatus uint32) {
	r.conn.mu.Lock()
	r.answered = true
	r.conn.mu.Unlock()
	r.finish(appStatus, nil)
}

// leavePlace frees the place to run, once.
func (r *request) leavePlace() {
	if !r.hasLeft.Swap(true) {
		r.conn.server.admission.release()
	}
}

// work runs the Runner when it is the request's turn. The place to run is free
// again when the program has exited or the Runner has returned, however slow the
// client is.
func (r *request) work() (appStatus uint32, err error) {
	if r.refusal != nil {
		return 0, &refusedError{r.refusal}
	}
	queued := time.Now()
	if d := r.settings.Limits.QueueTimeout; d > 0 {
		r.req.QueueDeadline = queued.Add(d)
	}
	if err := r.conn.server.admission.acquire(r.ctx, r.req.QueueDeadline); err != nil {
		if r.ctx.Err() == nil {
			err = &refusedError{overload(err)}
		}
		return 0, err
	}
	defer r.leavePlace()
	r.req.Exited = r.leavePlace
	if !r.settings.InPlace { // functions answer when they return
		r.req.Answered = r.answer
	}
	defer r.stopTimers()
	if q, ok := r.settings.Runner.(Queuer); ok && q.Queues() {
		r.req.Running = func() { r.runs(queued) }
	} else {
		r.runs(queued)
	}
	return r.settings.Runner.Run(r.ctx, &r.req)
}

// runs is called once, when the request has waited for the last time: the times that
// it may run, and may run unnoticed, begin.
func (r *request) runs(queued time.Time) {
	hooks, now := &r.conn.server.opt.Hooks, time.Now()
	if hooks.Queued != nil {
		hooks.Queued(now.Sub(queued))
	}
	r.running.Store(now.UnixNano())
	r.stage.Store(int32(stageRunning))
	if r.settings.Timeout > 0 {
		r.timeout = time.AfterFunc(r.settings.Timeout, func() { r.conn.cancel(r, ErrTimeout) })
	}
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
}
