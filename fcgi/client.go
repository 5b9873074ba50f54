package fcgi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/address"
)

// A Client asks an application on as many connections as it needs, one for each request
// that runs, and connects again when one is lost. A [Transport] with it is an
// http.RoundTripper. Only Address has to be set; fields are not to be changed once Do was
// called, and its methods but Wait may be called at the same time.
type Client struct {
	// Address is where the application listens: unix:/path, unix:@abstract,
	// tcp:host:port or tcp:[v6]:port.
	Address string
	// Dial, if not nil, makes the connections, and Address is not looked at.
	Dial func(context.Context) (net.Conn, error)

	// KeepConns is how many connections may stay open without a request, for later ones.
	// With 0, and for a [Request] with Close, the application closes each connection
	// after its request, as it does behind a web server that is set up no further. A
	// worker of php-fpm, php-cgi or libfcgi belongs to one connection while that is open:
	// keep fewer than the application has workers, counting all who ask it.
	//
	// A connection on which a body was sent is not kept, since nobody can know
	// whether the application has read all of it: the rest would begin the next request.
	KeepConns int
	// IdleTimeout is how long a connection is kept without a request. 0 is no limit.
	IdleTimeout time.Duration
	// MaxConns is how many connections may be open at once; one more request waits for
	// one of them, as long as its context lets it. 0 is no limit.
	MaxConns int

	left sync.WaitGroup // Conns that still read a request's Stdin or Data

	mu      sync.Mutex // guards the fields below
	idle    []*idleConn
	open    int // connections, idle or not
	waiting []chan *Conn
}

// An idleConn is a connection without a request.
type idleConn struct {
	*Conn
	timer *time.Timer // ends it; nil without an IdleTimeout
}

// Do sends a request and receives its answer, like [Conn.Do], of which it has all that is
// said of Stdin, Stdout, Stderr and ctx.
//
// When a connection that was kept turns out to be closed, the request is sent once more
// on a new one, if it can have had no effect: its REQUEST_METHOD is GET, HEAD, OPTIONS or
// TRACE, it has no Stdin, and nothing has come.
func (c *Client) Do(ctx context.Context, req *Request) (Result, error) {
	r := *req
	r.Close = r.Close || c.KeepConns <= 0
	in, answered := watch(&r)
	for again := false; ; again = true {
		conn, kept, err := c.take(ctx, again)
		if err != nil {
			return Result{}, err
		}
		result, err := c.ask(ctx, conn, &r, in)
		if err != nil && kept && !again && !answered.Load() && mayRepeat(&r, err) && ctx.Err() == nil {
			continue
		}
		return result, err
	}
}

// ask does the request on conn, and gives that back. A panic of the caller's Stdin or
// Stdout goes through it.
func (c *Client) ask(ctx context.Context, conn *Conn, r *Request, in *countingReader) (Result, error) {
	defer func() {
		if in.isUsed() || r.Close || r.Data != nil {
			conn.Close()
		}
		if (r.Stdin != nil || r.Data != nil) && !conn.isOpen() {
			c.left.Go(conn.Wait)
		}
		c.give(conn)
	}()
	return conn.Do(ctx, r)
}

// Wait returns when nothing uses any Request's Stdin or Data any more; see [Conn.Wait]. It
// is not to be called while a Do may begin.
func (c *Client) Wait() { c.left.Wait() }

// Values asks the application for variables such as [MaxConns], on a connection of its
// own; see [Conn.Values].
func (c *Client) Values(ctx context.Context, names ...string) (map[string]string, error) {
	conn, _, err := c.take(ctx, true)
	if err != nil {
		return nil, err
	}
	defer c.give(conn)
	defer conn.Close()
	return conn.Values(ctx, names...)
}

// CloseIdleConnections closes the connections that have no request, like the method of
// http.Client.
func (c *Client) CloseIdleConnections() {
	c.mu.Lock()
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, conn := range idle {
		conn.stop()
		conn.Close()
		c.release()
	}
}

// take returns a connection: one that was kept, unless a new one is wanted, or a new one
// when there is a place for it.
func (c *Client) take(ctx context.Context, fresh bool) (conn *Conn, kept bool, err error) {
	for ctx.Err() == nil {
		conn, place, wait := c.choose(fresh)
		switch {
		case conn != nil && fresh: // only its place is wanted
			conn.Close()
			conn, err = c.dial(ctx)
			return conn, false, err
		case conn != nil && !isStale(conn.conn):
			return conn, true, nil
		case conn != nil:
			conn.Close()
			c.release()
			continue
		case place:
			conn, err = c.dial(ctx)
			return conn, false, err
		}
		select {
		case conn = <-wait:
		case <-ctx.Done():
			c.stopWaiting(wait)
			return nil, false, context.Cause(ctx)
		}
		switch {
		case conn != nil && !fresh && !isStale(conn.conn):
			return conn, true, nil
		case conn != nil:
			conn.Close()
		}
		conn, err = c.dial(ctx)
		return conn, false, err
	}
	return nil, false, context.Cause(ctx)
}

