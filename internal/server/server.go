// Package server is the FastCGI application's side of a pool's sockets: it
// accepts connections, keeps the table of requests, takes their bodies, admits
// them under the pool's limits and answers each one exactly once. What a
// request does is a Runner's business: this package knows no process.
package server

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A Runner does the work of a request. It reads req.Stdin, writes req.Stdout and
// req.Stderr, and uses none of them once it has returned. It ends its work when
// ctx ends; context.Cause(ctx) says why. (It ends too when all is over, with
// context.Canceled, for what a Runner has left behind.) appStatus is a program's exit status.
// A *protocol.Refusal is answered with its HTTP status; any other error with 502.
// One that ends its goroutine (runtime.Goexit) instead of returning has failed: 500.
type Runner interface {
	Run(ctx context.Context, req *protocol.Request) (appStatus uint32, err error)
}

// A Queuer is a Runner with a queue of its own: a request waits in it until its
// QueueDeadline at most, and its timeout begins when the Runner calls Running, on
// the goroutine that has called Run. With any other Runner it begins with Run.
type Queuer interface {
	Runner
	Queues() bool
}

// The reasons for which a request's context ends.
var (
	ErrAborted     = error(leftError("client sent ABORT_REQUEST"))
	ErrClientGone  = error(leftError("client closed the connection"))
	ErrTimeout     = protocol.ErrTimeout
	ErrReadTimeout = errors.New("client was silent for longer than read_timeout")
	ErrShutdown    = errors.New("server is shutting down")
)

// A leftError is a protocol.ErrClientLeft.
type leftError string

// Error says how the client has left.
func (e leftError) Error() string { return string(e) }

// Is reports whether target is what all such errors are.
func (leftError) Is(target error) bool { return target == protocol.ErrClientLeft }

// ErrAbandoned is what Serve returns that has not waited for all Runners to return.
var ErrAbandoned = errors.New("gave up waiting for Runners to return")

// Limits are the bounds of a pool. A zero duration or size is no bound, but for
// BodyMemory and AnswerSpool.
type Limits struct {
	MaxConns     int           // connections at once, advertised as FCGI_MAX_CONNS; 0 is no bound
	MaxReqs      int           // requests running at once, advertised as FCGI_MAX_REQS; 0 is no bound
	MaxReqsKey   string        // what of the configuration says so; empty: limits.max_reqs
	Multiplex    bool          // several requests at once on a connection, advertised as FCGI_MPXS_CONNS
	Queue        int           // requests that wait for their turn to run
	QueueTimeout time.Duration // longest wait
	Params       int64         // bytes of PARAMS of one request
	Body         int64         // bytes of STDIN of one request
	BodyMemory   int64         // bytes of it that are kept in memory; 0 is none
	// RequestBuffering has a request run when all of STDIN has come. Else it runs when
	// its PARAMS are there, reads STDIN as it comes, and is heard at once.
	RequestBuffering bool
	AnswerSpool      int64         // bytes of an answer in a file, while its client is slower than its program; 0 is none, and the program waits
	Spool            int64         // bytes in files of bodies and answers, in all
	ReadTimeout      time.Duration // PARAMS complete; silence in STDIN
	WriteTimeout     time.Duration // a client that takes nothing
	IdleTimeout      time.Duration // a connection without a request
}

// OnAbort says what becomes of a program that runs when its client leaves.
type OnAbort int

const (
	AbortKill   OnAbort = iota // its context ends
	AbortClose                 // it may go on, but what it writes fails
	AbortIgnore                // it goes on, and its output is dropped
)

// String is the value of on_client_abort.
func (o OnAbort) String() string { return [...]string{"kill", "close", "ignore"}[o] }

// Settings say how a request is served. They are not changed once handed over:
// a request keeps those it began with.
type Settings struct {
	Runner Runner
	// Own, if not nil, is asked for each request that is ready to run. The Runner that it
	// returns does that request, at once, or where maxOwn of those run it is refused: it waits
	// for no turn, takes none of the places and does not count. Nil: Runner does.
	Own       func(*protocol.Params) Runner
	InPlace   bool // a request of which all has come runs, or waits for its turn, where it was read: see inPlace
	Limits    Limits
	Timeout   time.Duration // wall clock of a running request; 0 is no bound
	Silence   time.Duration // of a running request while its client waits; 0 is no bound
	OnAbort   OnAbort       // what becomes of a program that runs when its client leaves
	SlowAfter time.Duration // Hooks.Slow is called for a request that runs longer; 0 is never
	SpoolDir  string        // where bodies that leave memory go; "" is os.TempDir
	Grace     time.Duration // how long requests may go on once Serve's context has ended
	// Abandon is how long after the last moment, when the requests have been
	// ended and the connections closed, Serve waits for a Runner that does not
	// return though its context has ended. 0 is for ever: right for a Runner that
	// can enforce the end of its work, as that of a process can.
	Abandon time.Duration
	// Hold, if not nil, is called when a request begins, and what it returns when
	// nothing of that is left: Runner is needed for as long. It may be called once
	// more after Update has replaced the settings; then what it returns is called at
	// once.
	Hold func() (release func())
}

