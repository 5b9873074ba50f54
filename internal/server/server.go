// Package server is the FastCGI application's side of a pool's sockets: it
// accepts connections, keeps the table of requests, takes their bodies, admits
// them under the pool's limits and answers each one exactly once. What a
// request does is a Runner's business: this package knows no process.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

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
	ErrAborted     = errors.New("client sent ABORT_REQUEST")
	ErrClientGone  = errors.New("client closed the connection")
	ErrTimeout     = protocol.ErrTimeout
	ErrReadTimeout = errors.New("client was silent for longer than read_timeout")
	ErrShutdown    = errors.New("server is shutting down")
)

// ErrAbandoned is what Serve returns that has not waited for all Runners to return.
var ErrAbandoned = errors.New("gave up waiting for Runners to return")

// Limits are the bounds of a pool. A zero duration or size is no bound, but for
// BodyMemory.
type Limits struct {
	MaxConns      int           // connections at once, advertised as FCGI_MAX_CONNS; 0 is no bound
	MaxReqs       int           // requests running at once, advertised as FCGI_MAX_REQS; 0 is no bound
	Multiplex     bool          // several requests at once on a connection, advertised as FCGI_MPXS_CONNS
	Queue         int           // requests that wait for their turn to run
	QueueTimeout  time.Duration // longest wait
	Params        int64         // bytes of PARAMS of one request
	Body          int64         // bytes of STDIN of one request
	BodyMemory    int64         // bytes of it that are kept in memory; 0 is none
	EarlyResponse bool          // answer before STDIN has ended
	ReadTimeout   time.Duration // PARAMS complete; silence in STDIN
	WriteTimeout  time.Duration // a client that takes nothing
	IdleTimeout   time.Duration // a connection without a request
}

// Settings say how a request is served. They are not changed once handed over:
// a request keeps those it began with.
type Settings struct {
	Runner      Runner
	Limits      Limits
	Timeout     time.Duration // wall clock of a running request; 0 is no bound
	IgnoreAbort bool          // a request whose client is gone runs to its end
	SlowAfter   time.Duration // Hooks.Slow is called for a request that runs longer; 0 is never
	WholeBody   bool          // a request runs only once all of STDIN has come
	InPlace     bool          // Runner is quick as a rule: it runs where the request is read, and is waited for a moment
	SpoolDir    string        // where bodies that leave memory go; "" is os.TempDir
	Grace       time.Duration // how long requests may go on once Serve's context has ended
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
	// Queued is called with the time that an admitted request has waited.
	Queued func(wait time.Duration)
	// Slow is called once for a request that runs for longer than
	// Settings.SlowAfter, at that moment.
	Slow func(RequestInfo)
	// Done is called once for each request, after its END_REQUEST was written.
	Done func(*Result)
}

// Options are what a Server has for life.
type Options struct {
	Log   *zap.Logger // nil logs nothing
	Hooks Hooks
}

// A Server serves one pool on any number of listeners.
type Server struct {
	opt       Options
	admission admission
	settings  atomic.Pointer[Settings]

	connsTotal, received, sent atomic.Int64
	serial                     atomic.Uint64 // of the last request

	mu     sync.Mutex         // guards the fields below
	conns  map[*conn]struct{} // until nothing of them is left
	within int                // open connections within max_conns
	excess int                // those over it
}

// New returns a Server that has nothing to listen on yet.
func New(settings Settings, opt Options) *Server {
	if opt.Log == nil {
		opt.Log = zap.NewNop()
	}
	s := &Server{opt: opt, conns: make(map[*conn]struct{})}
	s.Update(settings)
	return s
}

// Update replaces the settings for requests that have not begun. Connections
// stay, and take up a new IdleTimeout with their next request; requests that run
// or wait go on and count against the new limits.
func (s *Server) Update(settings Settings) {
	s.settings.Store(&settings)
	s.admission.setLimits(settings.Limits.MaxReqs, settings.Limits.Queue)
}

// A Drainer is a listener that can take no new connections and yet return, by Accept,
// those that the kernel has accepted. After the last one Accept returns net.ErrClosed,
// also when Drain has returned an error.
type Drainer interface{ Drain() error }