// choose returns an idle connection, or a place for a new one, or where one or the other
// will come from: a nil connection is a place.
func (c *Client) choose(fresh bool) (conn *Conn, place bool, wait chan *Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	hasRoom := c.MaxConns <= 0 || c.open < c.MaxConns
	switch n := len(c.idle); {
	case n > 0 && !(fresh && hasRoom):
		last := c.idle[n-1]
		c.idle = c.idle[:n-1]
		last.stop()
		return last.Conn, false, nil
	case hasRoom:
		c.open++
		return nil, true, nil
	}
	wait = make(chan *Conn, 1)
	c.waiting = append(c.waiting, wait)
	return nil, false, wait
}

// stopWaiting passes on what has come meanwhile.
func (c *Client) stopWaiting(wait chan *Conn) {
	c.mu.Lock()
	i := slices.Index(c.waiting, wait)
	if i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	}
	c.mu.Unlock()
	if i >= 0 {
		return
	}
	if conn := <-wait; conn != nil {
		c.give(conn)
	} else {
		c.release()
	}
}

// dial fills a place, or gives it back.
func (c *Client) dial(ctx context.Context) (*Conn, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		c.release()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	return NewConn(conn), nil
}

func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	if c.Dial != nil {
		return c.Dial(ctx)
	}
	if c.Address == "" {
		return nil, errors.New("fcgi.Client: neither Address nor Dial is set")
	}
	network, name, err := address.ParseDial(c.Address)
	if err != nil {
		return nil, fmt.Errorf("fcgi.Client: address %w", err)
	}
	return new(net.Dialer).DialContext(ctx, network, name)
}

// give takes a connection back: to who waits, to the idle ones, or to nobody.
func (c *Client) give(conn *Conn) {
	isOpen := conn.isOpen()
	c.mu.Lock()
	switch {
	case isOpen && len(c.waiting) > 0:
		wait := c.waiting[0]
		c.waiting = slices.Delete(c.waiting, 0, 1)
		c.mu.Unlock()
		wait <- conn
		return
	case isOpen && len(c.idle) < c.KeepConns:
		kept := &idleConn{Conn: conn}
		if c.IdleTimeout > 0 {
			kept.timer = time.AfterFunc(c.IdleTimeout, func() { c.expire(kept) })
		}
		c.idle = append(c.idle, kept)
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	conn.Close()
	c.release()
}

// release gives back the place of a connection that is closed.
func (c *Client) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) > 0 {
		c.waiting[0] <- nil // has room
		c.waiting = slices.Delete(c.waiting, 0, 1)
		return
	}
	c.open--
}

// expire closes a connection that has been idle for too long.
func (c *Client) expire(kept *idleConn) {
	c.mu.Lock()
	i := slices.Index(c.idle, kept)
	if i >= 0 {
		c.idle = slices.Delete(c.idle, i, i+1)
	}
	c.mu.Unlock()
	if i >= 0 {
		kept.Close()
		c.release()
	}
}

func (k *idleConn) stop() {
	if k.timer != nil {
		k.timer.Stop()
	}
}

// isStale reports whether a connection on which nobody reads has ended, or has something
// to read that belongs to no request.
func isStale(conn net.Conn) (stale bool) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		stale = err != unix.EAGAIN && err != unix.EINTR
	})
	return stale || err != nil
}

// mayRepeat reports whether a request may be sent once more. A kept connection has failed
// with err, and nothing of an answer has come.
func mayRepeat(r *Request, err error) bool {
	if !errors.Is(err, ErrNoEnd) || r.Stdin != nil || r.Data != nil {
		return false
	}
	switch r.Params.Get("REQUEST_METHOD") {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// watch has r count what is read of its Stdin, and remember whether something has come.
func watch(r *Request) (in *countingReader, answered *atomic.Bool) {
	answered = new(atomic.Bool)
	if r.Stdin != nil {
		in = &countingReader{r: r.Stdin}
		r.Stdin = in
	}
	if r.Stdout != nil {
		r.Stdout = &notingWriter{r.Stdout, answered}
	}
	if r.Stderr != nil {
		r.Stderr = &notingWriter{r.Stderr, answered}
	}
	return in, answered
}

type countingReader struct {
	r io.Reader
	n atomic.Int64
}

// isUsed reports whether something was read. A nil reader has nothing to read.
func (c *countingReader) isUsed() bool { return c != nil && c.n.Load() > 0 }

// Read reads and counts.
func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

type notingWriter struct {
	w     io.Writer
	wrote *atomic.Bool
}

// Write notes that it was called.
func (w *notingWriter) Write(p []byte) (int, error) {
	w.wrote.Store(true)
	return w.w.Write(p)
}
