package fcgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// longAgo as a deadline unblocks whoever reads or writes.
var longAgo = time.Unix(1, 0)

// errOver ends the sender when nothing more is to be sent. No caller sees it.
var errOver = errors.New("request is over")

// An exchange is one request on a connection, from its BEGIN_REQUEST to its
// END_REQUEST. It is the io.Writer of the request's records.
type exchange struct {
	conn net.Conn
	req  protocol.Request
	// sent is closed when the sender has ended.
	sent chan struct{}
	// sentAll is the sender's until sent is closed.
	sentAll bool

	// mu is held while a record is written, so that ABORT_REQUEST comes between
	// two of them; it guards what follows.
	mu      sync.Mutex
	begun   bool // BEGIN_REQUEST was written
	over    bool // nothing more is to be written
	reading bool // the sender is in a Read of the caller's
}

// newExchange makes the request of the wire; its errors of the caller's Stdin,
// Data, Stdout and Stderr go to fail.
func newExchange(ctx context.Context, fail context.CancelCauseFunc, conn net.Conn, req *Request) *exchange {
	x := &exchange{conn: conn, sent: make(chan struct{})}
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
	defer close(x.sent)
	x.sentAll = protocol.WriteRequest(x, requestID, &x.req, keep) == nil
}

// Write sends one or more whole records.
func (x *exchange) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return 0, errOver
	}
	n, err := x.conn.Write(p)
	if err == nil {
		x.begun = true
	}
	return n, err
}

// abort sends ABORT_REQUEST in place of what was still to be sent, and leaves
// the application grace to take it and to end the request.
func (x *exchange) abort(grace time.Duration) {
	x.conn.SetDeadline(time.Now().Add(grace))
	x.mu.Lock()
	defer x.mu.Unlock()
	x.over = true
	if !x.begun {
		x.conn.SetDeadline(longAgo)
		return
	}
	x.conn.Write(protocol.AppendRecord(nil, protocol.TypeAbortRequest, requestID, nil))
}

// stopSending ends the sender and reports whether it has sent all. It waits for
// it, except for a Read of the caller's that does not return within stdinGrace.
// With patience, the sender may use that time to send the rest: libfcgi's
// programs answer without having seen the end of STDIN.
func (x *exchange) stopSending(patience bool) bool {
	if patience && x.sentWithin(stdinGrace) {
		return x.sentAll
	}
	x.conn.SetWriteDeadline(longAgo)
	x.mu.Lock()
	x.over = true
	reading := x.reading
	x.mu.Unlock()
	if reading {
		return x.sentWithin(stdinGrace) && x.sentAll
	}
	<-x.sent
	return x.sentAll
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

// A source is the caller's Stdin or Data. Once the exchange is over, no Read begins.
type source struct {
	x    *exchange
	name string
	r    io.Reader
	fail context.CancelCauseFunc
}

func (s *source) Read(p []byte) (int, error) {
	if s.x.setReading(true) {
		return 0, errOver
	}
	n, err := s.r.Read(p)
	if s.x.setReading(false) {
		return 0, errOver
	}
	if err != nil && err != io.EOF {
		s.fail(fmt.Errorf("read %s of the request: %w", s.name, err))
	}
	return n, err
}

func (x *exchange) setReading(reading bool) (over bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reading = reading && !x.over
	return x.over
}

// A sink is the caller's Stdout or Stderr. It swallows what comes after the end
// of ctx: the answer has to be read to its END_REQUEST.
type sink struct {
	ctx  context.Context
	name string
	w    io.Writer
	fail context.CancelCauseFunc
}

func (s *sink) Write(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return len(p), nil
	}
	if _, err := s.w.Write(p); err != nil {
		s.fail(fmt.Errorf("write %s of the request: %w", s.name, err))
	}
	return len(p), nil
}