// Serve accepts connections of l and serves them until ctx ends. Then it drains l, if
// that is a Drainer, and closes it, lets requests go on for Settings.Grace, ends those
// that are left, and returns when nothing that it started is left. It returns an error
// when l breaks.
//
// With Settings.Abandon it does not wait for ever: when a Runner has not returned
// by then, the goroutines of its request and connection are left behind, until it
// does, and the error is an ErrAbandoned that says how many requests there are.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	drainer, drains := l.(Drainer)
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		if !drains {
			l.Close()
		} else if err := drainer.Drain(); err != nil {
			s.opt.Log.Warn("connections may be lost that nobody has accepted yet", zap.Stringer("listener", l.Addr()), zap.Error(err))
		}
	})
	g := &group{conns: make(map[*conn]struct{}), gone: make(chan struct{})}
	err := s.accept(ctx, l, g)
	stopped := !stop()
	if stopped {
		<-closed // Accept may return before the descriptor is closed
	}
	if !stopped || drains {
		l.Close()
	}
	settings := s.settings.Load()
	left := g.drain(settings.Grace, settings.Abandon)
	if ctx.Err() != nil {
		return left
	}
	return errors.Join(err, left)
}

// accept admits connections until l is closed. Running out of descriptors or
// memory is survived: the connection waits in the kernel, but no longer than
// Settings.Grace when ctx has ended.
func (s *Server) accept(ctx context.Context, l net.Listener, g *group) error {
	const shortest, longest = 5 * time.Millisecond, time.Second
	_, drains := l.(Drainer)
	pause := shortest
	var giveUp time.Time
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = shortest
			s.start(nc, g)
			continue
		}
		if errors.Is(err, net.ErrClosed) || !isTemporary(err) {
			return err
		}
		if ctx.Err() != nil {
			if giveUp.IsZero() {
				giveUp = time.Now().Add(s.settings.Load().Grace)
			}
			if !drains || time.Now().After(giveUp) {
				return err
			}
			time.Sleep(shortest)
			continue
		}
		s.opt.Log.Warn("cannot accept a connection", zap.Stringer("listener", l.Addr()), zap.Error(err))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longest)
	}
}

func (s *Server) start(nc net.Conn, g *group) {
	s.connsTotal.Add(1)
	c := newConn(s, nc, g)
	if !s.register(c) {
		nc.Close()
		s.protocolError(kindConnections)
		return
	}
	g.add(c)
	go c.serve()
}

// maxExcess is how many connections beyond max_conns are kept to be told so.
const maxExcess = 64

// register takes c into the table. A connection over max_conns is taken to be
// refused in the protocol's words; only when there are many of those it is
// not taken at all.
func (s *Server) register(c *conn) bool {
	limit := s.settings.Load().Limits.MaxConns
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case limit == 0 || s.within < limit:
		s.within++
	case s.excess < maxExcess:
		s.excess++
		c.excess = true
	default:
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// disconnected is called when c has no client any more. Its requests may go on.
func (s *Server) disconnected(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.excess {
		s.excess--
	} else {
		s.within--
	}
}

func (s *Server) unregister(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
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

// A group is the connections of one listener: what its Serve waits for.
type group struct {
	gone chan struct{} // closed when the last connection of a drained group is

	mu       sync.Mutex // guards the fields below
	conns    map[*conn]struct{}
	draining bool
}

// add is not to be called once drain was.
func (g *group) add(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[c] = struct{}{}
}

func (g *group) remove(c *conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
	g.closeIfGoneLocked()
}

func (g *group) closeIfGoneLocked() {
	if g.draining && len(g.conns) == 0 {
		close(g.gone)
	}
}

// drain lets the connections end by themselves for grace, then ends their
// requests, and a little later closes those whose clients do not take that.
// Unless abandon is 0 it waits no longer than that for what is left then. The
// error tells of it.
func (g *group) drain(grace, abandon time.Duration) error {
	g.each((*conn).drain)
	end := time.AfterFunc(grace, func() {
		g.each((*conn).force)
	})
	defer end.Stop()
	cut := time.AfterFunc(grace+lingerTime, func() {
		g.each((*conn).cut)
	})
	defer cut.Stop()
	var enough <-chan time.Time
	if abandon > 0 {
		timer := time.NewTimer(grace + lingerTime + abandon)
		defer timer.Stop()
		enough = timer.C
	}
	g.mu.Lock()
	g.draining = true
	g.closeIfGoneLocked()
	g.mu.Unlock()
	select {
	case <-g.gone:
		return nil
	case <-enough:
		left := 0
		g.each(func(c *conn) { left += c.running() })
		return fmt.Errorf("%w: %d are left", ErrAbandoned, left)
	}
}

func (g *group) each(do func(*conn)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		do(c)
	}
}
