package protocol

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// A Request is one FastCGI request as its application sees it: a process
// invocation (section 6.2), so it looks like os/exec's Cmd.
type Request struct {
	// Serial tells the requests of a daemon apart, in logs and lists.
	Serial uint64
	// Peer is the address of who has sent the request, as a rule a web server.
	Peer string
	// ID names the request for its program, and everywhere. It is not among Params, unless
	// it has come there.
	ID     RequestID
	Role   Role
	Params Params
	// Stdin ends with io.EOF, or with the reason why it cannot be whole. Nil is
	// an empty stream. If it is an io.Closer, who reads it may close it when
	// no more is wanted; a Read that waits returns then. If it is a WholeReader
	// or a Filer, it may be known before it is read.
	Stdin io.Reader
	// Data is the second input of a Filter (section 6.4). Nil is an empty stream.
	Data io.Reader
	// Stdout takes a CGI response. After an error of Write nothing more of it is wanted.
	// After an ErrClientLeft what the program writes is to fail from then on, and it may
	// go on as long as the context has not ended. It may be a LastWriter.
	Stdout io.Writer
	// Stderr takes messages for the web server's log.
	Stderr io.Writer
	// QueueDeadline is until when the request may wait for a place to run, in all;
	// the zero time is for ever.
	QueueDeadline time.Time
	// Running, if not nil, is to be called once by a runner that has requests wait,
	// when this one has its place: its time to run begins then.
	Running func()
	// Started, if not nil, is to be called when a process runs the request, and
	// again when another one does since the first could not.
	Started func(pid int, script string)
	// Exited, if not nil, is to be called when that process has exited, though
	// its output may still be on its way.
	Exited func()
	// Overdue, if not nil, is to be called with true when what runs the request does not
	// end though the request has ended, after Exited, and with false when it does.
	Overdue func(is bool)
	// Answered, if not nil, is to be called when the answer has ended though what runs
	// the request goes on: the request can be ended for its client. What the runner
	// returns later on is for logs; its context still ends when it runs for too long,
	// but no more when its client leaves.
	Answered func(appStatus uint32)
	// Usage, if not nil, is where a runner leaves, before it returns, what its program has
	// used for the request.
	Usage *Usage
	// Canceler, if not nil, ends the context that the request runs with.
	Canceler Canceler
	// Ends, if not nil, is set by what runs the request when it is sure to return soon
	// after the context has ended, since it can kill its process, say.
	Ends *atomic.Bool
}

// Client is the address of who has asked the web server, as far as is known: REMOTE_ADDR,
// or the peer.
func (r *Request) Client() string { return cmp.Or(r.Params.Get("REMOTE_ADDR"), r.Peer) }

// Usage is what a program has used. What is 0 is not known.
type Usage struct {
	CPU          time.Duration // user and system together
	User, System time.Duration // apart; both are 0 if only their sum is known
	MaxRSS       int64         // bytes
}

// A Canceler ends the context of a request.
type Canceler interface {
	// AfterCancel is context.AfterFunc for that context, and for none that is derived
	// from it. It remembers one f only: before another call, and before the request's
	// runner returns, the stop of the one before is to be called. Nothing is called
	// when the context ends since all is over.
	AfterCancel(f func()) (stop func() bool)
	// EndAfter ends the request with an ErrTimeout after d, unless the function it
	// returns was called by then, as it has to be before the request's runner returns.
	EndAfter(d time.Duration) (stop func() bool)
}

// WithDeadline is ctx as one that tells by when it ends, for who looks at Deadline before it
// begins something: somebody else sees to that end.
func WithDeadline(ctx context.Context, deadline time.Time) context.Context {
	if earlier, ok := ctx.Deadline(); ok && earlier.Before(deadline) {
		return ctx
	}
	return &deadlineContext{ctx, deadline}
}

type deadlineContext struct {
	context.Context
	deadline time.Time
}

// Deadline is when the context ends, at the latest.
func (c *deadlineContext) Deadline() (deadline time.Time, ok bool) { return c.deadline, true }

// AfterCancel is context.AfterFunc for ctx, the very one with which the request runs,
// and costs less where there is a Canceler, whose terms hold.
func (r *Request) AfterCancel(ctx context.Context, f func()) (stop func() bool) {
	if r.Canceler == nil {
		return context.AfterFunc(ctx, f)
	}
	return r.Canceler.AfterCancel(f)
}

// A LastWriter is a Stdout that saves a small answer a packet of its own.
type LastWriter interface {
	// WriteLast is Write of what is meant to be the last of the stream: it may
	// be held until the request's end, which is to follow at once, or until
	// another Write, even of nothing. p is not kept. The same holds for the end of
	// what a ReadFrom reads.
	WriteLast(p []byte) (int, error)
}

// A WholeWriter is a Stdout that knows how long an answer is to be.
type WholeWriter interface {
	// IsWhole reports whether as much has been written as the answer's header has
	// announced (Content-Length). Of one that has announced nothing that is false.
	IsWhole() bool
}

// A WholeReader is a stream that may be at hand as a whole.
type WholeReader interface {
	io.Reader
	// Whole returns the stream if all of it is in memory and nothing was read
	// of it. It reads nothing. The bytes are not to be changed.
	Whole() ([]byte, bool)
}

// A Filer is a stream that may be a file.
type Filer interface {
	// File returns the whole stream as an open file of its own that can be read from
	// the beginning, whoever else reads the stream, or nil if it is in none. It is the
	// caller's.
	File() (*os.File, error)
}

// InputFile is STDIN as a file, if it is one and all that the request has, or nil.
func (r *Request) InputFile() (*os.File, error) {
	if f, ok := r.Stdin.(Filer); ok && r.Role != RoleFilter {
		return f.File()
	}
	return nil, nil
}

