package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

// abortGrace is how long a worker has to end a request that nobody wants.
const abortGrace = time.Second

// A fate is what an exchange tells of its worker.
type fate uint8

const (
	fateUnused  fate = iota // nothing: it was not asked
	fateFit                 // it has answered, or ended the request when told to
	fateLost                // it closed the connection, or could not be reached
	fateHung                // the request ran longer than its timeout
	fateAborted             // it did not end a request that nobody wants
	fateGarbage             // it wrote what is no answer
	fateDeaf                // it does not take requests, StartTimeout after its start
)

// An exchange is one request on a worker's connection.
type exchange struct {
	pool    *Pool
	seat    *seat
	req     *protocol.Request
	name    *protocol.RequestID // that is sent besides the params; nil is none
	came    time.Time           // when the request began to wait
	until   time.Time           // when it has waited for too long; the zero time is never
	running bool                // it has been told that it runs
	careful bool                // see that the worker takes notice before params are sent
	id      uint16              // of the request on its connection, which has one at a time

	fate      fate
	began     time.Time // when the params were sent
	begun     bool      // the worker may have seen the params
	delivered bool      // some of the answer was passed on
	answered  bool      // some of STDOUT has come
	stray     bool      // it ended with a record of another request
	missing   bool      // the answer is that of a PHP which has not found its script
	keep      bool      // the connection can be used again
	ended     bool      // END_REQUEST has come
	end       protocol.End
	err       error // what broke it, or the connection after it

	input  *inputSender // nil without a stream to send
	stderr *requestStderr
}

