package fcgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/fcgid/fcgid/internal/address"
	"github.com/fcgid/fcgid/internal/protocol"
)

const (
	// abortGrace is how long an aborted request may take to end.
	abortGrace = 2 * time.Second
	// stdinGrace is how long Do, with an answer complete, waits for a Read of
	// Stdin to return, and for the rest of Stdin on a connection to be kept.
	stdinGrace = 100 * time.Millisecond
)

// A Conn speaks to one application over one connection; a [Client] has as many as it
// needs. It does not connect again: once it is closed, each call returns a net.ErrClosed,
// has sent nothing, and it is time for another Dial. It is closed after a request with
// Close, after one that was given up while it had the connection to itself, and when the
// application closes it, or sends there what belongs to no request.
//
// Its methods may be called at the same time: requests share the connection if the
// application says that it multiplexes, and else take turns at it, first come, first
// served.
//
// A request with Close never shares, since the application closes the connection after
// it. Whether an application multiplexes is asked when a Do finds the connection in use,
// once, by FCGI_MPXS_CONNS on a second, short connection: some applications close one on
// which they are asked. Until it has answered "1", and if it does not within a second, Do
// waits for its turn. A Conn of [NewConn] knows no address to ask at. For it, and
// instead, a call of [Conn.Values] that asks for [MpxsConns] decides. After the first
// StatusCantMultiplex requests take turns, whatever was answered.
//
// FastCGI has no flow control. While a Write of Stdout or Stderr takes its time,
// up to 256 KiB more of that answer wait in memory; then nothing is read from
// the connection, and its other requests wait too.
//
// An application that shares may still refuse a request for want of room, with
// StatusOverloaded or otherwise: the Conn sets no bound to what runs at once.
type Conn struct {
	conn       net.Conn
	abortGrace time.Duration
	// redial opens a second connection to where Dial has opened the first; nil
	// after NewConn.
	redial func(context.Context) (net.Conn, error)

	// writing holds a value while somebody writes to conn, who has put it there.
	writing chan struct{}
	// fromPeer and toWake are owned by the reader, and fromPeer also by who
	// makes another one the reader, see takeOver.
	fromPeer *protocol.Reader
	toWake   *inbox

	closeOnce sync.Once
	closed    chan struct{} // closed when nothing more begins
	closeErr  error
	own       sync.WaitGroup // the reader and the probe
	senders   sync.WaitGroup

	mu        sync.Mutex // guards the fields below
	shutting  bool       // nothing more begins
	reason    error      // why we have closed a connection that had requests
	turns     turns
	mpx       multiplexing
	stopProbe context.CancelFunc // not nil once asked
	requests  table
	query     *query // the Values that waits for its answer
	reading   bool   // there is a reader
	leading   leading
}

// Dial connects to an application at unix:/path, unix:@abstract, tcp:host:port or
// tcp:[v6]:port. The ctx is for connecting only.
func Dial(ctx context.Context, addr string) (*Conn, error) {
	network, name, err := address.ParseDial(addr)
	if err != nil {
		return nil, fmt.Errorf("dial: address %w", err)
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, name)
	}
	conn, err := dial(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	c := NewConn(conn)
	c.redial = dial
	return c, nil
}

// NewConn returns a Conn of conn, which is the Conn's from then on. It
// starts nothing.
func NewConn(conn net.Conn) *Conn {
	c := &Conn{
		conn:       conn,
		abortGrace: abortGrace,
		writing:    make(chan struct{}, 1),
		closed:     make(chan struct{}),
	}
	c.fromPeer = protocol.NewReader(wakingReader{c})
	return c
}

// Close closes the connection; what runs on it ends with an error. It waits for
// what the Conn has started, but for what Wait waits for. A second call returns
// what the first did.
func (c *Conn) Close() error {
	c.shut(nil)
	c.own.Wait()
	return c.closeErr
}

// shut is Close without the wait. The reason, if not nil, is what the requests
// on the connection are told.
func (c *Conn) shut(reason error) {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.shutting, c.reason = true, reason
		if c.stopProbe != nil {
			c.stopProbe()
		}
		c.mu.Unlock()
		close(c.closed)
		c.closeErr = c.conn.Close()
	})
}

// isOpen reports whether another request may begin.
func (c *Conn) isOpen() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.shutting
}

// Wait returns when the Conn uses no Request's Stdin or Data any more, and
// sends nothing. It matters only after a Do that could not wait for a Read, and
// must not be called while a Do may begin. On a connection that is still open it
// may have to wait for an application that does not read.
func (c *Conn) Wait() { c.senders.Wait() }

// Do sends a request and receives its answer. Stdin is sent while Stdout
// arrives, by a goroutine that Do waits for. Stdout and Stderr are written by
// the goroutine that calls Do.
//
// A request that ran to its end has no error, whatever its Result says. When
// ctx ends first, the request is aborted, the application gets two seconds to
// end it, and Do returns context.Cause(ctx). When the connection is lost
// first, the error of all requests on it is an [ErrNoEnd].
//
// The connection serves another Do if the request had no Close, has ended, and all
// of Stdin was sent. Else it is closed, unless other requests share it, and further
// calls return a net.ErrClosed.
//
// An answer may be complete before Stdin has ended. The rest is not sent then,
// but a Read of Stdin that blocks cannot be interrupted: Do waits a tenth of a
// second for it and returns. What that Read returns later is lost, and until
// then Stdin must not be used: close it, if that unblocks it, and call Wait.
// In the same way, a Write of Stdout or Stderr that blocks holds up Do.
//
// A Read of Stdin that panics has its request aborted, and Do panics with the same
// value once that has ended. A Write of Stdout or Stderr that panics goes through
// Do, which aborts the request first, or closes the connection if nobody shares it.
func (c *Conn) Do(ctx context.Context, req *Request) (Result, error) {
	if err := c.takeTurn(ctx, !req.Close); err != nil {
		return Result{}, err
	}
	defer c.giveTurn()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	x := newExchange(ctx, cancel, c, req)
	leads, err := c.begin(x)
	if err == errNoID && c.shutIfAlone() {
		err = net.ErrClosed
	}
	if err != nil {
		return Result{}, c.explain("request", err)
	}
	finished := whenDone(ctx, x.abort)
	c.senders.Go(func() { x.send(!req.Close) })
	end, err := x.receive(leads, finished)
	interrupted := !finished()
	x.leave(!req.Close && err == nil)
	x.panicAgain()
	switch {
	case interrupted:
		return Result{}, context.Cause(ctx)
	case err != nil:
		return Result{}, c.explain("request", err)
	}
	return Result{AppStatus: end.AppStatus, ProtocolStatus: ProtocolStatus(end.Status)}, nil
}

// errClosed is for calls of a Conn that is over.
var errClosed = fmt.Errorf("%w: Close was called, or an earlier Request had Close set (a Client connects again)", net.ErrClosed)

// explain adds what was asked of whom, and that a lost connection has lost the
// end of the request.
func (c *Conn) explain(operation string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
		err = fmt.Errorf("%w (%w)", ErrNoEnd, err)
	}
	addr := c.conn.RemoteAddr()
	return fmt.Errorf("%s %s %s: %w", operation, addr.Network(), addr, err)
}

// whenDone calls f when ctx ends. What it returns ends that and reports whether
// f was not called; it waits for a call that has begun.
func whenDone(ctx context.Context, f func()) (finished func() bool) {
	called := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(called)
		f()
	})
	return func() bool {
		if stop() {
			return true
		}
		<-called
		return false
	}
}