// A PipeWriter is a writer to a pipe whose descriptor does not block. A stream
// that writes itself to one (io.WriterTo) may use the descriptor in its place
// until that call returns: the pipe stays open for as long.
type PipeWriter interface {
	io.Writer
	Pipe() (syscall.RawConn, error)
}

// ErrTimeout is the context's cause, as errors.Is tells, when a request has run
// for longer than it may: then who runs it counts as hung. It is a
// context.DeadlineExceeded.
var ErrTimeout error = timeoutError{}

type timeoutError struct{}

// Error says what was too long.
func (timeoutError) Error() string { return "request ran longer than its timeout" }

// Is reports whether target is what other packages call a timeout.
func (timeoutError) Is(target error) bool { return target == context.DeadlineExceeded }

// Timeout is true: see net.Error.
func (timeoutError) Timeout() bool { return true }

// ErrClientLeft is the context's cause, as errors.Is tells, when the client has gone or
// has aborted the request, and what runs is to end with it; and the error of Stdout when
// it need not.
var ErrClientLeft = errors.New("client has left")

// A Refusal is an error that has an answer: the HTTP status that the client is
// to see and the appStatus of its END_REQUEST. A runner returns one when it has
// sent nothing.
type Refusal struct {
	HTTPStatus int
	AppStatus  uint32
	// Reason is for the log, not for the client.
	Reason error
}

// Error is the reason.
func (r *Refusal) Error() string { return r.Reason.Error() }

// Unwrap returns the reason.
func (r *Refusal) Unwrap() error { return r.Reason }

// WriteRequest sends a request: BEGIN_REQUEST, PARAMS, STDIN, and DATA for a
// Filter, each stream with its end. It returns when Stdin and Data have ended;
// an application may answer before that, so somebody must read meanwhile. An
// Authorizer gets an empty STDIN (section 6.3).
func WriteRequest(w io.Writer, id uint16, req *Request, keep bool) error {
	head := AppendBegin(nil, id, Begin{req.Role, keep})
	head = AppendParams(head, id, &req.Params, nil)
	if !req.HasInput() {
		head = AppendRecord(head, TypeStdin, id, nil)
	}
	if _, err := w.Write(head); err != nil {
		return fmt.Errorf("write request: %w", err)
	}
	if !req.HasInput() {
		return nil
	}
	return WriteInput(w, id, req)
}

// HasInput reports whether the request has a STDIN that is not empty from the
// start, or a DATA. An Authorizer has none (section 6.3).
func (r *Request) HasInput() bool {
	return r.Stdin != nil && r.Role != RoleAuthorizer || r.Role == RoleFilter
}

// WholeInput is STDIN if it need not be read, and is all that the request has.
func (r *Request) WholeInput() ([]byte, bool) {
	if whole, ok := r.Stdin.(WholeReader); ok && r.Role != RoleFilter {
		return whole.Whole()
	}
	return nil, false
}

// WriteInput sends the part of a request that follows PARAMS: STDIN, and DATA for
// a Filter, each with its end.
func WriteInput(w io.Writer, id uint16, req *Request) error {
	if err := writeStream(w, TypeStdin, id, req.Stdin); err != nil {
		return err
	}
	if req.Role != RoleFilter {
		return nil
	}
	return writeStream(w, TypeData, id, req.Data)
}

func writeStream(w io.Writer, t Type, id uint16, src io.Reader) error {
	s := StreamWriter{W: w, Type: t, ID: id}
	if src != nil {
		if _, err := s.ReadFrom(src); err != nil {
			return fmt.Errorf("write %v: %w", t, err)
		}
	}
	if err := s.Close(); err != nil {
		return fmt.Errorf("write %v: %w", t, err)
	}
	return nil
}

// AppendParams appends a PARAMS stream with its end, and in it the id as IDParam, if that
// is not nil. Records are cut between two pairs, since php-fpm and others read each record
// on its own; only a pair that is longer than a record is divided, and then shares none
// with another.
func AppendParams(dst []byte, id uint16, p *Params, name *RequestID) []byte {
	more := 0
	if name != nil {
		more = name.pairLen()
	}
	if n := len(p.raw) + more; len(p.raw) > 0 && n <= MaxContent {
		pad := PaddingFor(TypeParams, n)
		dst = AppendHeader(dst, TypeParams, id, n, pad)
		dst = append(dst, p.raw...)
		if name != nil {
			dst = name.appendPair(dst)
		}
		dst = append(dst, zeros[:pad]...)
		return AppendRecord(dst, TypeParams, id, nil)
	}
	raw := p.Append(nil)
	for rest := string(raw); len(raw) > 0; {
		n := wholePairs(rest)
		for part := range slices.Chunk(raw[:n], MaxContent) {
			dst = AppendRecord(dst, TypeParams, id, part)
		}
		raw, rest = raw[n:], rest[n:]
	}
	if name != nil {
		dst = AppendRecord(dst, TypeParams, id, name.appendPair(nil))
	}
	return AppendRecord(dst, TypeParams, id, nil)
}

// wholePairs is the length of as many encoded pairs as fit into one record, but
// of one pair at least.
func wholePairs(raw string) int {
	if len(raw) <= MaxContent {
		return len(raw)
	}
	n := 0
	for n < len(raw) {
		_, _, after, err := cutPair(raw[n:])
		if err != nil { // not from Params: they hold whole pairs
			return len(raw)
		}
		end := len(raw) - len(after)
		if n > 0 && end > MaxContent {
			break
		}
		n = end
	}
	return n
}

// ErrNoEnd tells that a connection was closed before END_REQUEST.
var ErrNoEnd = errors.New("connection closed before END_REQUEST")
