package fcgi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/function"
	"github.com/fcgid/fcgid/internal/server"
)

// The reasons for which a handler's context ends, as errors.Is finds them in its
// context.Cause. A Read of its Stdin fails with the same. When the handler has returned
// and its answer is sent, the context ends too, with context.Canceled.
var (
	// ErrAborted: the web server has sent ABORT_REQUEST.
	ErrAborted error = errAborted
	// ErrClientGone: the web server has closed the connection, which is what
	// nginx does when its own client goes away.
	ErrClientGone error = errClientGone
	// ErrTimeout: the request took longer than [Server.Timeout], or a
	// [TimeoutHandler] or [Program] allows. It is a context.DeadlineExceeded too.
	ErrTimeout error = errTimeout
	// ErrReadTimeout: Stdin was silent for longer than [Server.ReadTimeout].
	ErrReadTimeout error = errReadTimeout
	// ErrShutdown: the context of [Server.Serve] has ended, and ShutdownTimeout after
	// that; or that of the connection, see [Server.BaseContext].
	ErrShutdown error = errShutdown
)

// They are the server's own, so that context.Cause has them as they are.
var (
	errAborted     = server.ErrAborted
	errClientGone  = server.ErrClientGone
	errTimeout     = server.ErrTimeout
	errReadTimeout = server.ErrReadTimeout
	errShutdown    = server.ErrShutdown
)

// A Handler answers requests, as a program's main function would: it reads req.Stdin
// and writes a CGI response to req.Stdout, a header such as "Content-Type: text/plain",
// a blank line and a body. It is called from many goroutines at once, and uses nothing
// of req once it has returned. Its goroutine may go on to other requests: what belongs
// to a goroutine or its thread (runtime.LockOSThread, pprof.SetGoroutineLabels) is
// changed in one that the handler starts, or put back.
//
// The appStatus is what a program's exit status is, 0 when all went well. Web
// servers look at the answer alone. An error is logged, and if nothing has left
// yet of what was written, it is answered with a page that has the status of a
// [StatusError], else 500. Once some of the answer has left, it can only be cut
// short: then appStatus is sent, or 500 if it is 0. A panic is an error of that
// request alone, logged with its stack, but for http.ErrAbortHandler. One in a
// goroutine that the handler has started cannot be caught, and ends the program.
//
// The header may end its lines with "\n", and "Status: 404 Not Found" in it is the
// HTTP status, 200 without one.
//
// ctx ends before the handler has returned when the web server aborts the request
// or goes away, when a timeout is over, and when the server is stopped;
// context.Cause says which, see [ErrAborted]. The request is answered at that
// moment, with 408 or 503 where anybody is there to see it. The handler should
// return soon: nothing can end it, and nobody takes what it still writes. With a timeout
// ctx has a Deadline. The values of ctx are those of [Server.BaseContext] and
// [Server.ConnContext].
type Handler interface {
	ServeFCGI(ctx context.Context, req *Request) (appStatus uint32, err error)
}

// A HandlerFunc is a function as a [Handler].
type HandlerFunc func(ctx context.Context, req *Request) (appStatus uint32, err error)

// ServeFCGI calls h.
func (h HandlerFunc) ServeFCGI(ctx context.Context, req *Request) (appStatus uint32, err error) {
	return h(ctx, req)
}

// TimeoutHandler is h with a time to answer in, beside [Server.Timeout]: after d the
// request is answered with 408, at once, and ctx ends with an [ErrTimeout]. A d of 0 or
// less is no limit.
func TimeoutHandler(h Handler, d time.Duration) Handler {
	if d <= 0 {
		return h
	}
	return HandlerFunc(func(ctx context.Context, req *Request) (uint32, error) {
		ctx, stop := req.endAfter(ctx, d)
		defer stop()
		return h.ServeFCGI(ctx, req)
	})
}

// endAfter ends a request after d, by its server if it has one.
func (r *Request) endAfter(ctx context.Context, d time.Duration) (_ context.Context, stop func()) {
	if r.call == nil || r.call.from.Canceler == nil {
		return context.WithTimeoutCause(ctx, d, ErrTimeout)
	}
	deadline := time.Now().Add(d)
	forget := r.call.from.Canceler.EndAfter(d)
	return protocol.WithDeadline(ctx, deadline), func() { forget() }
}

func init() {
	function.FromHandler = func(h any) function.Call { return callOf(h.(Handler)) }
}

// callOf is h for the server, which knows a request in another form.
func callOf(h Handler) function.Call {
	return func(ctx context.Context, req *protocol.Request) (appStatus uint32, err error) {
		c := newHandlerCall(req)
		defer c.out.drop() // when h panics; else nothing is left
		appStatus, err = h.ServeFCGI(ctx, &c.req)
		if sendErr := c.out.finish(); err == nil {
			err = sendErr
		}
		return appStatus, asRefusal(appStatus, err)
	}
}

// A StatusError is what a [Handler] returns to have its request answered with
// a short page of that HTTP status. It must not have written anything, or nothing
// that has left: what is still in the buffer is dropped.
type StatusError struct {
	// Status is from 400 to 599; anything else is taken for 500. It is the
	// appStatus too, unless the handler gives another one.
	Status int
	// Err is for the log, never for the client. It may be nil.
	Err error
}

// Error is that of Err, or the text of Status.
func (e *StatusError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
}