// run does the request. Afterwards neither the request nor the connection is
// used by it.
func (x *exchange) run(ctx context.Context) {
	if ctx.Err() != nil {
		x.keep, x.err = true, context.Cause(ctx)
		return
	}
	if err := x.open(ctx); err != nil {
		x.failed(ctx, err)
		return
	}
	if x.req.Started != nil {
		x.req.Started(x.seat.worker.process.pid(), x.req.Params.Get("SCRIPT_FILENAME"))
	}
	x.id = x.seat.nextID()
	conn := x.seat.conn
	before := x.clock()
	stop := x.req.AfterCancel(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	x.talk(ctx)
	if after := x.clock(); before > 0 && after > before {
		x.req.Usage.CPU += after - before
	}
	if x.stderr != nil {
		x.stderr.flush()
	}
	if !stop() {
		x.keep = false // its deadlines are not ours to set any more
	}
	x.seat.reader.Trim()
}

// clock is the CPU time of the worker, or 0 if nobody wants to know, or it may have other
// requests meanwhile.
func (x *exchange) clock() time.Duration {
	if x.req.Usage == nil || x.seat.shared {
		return 0
	}
	return spawn.Clock(x.seat.worker.process.pid())
}

// open sees to it that there is a connection that can be used.
func (x *exchange) open(ctx context.Context) error {
	if x.seat.conn != nil {
		switch err := x.seat.check(); err {
		case nil:
			return nil
		case errClosed:
			x.seat.disconnect()
			x.careful = true // it may be about to exit
		default:
			return err
		}
	}
	return x.seat.connect(ctx)
}

// talk sends the request and receives the answer.
func (x *exchange) talk(ctx context.Context) {
	if err := x.send(ctx); err != nil && !x.begun {
		x.failed(ctx, err)
		return
	}
	// An error of sending what has begun shows in the answer, or in that there is none.
	end, err := x.receive(x.req)
	if x.input != nil {
		if inputErr := x.input.stop(x.seat.conn, x.req); inputErr != nil && err != nil && ctx.Err() == nil {
			err = inputErr
		}
	}
	if err != nil {
		x.failed(ctx, err)
		return
	}
	x.fate, x.end, x.ended = fateFit, end, true
	if x.seat.reader.Buffered() > 0 { // else open sees it, before the next request
		x.fate, x.err = fateGarbage, errSpoke
		return
	}
	x.keep = x.answered && x.isSent()
	if x.req.HasInput() && x.keep {
		x.keep = x.seat.isRead()                  // else the rest of a body would be read as the next request
		x.seat.conn.SetWriteDeadline(time.Time{}) // the input's stop may have set one
	}
}

// send sends what needs no waiting, and starts to send what does. Where that is nothing, it
// has waited for the worker's first word.
func (x *exchange) send(ctx context.Context) error {
	if x.careful {
		if err := x.announce(ctx); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	x.runs()
	out := headBuffers.Get().(*headBuffer)
	out.b = out.b[:0]
	if !x.careful {
		out.b = x.appendBegin(out.b)
	}
	out.b = protocol.AppendParams(out.b, x.id, &x.req.Params, x.name)
	whole, inline := inlineInput(x.req)
	if inline {
		out.b = appendInput(out.b, x.id, whole)
	}
	ask := x.seat.ask
	if !inline || x.seat.fresh { // there is something to do before the answer comes
		ask = x.seat.tell
	}
	n, err := ask(out)
	x.begun = n > 0
	x.seat.claim()
	if err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	if !inline {
		x.input = startInput(x.seat.conn, x.id, x.req)
	}
	return nil
}

func (x *exchange) appendBegin(dst []byte) []byte {
	return protocol.AppendBegin(dst, x.id, protocol.Begin{Role: x.req.Role, Keep: true})
}

// announce sends the beginning, and waits until the worker has taken notice of that.
func (x *exchange) announce(ctx context.Context) error {
	out := headBuffers.Get().(*headBuffer)
	out.b = x.appendBegin(out.b[:0])
	if _, err := x.seat.tell(out); err != nil {
		return errClosed
	}
	x.seat.claim()
	noticed, err := x.awaitNotice(ctx)
	if err == nil && noticed && x.seat.untried {
		x.seat.worker.noteHead()
	}
	return err
}

// isSent reports whether the worker was sent all of the request. It is for when nothing
// is sent any more.
func (x *exchange) isSent() bool { return x.input == nil || x.input.whole }

// awaitNotice waits until the worker has taken notice of the request. A worker that has
// taken a request before has noticeTime for that. One that has not has until its start
// must be over (seat.startBy), but no longer than the request may wait.
func (x *exchange) awaitNotice(ctx context.Context) (noticed bool, err error) {
	for {
		by := time.Now().Add(noticeTime)
		if x.seat.untried && !x.until.IsZero() && x.until.Before(by) {
			by = x.until
		}
		noticed, err = x.seat.awaitNotice(ctx, by)
		if noticed || err != nil || !x.seat.untried || x.seat.worker.takesRequests() {
			return noticed, err
		}
		switch now := time.Now(); {
		case !now.Before(x.seat.startBy):
			return false, errDeaf
		case !x.until.IsZero() && !now.Before(x.until):
			return false, x.pool.waitedTooLong(errNotAccepted)
		}
	}
}

var (
	errDeaf        = errors.New("it does not accept connections (worker.start_timeout)")
	errNotAccepted = errors.New("the worker that has it does not accept connections yet")
)

// runs tells, once a request, that it has a worker: one that was there to take it, as
// far as can be known.
func (x *exchange) runs() {
	x.began = time.Now()
	if x.running {
		return
	}
	x.running = true
	if x.pool.hooks.Waited != nil {
		x.pool.hooks.Waited(x.began.Sub(x.came))
	}
	if x.req.Running != nil {
		x.req.Running()
	}
}

// receive passes the answer on until its end. An error that is a brokenAnswer is
// the worker's fault, and an undelivered one that of who takes the answer.
func (x *exchange) receive(to *protocol.Request) (protocol.End, error) {
	for {
		rec, err := x.seat.reader.Next()
		if err != nil {
			var version protocol.VersionError
			if errors.As(err, &version) {
				err = brokenAnswer{err}
			}
			return protocol.End{}, err
		}
		if rec.ID != x.id {
			x.stray = true
			return protocol.End{}, brokenAnswer{fmt.Errorf("%v for request %d, not %d", rec.Type, rec.ID, x.id)}
		}
		switch rec.Type {
		case protocol.TypeStdout:
			x.missing = x.missing || !x.answered && saysMissing(rec.Content)
			x.answered = x.answered || len(rec.Content) > 0
			err = x.deliver(to.Stdout, rec.Content)
		case protocol.TypeStderr:
			x.complain(rec.Content)
		case protocol.TypeEndRequest:
			end, err := protocol.ParseEnd(rec.Content)
			if err != nil {
				err = brokenAnswer{err}
			}
			return end, err
		default:
			err = brokenAnswer{fmt.Errorf("%v from a worker", rec.Type)}
		}
		if err != nil {
			return protocol.End{}, err
		}
	}
}

// saysMissing reports whether an answer is PHP's to a script that it cannot open. It
// says so to nobody else.
func saysMissing(answer []byte) bool {
	return len(answer) < 1<<10 && bytes.HasPrefix(answer, []byte("Status: 404")) && bytes.Contains(answer, []byte("\nNo input file specified."))
}

// A brokenAnswer is what is not FastCGI, or no answer.
type brokenAnswer struct{ error }

// An undelivered error is that of a request's Stdout.
type undelivered struct{ error }

func (u undelivered) Unwrap() error { return u.error }

func (x *exchange) deliver(w io.Writer, p []byte) error {
	if w == nil || len(p) == 0 {
		return nil
	}
	x.delivered = true
	write := w.Write
	if last, ok := w.(protocol.LastWriter); ok && x.seat.reader.EndsNext() {
		write = last.WriteLast
	}
	if _, err := write(p); err != nil {
		return undelivered{fmt.Errorf("deliver stdout: %w", err)}
	}
	return nil
}

// complain passes on what the worker has written to a request's STDERR.
func (x *exchange) complain(p []byte) {
	if len(p) == 0 {
		return
	}
	if x.stderr == nil {
		x.stderr = x.pool.newRequestStderr(x)
	}
	x.stderr.write(p)
}

// failed says what it means that sending or receiving has ended with err.
func (x *exchange) failed(ctx context.Context, err error) {
	x.err = err
	cause := context.Cause(ctx)
	var broken brokenAnswer
	var taker undelivered
	var input inputError
	var unreachable unreachableError
	var refused *protocol.Refusal
	switch {
	case errors.Is(cause, protocol.ErrTimeout), errors.Is(cause, context.DeadlineExceeded):
		x.fate, x.err = fateHung, cause
	case errors.As(err, &broken):
		x.fate = fateGarbage
		x.err = fmt.Errorf("worker pid %d wrote what is no FastCGI answer: %w", x.seat.worker.process.pid(), broken.error)
	case cause != nil, errors.As(err, &taker), errors.As(err, &input):
		switch {
		case !x.begun: // it knows of no request
		case cause == nil && errors.Is(err, protocol.ErrClientLeft) && x.isSent() && x.seat.isUnix():
			x.hangUp(ctx)
		case x.abort():
			x.fate = fateFit
		default:
			x.abandon(cause)
		}
	case errors.As(err, &unreachable), errors.As(err, &refused):
	case err == errDeaf:
		x.fate = fateDeaf
	default:
		x.fate = fateLost
		x.err = fmt.Errorf("worker pid %d closed the connection before END_REQUEST: %w", x.seat.worker.process.pid(), err)
	}
}

// hangUp is for a worker whose answer nobody takes any more, which may go on
// (on_client_abort: close): what it writes from now on fails. It is done when it has
// closed the connection, or looks for more on it: till then an ABORT_REQUEST stands
// there that nobody has read. The end of ctx ends the waiting.
func (x *exchange) hangUp(ctx context.Context) {
	if x.input != nil {
		x.seat.conn.SetWriteDeadline(time.Time{}) // the input's stop may have set one
		if ctx.Err() != nil {                     // and so may the end of ctx
			x.seat.conn.SetWriteDeadline(time.Unix(1, 0))
		}
	}
	x.seat.tryWrite(protocol.AppendRecord(nil, protocol.TypeAbortRequest, x.id, nil))
	x.seat.shut()
	err := x.seat.awaitRead()
	if err != nil && errors.Is(context.Cause(ctx), protocol.ErrTimeout) {
		x.fate, x.err = fateHung, fmt.Errorf("%w, after its client had left (on_client_abort)", context.Cause(ctx))
		return
	}
	if err != nil {
		x.seat.conn.SetWriteDeadline(time.Now().Add(abortGrace))
		err = x.seat.awaitRead()
	}
	if err == nil {
		x.fate = fateFit
		return
	}
	x.abandon(context.Cause(ctx))
}

// abandon is for a worker that has not ended a request in time that nobody wants.
func (x *exchange) abandon(cause error) {
	x.fate = fateAborted
	if cause == nil {
		return
	}
	key := ""
	if errors.Is(cause, protocol.ErrClientLeft) {
		key = " (on_client_abort)"
	}
	x.err = fmt.Errorf("%w, and the worker did not end its request within %v%s", cause, abortGrace, key)
}

// abort tells the worker that nobody wants the answer, and reports whether it
// has ended the request within abortGrace. That takes a connection on which a
// record can begin.
func (x *exchange) abort() bool {
	if x.input != nil && x.input.torn {
		return false
	}
	conn, until := x.seat.conn, time.Now().Add(abortGrace)
	nowhere := protocol.Request{}
	told := false
	for {
		// The end of ctx may set a deadline at any moment, once.
		conn.SetDeadline(until)
		if !told {
			_, err := conn.Write(protocol.AppendRecord(nil, protocol.TypeAbortRequest, x.id, nil))
			told = err == nil
		}
		_, err := x.receive(&nowhere)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err == nil
		}
		if !time.Now().Before(until) {
			return false
		}
	}
}

// result is what Run returns.
func (x *exchange) result(ctx context.Context) (uint32, error) {
	if x.ended {
		return x.end.AppStatus, x.statusError()
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return 0, x.err
}

// statusError is what a protocolStatus means to the client (section 5.5).
func (x *exchange) statusError() error {
	httpStatus := 502
	switch x.end.Status {
	case protocol.StatusRequestComplete:
		return nil
	case protocol.StatusOverloaded:
		httpStatus = 503
	case protocol.StatusUnknownRole:
		httpStatus = 501
	}
	err := fmt.Errorf("worker pid %d answered %v", x.seat.worker.process.pid(), x.end.Status)
	if x.delivered {
		return err
	}
	return &protocol.Refusal{HTTPStatus: httpStatus, AppStatus: uint32(httpStatus), Reason: err}
}

// requestStderr takes the FCGI_STDERR of a request to where the pool wants it.
type requestStderr struct {
	x      *exchange
	to     string
	log    *slog.Logger
	admit  func(bytes int) bool
	box    *spawn.Sandbox
	cutter cgi.Entries
}

func (p *Pool) newRequestStderr(x *exchange) *requestStderr {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &requestStderr{x: x, to: p.opt.Stderr, log: p.opt.Log, admit: p.opt.Admit, box: p.opt.Sandbox}
}

func (r *requestStderr) write(b []byte) {
	if r.to != cgi.StderrLog && r.x.req.Stderr != nil {
		r.x.delivered = true
		r.x.req.Stderr.Write(b)
	}
	if r.to != cgi.StderrClient {
		r.cutter.Add(b, r.emit)
	}
}

func (r *requestStderr) emit(line string) {
	if r.admit != nil && !r.admit(len(line)) {
		return
	}
	fields := []any{"line", line, "request", r.x.req.Serial, "id", r.x.req.ID.String(),
		"script", r.x.req.Params.Get("SCRIPT_FILENAME"), "pid", r.x.seat.worker.process.pid()}
	if hint := r.box.Hint(line); hint != "" {
		fields = append(fields, "hint", hint)
	}
	r.log.Info("request stderr", fields...)
}

func (r *requestStderr) flush() { r.cutter.Flush(r.emit) }
