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

	"github.com/fcgid/fcgid/internal/protocol"
)

const (
	// abortGrace is how long an aborted request may take to end.
	abortGrace = 2 * time.Second
	// stdinGrace is how long Do, with an answer complete, waits for a Read of
	// Stdin to return, and for the rest of Stdin on a connection to be kept.
	stdinGrace = 100 * time.Millisecond
	// maxQuery is the longest content of the one GET_VALUES record.
	maxQuery = 8 << 10
	// maxPairLengths is what the lengths of a name and its value take at most.
	maxPairLengths = 8
	// requestID is the id of every request: there is one at a time, and some
	// applications take no other.
	requestID = 1
)

// A Client speaks to one application over one connection. Its methods may be
// called at the same time: they take turns at the connection.
type Client struct {
	conn       net.Conn
	abortGrace time.Duration
	// turn holds a value while a Do or a Values has the connection.
	turn chan struct{}
	// fromPeer is owned by whoever has the turn.
	fromPeer *protocol.Reader

	closeOnce sync.Once
	closed    chan struct{}
	closeErr  error

	senders sync.WaitGroup
}

// Dial connects to an application: network is "unix", "tcp", "tcp4" or "tcp6",
// and address is what net.Dial takes with it. The ctx is for connecting only.
func Dial(ctx context.Context, network, address string) (*Client, error) {
	switch network {
	case "unix", "tcp", "tcp4", "tcp6":
	default:
		return nil, fmt.Errorf("dial %q: network is none of unix, tcp, tcp4, tcp6", network)
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return NewClient(conn), nil
}

// NewClient returns a Client of conn, which is the Client's from then on. It
// starts nothing.
func NewClient(conn net.Conn) *Client {
	return &Client{
		conn:       conn,
		abortGrace: abortGrace,
		turn:       make(chan struct{}, 1),
		fromPeer:   protocol.NewReader(conn),
		closed:     make(chan struct{}),
	}
}

// Close closes the connection; what runs on it ends with an error. A second
// call returns what the first did.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		close(c.closed)
		c.closeErr = c.conn.Close()
	})
	return c.closeErr
}

// Wait returns when the Client uses no Request's Stdin or Data any more. It
// matters only after a Do that could not wait for a Read, and must not be
// called while a Do may begin.
func (c *Client) Wait() { c.senders.Wait() }

// Do sends a request and receives its answer. Stdin is sent while Stdout
// arrives, by a goroutine that Do waits for.
//
// A request that ran to its end has no error, whatever its Result says. When
// ctx ends first, the request is aborted, the application gets two seconds to
// end it, and Do returns context.Cause(ctx). When the connection is lost
// first, the error is an [ErrNoEnd].
//
// The connection serves another Do if KeepConn was asked for, the request has
// ended and all of Stdin was sent. Else it is closed, and further calls return
// a net.ErrClosed.
//
// An answer may be complete before Stdin has ended. The rest is not sent then,
// but a Read of Stdin that blocks cannot be interrupted: Do waits a tenth of a
// second for it and returns. What that Read returns later is lost, and until
// then Stdin must not be used: close it, if that unblocks it, and call Wait.
// In the same way, a Write of Stdout or Stderr that blocks holds up Do.
func (c *Client) Do(ctx context.Context, req *Request) (Result, error) {
	if err := c.takeTurn(ctx); err != nil {
		return Result{}, err
	}
	defer c.giveTurn()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	x := newExchange(ctx, cancel, c.conn, req)
	finished := whenDone(ctx, func() { x.abort(c.abortGrace) })
	c.senders.Go(func() { x.send(req.KeepConn) })
	end, err := protocol.ReadResponse(c.fromPeer, requestID, &x.req)
	interrupted := !finished()

	sentAll := x.stopSending(req.KeepConn && err == nil)
	if !req.KeepConn || err != nil || !sentAll {
		c.Close()
	} else {
		c.conn.SetDeadline(time.Time{})
	}
	switch {
	case interrupted:
		return Result{}, context.Cause(ctx)
	case err != nil:
		return Result{}, c.explain("request", err)
	}
	return Result{AppStatus: end.AppStatus, ProtocolStatus: ProtocolStatus(end.Status)}, nil
}

// Values asks the application for variables such as [MaxConns]. Those that it
// does not know are missing in the map. When ctx ends first, the connection is
// closed and the error is context.Cause(ctx).
//
// Few applications answer well: some close the connection after it, or know
// one name only.
func (c *Client) Values(ctx context.Context, names ...string) (map[string]string, error) {
	if err := c.takeTurn(ctx); err != nil {
		return nil, err
	}
	defer c.giveTurn()
	finished := whenDone(ctx, func() { c.conn.SetDeadline(longAgo) })
	values, err := c.askValues(names)
	if !finished() {
		c.Close()
		return nil, context.Cause(ctx)
	}
	if err != nil {
		c.Close()
		return nil, c.explain("values", err)
	}
	return values, nil
}

func (c *Client) askValues(names []string) (map[string]string, error) {
	size := 0
	for _, n := range names {
		size += maxPairLengths + len(n)
	}
	if size > maxQuery {
		return nil, fmt.Errorf("names take more than %d bytes", maxQuery)
	}
	if _, err := c.conn.Write(protocol.AppendGetValues(nil, names...)); err != nil {
		return nil, err
	}
	for {
		rec, err := c.fromPeer.Next()
		if err == io.EOF {
			return nil, errors.New("connection closed before GET_VALUES_RESULT")
		}
		if err != nil {
			return nil, err
		}
		if !rec.IsManagement() {
			continue
		}
		switch rec.Type {
		case protocol.TypeUnknownType:
			return nil, errors.New("application does not know GET_VALUES")
		case protocol.TypeGetValuesResult:
			return parseValues(rec.Content)
		}
	}
}

func parseValues(content []byte) (map[string]string, error) {
	params, err := protocol.ParseParams(content)
	if err != nil {
		return nil, fmt.Errorf("read GET_VALUES_RESULT: %w", err)
	}
	values := make(map[string]string, params.Len())
	for name, value := range params.All() {
		values[name] = value
	}
	return values, nil
}

func (c *Client) takeTurn(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case c.turn <- struct{}{}:
	}
	select {
	case <-c.closed:
		c.giveTurn()
		return c.explain("request", net.ErrClosed)
	default:
		return nil
	}
}

func (c *Client) giveTurn() { <-c.turn }

// explain adds what was asked of whom, and that a lost connection has lost the
// end of the request.
func (c *Client) explain(operation string, err error) error {
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