// Unwrap returns Err.
func (e *StatusError) Unwrap() error { return e.Err }

// asRefusal is what a handler's error is for the server. Methods of that error are
// the handler's code, so they are called here, where a panic is the request's.
func asRefusal(appStatus uint32, err error) error {
	if err == nil {
		return nil
	}
	status := http.StatusInternalServerError
	var known *StatusError
	if errors.As(err, &known) && known != nil && known.Status >= 400 && known.Status <= 599 {
		status = known.Status
	}
	reason := &handlerError{text: function.Text(err)}
	for _, gone := range [...]error{ErrAborted, ErrClientGone} {
		if errors.Is(err, gone) {
			reason.gone = gone
		}
	}
	return &protocol.Refusal{HTTPStatus: status, AppStatus: cmp.Or(appStatus, uint32(status)), Reason: reason}
}

// A handlerError is what is left of a handler's error once the handler has returned:
// its text, and why there is no client any more, if it says so.
type handlerError struct {
	text string
	gone error // ErrAborted, ErrClientGone or nil
}

func (e *handlerError) Error() string { return e.text }

func (e *handlerError) Unwrap() error { return e.gone }

// A handlerCall is what a handler is given for one request. It is never used again,
// since a handler may keep it.
type handlerCall struct {
	from *protocol.Request
	req  Request
	out  handlerOut
}

// noInput is an empty Stdin. It holds nothing, so it can be shared.
var noInput = new(emptyReader)

type emptyReader struct{}

// Read finds the end.
func (*emptyReader) Read([]byte) (int, error) { return 0, io.EOF }

func newHandlerCall(from *protocol.Request) *handlerCall {
	c := new(handlerCall)
	c.from, c.out.dst = from, from.Stdout
	c.req = Request{
		Role: Role(from.Role), Params: make(Params, 0, from.Params.Len()),
		Stdin: from.Stdin, Data: noInput, Stdout: &c.out, Stderr: from.Stderr, call: c,
	}
	for name, value := range from.Params.All() {
		c.req.Params = append(c.req.Params, Param{name, value})
	}
	if c.req.Stdin == nil {
		c.req.Stdin = noInput
	}
	if c.req.Stderr == nil {
		c.req.Stderr = io.Discard
	}
	return c
}

// errReturned is what a write comes to that is too late.
var errReturned = errors.New("write after the handler has returned: it has to wait for the goroutines that it starts")

// outSize is how much of an answer is collected before it is sent.
const outSize = 8 << 10

type outBuffer [outSize]byte

var outBuffers = sync.Pool{New: func() any { return new(outBuffer) }}

// A handlerOut is what a handler writes its answer to. It holds a buffer only while
// there is something in it, and none once the handler has returned.
type handlerOut struct {
	dst io.Writer

	mu   sync.Mutex // guards the fields below; held while dst is written to
	buf  *outBuffer // nil when it is empty
	n    int        // bytes in buf
	over bool       // the handler has returned
}

// Write takes a part of the answer, which is sent when the buffer is full.
func (w *handlerOut) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.makeRoomLocked(len(p)); err != nil {
		return 0, err
	}
	if len(p) > outSize {
		return w.dst.Write(p)
	}
	w.n += copy(w.buf[w.n:], p)
	return len(p), nil
}

// WriteString is Write.
func (w *handlerOut) WriteString(s string) (int, error) {
	if len(s) > outSize {
		return w.Write([]byte(s))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.makeRoomLocked(len(s)); err != nil {
		return 0, err
	}
	w.n += copy(w.buf[w.n:], s)
	return len(s), nil
}

// makeRoomLocked sends what is in the buffer unless n bytes more go into it. It
// leaves a buffer for them, if they can go into one.
func (w *handlerOut) makeRoomLocked(n int) error {
	if w.over {
		return errReturned
	}
	if w.n+n > outSize {
		if err := w.flushLocked(); err != nil {
			return err
		}
	}
	if w.buf == nil && n <= outSize {
		w.buf = outBuffers.Get().(*outBuffer)
	}
	return nil
}

// ReadFrom sends what r holds until io.EOF, each read at once.
func (w *handlerOut) ReadFrom(r io.Reader) (int64, error) {
	if err := w.Flush(); err != nil {
		return 0, err
	}
	// What r can do besides is not for dst, which knows better what a process'
	// pipe is than what a file is.
	return io.Copy(w.dst, struct{ io.Reader }{r})
}

// Flush sends what has been written so far.
func (w *handlerOut) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return errReturned
	}
	return w.flushLocked()
}

func (w *handlerOut) flushLocked() error {
	if w.n == 0 {
		return nil
	}
	_, err := w.dst.Write(w.buf[:w.n])
	w.freeLocked()
	return err
}

func (w *handlerOut) freeLocked() {
	if w.buf != nil {
		outBuffers.Put(w.buf)
		w.buf, w.n = nil, 0
	}
}

// finish sends the rest: the handler has returned.
func (w *handlerOut) finish() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	last, ok := w.dst.(protocol.LastWriter)
	if !ok || w.n == 0 {
		return w.flushLocked()
	}
	_, err := last.WriteLast(w.buf[:w.n])
	w.freeLocked()
	return err
}

// drop takes nothing more, and sends nothing more.
func (w *handlerOut) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.freeLocked()
}
