package fcgi

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// errOver ends the sender when nothing more is to be sent, and a request that
// was given up. No caller sees it.
var errOver = errors.New("request is over")

// An exchange is one request on a connection, from its BEGIN_REQUEST to its
// END_REQUEST. It is the io.Writer of the request's records.
type exchange struct {
	c   *Conn
	id  uint16
	req protocol.Request
	in  inbox
	// sent is closed when the sender has ended.
	sent chan struct{}
	// sentAll is the sender's until sent is closed.
	sentAll bool

	// begun and aborted tell that BEGIN_REQUEST and ABORT_REQUEST were written.
	// They are owned by who has put a value into Conn.writing.
	begun, aborted bool

	// The fields of the table are guarded by Conn.mu.
	awaited  bool // Do waits for the end
	heardOf  bool // BEGIN_REQUEST may have reached the application
	answered bool // END_REQUEST was read, or none will come
	silent   bool // the sender has ended

	mu       sync.Mutex // guards the fields below
	over     bool       // nothing more is to be written
	aborting bool       // but ABORT_REQUEST
	reading  bool       // the sender is in a Read of the caller's
	crash    any        // what such a Read has panicked with
}

// newExchange makes the request of the wire; its errors of the caller's Stdin,
// Data, Stdout and Stderr go to fail.
func newExchange(ctx context.Context, fail context.CancelCauseFunc, c *Conn, req *Request) *exchange {
	x := &exchange{c: c, sent: make(chan struct{})}
	x.in.news = make(chan struct{}, 1)
	x.req.Role = protocol.Role(req.Role)
	if req.Role == 0 {
		x.req.Role = protocol.RoleResponder
	}
	for _, p := range req.Params {
		x.req.Params.Add(p.Name, p.Value)
	}
	if req.Stdin != nil {
		x.req.Stdin = &source{x, "stdin", req.Stdin, fail}
	}
	if req.Data != nil {
		x.req.Data = &source{x, "data", req.Data, fail}
	}
	if req.Stdout != nil {
		x.req.Stdout = &sink{ctx, "stdout", req.Stdout, fail}
	}
	if req.Stderr != nil {
		x.req.Stderr = &sink{ctx, "stderr", req.Stderr, fail}
	}
	return x
}

// send writes the request. An error of the connection is not reported: the
// answer may be there all the same, and if not, the reader meets the error too.
func (x *exchange) send(keep bool) {
	defer func() { // also when a Read of the caller's has ended the goroutine
		if !x.sentAll {
			x.abortLate()
		}
		x.c.senderEnded(x)
		close(x.sent)
	}()
	x.sentAll = protocol.WriteRequest(x, x.id, &x.req, keep) == nil
}

// Write sends one or more whole records.
func (x *exchange) Write(p []byte) (int, error) {
	x.c.writing <- struct{}{}
	defer func() { <-x.c.writing }()
	if x.isOver() {
		return 0, errOver
	}
	if !x.begun {
		x.c.tellOf(x)
	}
	n, err := x.c.conn.Write(p)
	if err == nil {
		x.begun = true
	}
	return n, err
}

// receive writes Stdout and Stderr until the request is over.
func (x *exchange) receive(leads bool, finished func() bool) (protocol.End, error) {
	returned := false
	defer func() {
		if !returned {
			x.unwind(finished)
		}
	}()
	if leads {
		x.c.lead(x)
	}
	for {
		d, over := x.in.take()
		if d != nil {
			x.deliver(d)
		}
		if over {
			returned = true
			return x.in.end, x.in.err
		}
		<-x.in.news
	}
}

func (x *exchange) deliver(d *delivery) {
	data := d.data
	for _, p := range d.parts {
		x.write(p.stream, data[:p.length])
		data = data[p.length:]
	}
	d.release()
}

// write gives content to Stdout or Stderr, whose errors are their own affair.
func (x *exchange) write(stream protocol.Type, content []byte) {
	w := x.req.Stdout
	if stream == protocol.TypeStderr {
		w = x.req.Stderr
	}
	if w != nil && len(content) > 0 {
		_, _ = w.Write(content)
	}
}

// leave ends the sender, and the connection if that is not to be kept or not
// all was sent, unless it has other requests. It waits for the sender, except
// for a Read of the caller's that does not return within stdinGrace. Keeping the
// connection, the sender may use that time to send the rest: libfcgi's programs
// answer without having seen the end of STDIN.
func (x *exchange) leave(keep bool) {
	if keep && x.sentWithin(stdinGrace) && x.sentAll {
		return
	}
	x.stop()
	x.c.shutIfAlone()
	x.sentWithin(stdinGrace)
}

// unwind ends a request whose Stdout or Stderr has panicked, or ended the goroutine,
// and so Do too. Alone on the connection it closes that, else it is aborted.
func (x *exchange) unwind(finished func() bool) {
	x.c.stopBeingReader(x)
	x.c.shutIfAlone()
	if finished() {
		x.abort()
	}
	x.leave(false)
}

// stop sees that nothing more is written but what is being written, and that
// no Read of the caller's begins.
func (x *exchange) stop() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
}

func (x *exchange) isOver() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.over
}

func (x *exchange) sentWithin(d time.Duration) bool {
	select {
	case <-x.sent:
		return true
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-x.sent:
		return true
	case <-timer.C:
		return false
	}
}