// Hooks report what happens. Each may be nil; all are called from many goroutines.
type Hooks struct {
	// ProtocolError is called for input that breaks the protocol, with one of
	// ProtocolErrorKinds.
	ProtocolError func(kind string)
	// Queued is called with the time that an admitted request has waited, and the number of
	// its connection, as in Result.
	Queued func(conn uint32, wait time.Duration)
	// Slow is called once for a request that runs for longer than
	// Settings.SlowAfter, at that moment.
	Slow func(RequestInfo)
	// Done is called once for each request, after its END_REQUEST was written. What its
	// program has used is not known then.
	Done func(*Result)
	// Accounts reports whether somebody wants to know what programs use.
	Accounts func() bool
	// Account is called once for each request, after Done: with what its program has used,
	// if there was one and it has ended. For one that is being ended it is called then.
	Account func(*Result)
}

// Options are what a Server has for life.
type Options struct {
	Log   *slog.Logger // nil logs nothing
	Hooks Hooks
	// Memory is what the requests of this and other Servers may hold: PARAMS, bodies and
	// ends of answers. Nil is no bound.
	Memory *Memory
	// Serials is the serial of the last request of this and other Servers, so that one
	// number means one request. Nil: it has numbers of its own.
	Serials *atomic.Uint64
}

// A Server serves one pool on any number of listeners.
type Server struct {
	// All requests read these, and hardly anybody writes to them.
	opt      Options
	overdue  func(is bool) // of admission; made once, since it takes memory
	lanes    []lane
	settings atomic.Pointer[Settings]
	ended    atomic.Pointer[chan struct{}] // gets something when a request is over; nil until Drain

	_         cpu.CacheLinePad
	admission admission
	_         cpu.CacheLinePad

	own        ownPlaces
	sampler    sampler
	connsTotal atomic.Int64
	spooled    budget        // bytes in files
	room       chan struct{} // gets something when a client has gone

	mu    sync.Mutex         // guards the fields below
	conns map[*conn]struct{} // until nothing of them is left
	open  int                // those that have a client
}

// New returns a Server that has nothing to listen on yet.
func New(settings Settings, opt Options) *Server {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Serials == nil {
		opt.Serials = new(atomic.Uint64)
	}
	s := &Server{opt: opt, conns: make(map[*conn]struct{}), lanes: newLanes(), room: make(chan struct{}, 1)}
	s.overdue = s.admission.setOverdue
	s.admission.tell = func(c crowd) {
		fields := []any{"max_reqs", c.max, "waiting", c.waiting, "for", time.Since(c.since)}
		if c.overdue > 0 {
			fields = append(fields, "functions_overdue", c.overdue)
		}
		s.opt.Log.Warn("all places to run are taken, and requests wait", fields...)
	}
	s.Update(settings)
	return s
}

// Update replaces the settings for requests that have not begun. Connections
// stay, and take up a new IdleTimeout with their next request; requests that run
// or wait go on and count against the new limits.
func (s *Server) Update(settings Settings) {
	s.settings.Store(&settings)
	s.admission.setLimits(settings.Limits.MaxReqs, settings.Limits.Queue, settings.Limits.MaxReqsKey)
}

// value answers GET_VALUES with the limits that are in force.
func (s *Server) value(name string) (string, bool) {
	limits := s.settings.Load().Limits
	switch name {
	case protocol.MaxConns:
		return advertised(limits.MaxConns), true
	case protocol.MaxReqs:
		return advertised(limits.MaxReqs), true
	case protocol.MpxsConns:
		if limits.Multiplex {
			return "1", true
		}
		return "0", true
	}
	return "", false
}

// advertised is a limit as a peer understands it: it has no word for "no bound".
func advertised(n int) string {
	if n == 0 {
		n = 1 << 16
	}
	return strconv.Itoa(n)
}

func (s *Server) protocolError(kind string) {
	if s.opt.Hooks.ProtocolError != nil {
		s.opt.Hooks.ProtocolError(kind)
	}
}
