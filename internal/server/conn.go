package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/protocol"
)

const (
	// maxControl is how many bytes of answers to management records may wait
	// for a client that does not read them.
	maxControl = 64 << 10
	// maxOpen is how many requests a connection may have open beyond those
	// that run or wait.
	maxOpen = 1024
)

// A conn is one transport connection. Its read loop never writes to the socket and
// never waits for a request, but for a moment where requests run in place: then its
// goroutine is the request's, and leaves the loop to another one if that takes long.
type conn struct {
	server *Server
	nc     net.Conn
	under  net.Conn // that nc speaks TLS over, or nil
	remote string
	excess bool // over max_conns; set before serve
	group  *group
	wg     sync.WaitGroup // all goroutines but the read loop's

	// Owned by the read loop, whichever goroutine that is.
	reader      *protocol.Reader
	socket      *socketReader
	receiving   []*request  // STDIN has not ended
	paramsBytes int64       // PARAMS held by receiving
	partial     time.Time   // when the record began to come that is not complete
	heard       time.Time   // when bytes came last
	deadline    time.Time   // that is set on nc
	bulk        *request    // whose the last record was, if that was a large one of STDIN
	inPlace     *request    // that is to be run in place
	multiplexed bool        // there were several requests at once
	deep        bool        // this goroutine has run a request
	readAgain   *time.Timer // of runInPlace

	mu       sync.Mutex          // guards the fields below
	table    map[uint16]*request // by id, until END_REQUEST
	live     requestSet          // until they are finished and their goroutines have returned
	ending   int                 // requests off the table whose END_REQUEST is being written
	control  []byte              // records that answer no open request, not yet written
	refused  []*Result           // of the requests that control answers
	flushing bool                // somebody writes control
	used     bool                // a request was begun
	closing  bool                // closed once all is answered
	draining bool                // closing, but a request that is on its way is still taken
	forced   bool                // closed without lingering
	unread   bool                // the client may still send what nobody wants
	idle     time.Time           // when the last request ended

	lingering atomic.Int64 // when to stop reading what nobody wants, Unix nanoseconds; 0 is not
	lastCall  atomic.Int64 // when to stop waiting for a request while draining, Unix nanoseconds; 0 is not
	lost      atomic.Bool  // nothing can be written any more
	unhandled atomic.Bool  // the read loop has something that it has not handled

	paramsHeld atomic.Int64 // bytes of the PARAMS of live requests, as parsed

	wmu     sync.Mutex              // held while writing to nc
	output  nbio.Writer             // guarded by wmu
	writing atomic.Pointer[request] // whose records are being written
}

func newConn(s *Server, nc net.Conn, g *group) *conn {
	c := &conn{
		server: s, nc: nc, group: g, idle: time.Now(),
		table: make(map[uint16]*request),
	}
	if layer, ok := nc.(interface{ NetConn() net.Conn }); ok { // a *tls.Conn
		c.under = layer.NetConn()
	}
	if a := nc.RemoteAddr(); a != nil {
		c.remote = a.String()
	}
	c.socket = newSocketReader(nc)
	c.reader = protocol.NewReader((*connReader)(c))
	return c
}

// serve is the read loop. It reads until the connection is of no use, then ends
// what it carries, and takes it off the table when all its goroutines have
// returned; or it returns since another goroutine has become the read loop.
func (c *conn) serve() {
	growReadStack(1)
	err := c.readRecords()
	if err == errRest {
		return
	}
	if err != nil && !c.isOver(err) {
		c.server.protocolError(errorKind(err))
		c.server.opt.Log.Debug("connection broken off", zap.String("remote", c.remote), zap.Error(err))
	}
	c.lost.Store(true)
	c.cut()
	c.server.disconnected(c)
	c.abandon()
	c.wg.Wait()
	c.server.unregister(c)
	c.group.remove(c)
}

func (c *conn) readRecords() error {
	for {
		rec, err := c.next()
		if c.isTimeout(err) && c.isLate() {
			if err = c.expire(time.Now()); err == nil {
				continue
			}
		}
		if err == errRest {
			go c.readOn()
			return err
		}
		if err == io.EOF && c.halfClosed() {
			err = c.awaitHangup()
		}
		if err != nil {
			return err
		}
		c.partial = time.Time{}
		if c.lingering.Load() != 0 {
			continue
		}
		if err := c.dispatch(rec); err != nil {
			return err
		}
		if len(c.receiving) == 0 {
			c.reader.Release()
		}
		if r := c.inPlace; r != nil {
			c.inPlace = nil
			if !c.runInPlace(r) {
				return errRest
			}
		}
	}
}

// isTimeout reports whether err is that of a deadline. Not every net.Conn has
// os.ErrDeadlineExceeded for it; of a socket other errors are timeouts too.
func (c *conn) isTimeout(err error) bool {
	if c.socket.rc != nil {
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// isOver reports whether err is an ordinary end of a connection.
func (c *conn) isOver(err error) bool {
	switch {
	case err == io.EOF, errors.Is(err, errIdle), c.lingering.Load() != 0:
		return true
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe): // by us
		return true
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (c *conn) dispatch(rec protocol.Record) error {
	c.bulk = nil
	if rec.IsManagement() {
		return c.management(rec)
	}
	if rec.Type == protocol.TypeBeginRequest {
		return c.begin(rec)
	}
	r := c.find(rec.ID)
	if r == nil {
		return nil // section 3.3: records of an inactive request are ignored
	}
	switch rec.Type {
	case protocol.TypeParams:
		return c.params(r, rec.Content)
	case protocol.TypeStdin:
		c.stdin(r, rec.Content)
	case protocol.TypeAbortRequest:
		r.consumed.Store(true) // nothing of it follows
		c.drop(r, ErrAborted)
	default:
		c.server.protocolError(kindUnexpectedType)
	}
	return nil
}

func (c *conn) params(r *request, content []byte) error {
	if r.paramsOver {
		c.server.protocolError(kindSequence)
		return nil
	}
	if r.ctx.Err() != nil {
		return nil // it is being ended without them
	}
	before := r.params.Len()
	r.addParams(content)
	c.paramsBytes += int64(r.params.Len() - before)
	if limit := r.settings.Limits.Params; limit > 0 && c.paramsBytes > 4*limit {
		return fmt.Errorf("PARAMS of %d unfinished requests: %w", len(c.receiving), errFlood)
	}
	c.progress(r)
	return nil
}

// management answers a record that belongs to no request (section 4).
func (c *conn) management(rec protocol.Record) error {
	switch rec.Type {
	case protocol.TypeGetValues:
		return c.send(protocol.AppendGetValuesResult(nil, rec.Content, c.server.value))
	case protocol.TypeGetValuesResult, protocol.TypeUnknownType:
		c.server.protocolError(kindUnexpectedType)
		return nil
	}
	c.server.protocolError(kindUnknownType)
	return c.send(protocol.AppendUnknownType(nil, rec.Type))
}

// begin opens a request, or refuses it where that can be told already.
func (c *conn) begin(rec protocol.Record) error {
	b, err := protocol.ParseBegin(rec.Content)
	if err != nil {
		return err
	}
	c.mu.Lock()
	active, open, closing := len(c.table), c.live.size, c.closing
	known := c.table[rec.ID] != nil
	c.mu.Unlock()
	settings := c.server.settings.Load()
	limits := settings.Limits
	switch {
	case known:
		return fmt.Errorf("BEGIN_REQUEST of the active request %d: %w", rec.ID, errSequence)
	case b.Role != protocol.RoleResponder && b.Role != protocol.RoleAuthorizer:
		return c.refuseBegin(rec.ID, b, refusal{501, 501, protocol.StatusUnknownRole, Rejected, fmt.Errorf("%v is not supported", b.Role)})
	case active > 0 && !limits.Multiplex:
		return c.refuseBegin(rec.ID, b, refusal{503, 503, protocol.StatusCantMpxConn, Rejected, errors.New("multiplexing is off")})
	case open >= maxOpen+limits.MaxReqs+limits.Queue:
		return c.refuseBegin(rec.ID, b, *overload(errors.New("too many open requests on one connection")))
	}
	r := newRequest(c, rec.ID, b)
	c.multiplexed = c.multiplexed || active > 0
	if c.excess {
		r.keep = false
		r.refusal = overload(errors.New("max_conns connections are open"))
	} else if closing && active > 0 {
		r.refusal = overload(errors.New("connection is being closed"))
	}
	c.receiving = append(c.receiving, r)
	if c.enter(r) {
		c.setReadDeadline(c.due())
	}
	return nil
}

// enter takes r into the table. It reports whether the connection was about to be
// closed for want of a request.
func (c *conn) enter(r *request) (lastCall bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.used = true
	c.table[r.id] = r
	c.live.add(r)
	return c.lastCall.Swap(0) != 0
}

// refuseBegin answers a BEGIN_REQUEST at once. No request comes of it, and what
// follows is ignored, like all records of inactive ones.
func (c *conn) refuseBegin(id uint16, b protocol.Begin, v refusal) error {
	answer := ownAnswer(v.httpStatus, false)
	out := protocol.AppendRecord(nil, protocol.TypeStdout, id, answer)
	out = protocol.AppendRecord(out, protocol.TypeStdout, id, nil)
	end := protocol.End{AppStatus: v.appStatus, Status: v.status}
	out = protocol.AppendEnd(out, id, end)
	if !b.Keep {
		c.mu.Lock()
		c.closing, c.unread = true, true
		c.mu.Unlock()
	}
	return c.send(out, &Result{
		Outcome: v.outcome, HTTPStatus: v.httpStatus, End: end, Reason: v.reason, Remote: c.remote,
		Serial: c.server.serial.Add(1), Params: &protocol.Params{}, Begun: time.Now(), Sent: int64(len(answer)),
	})
}

// send hands records that answer no open request to a goroutine that writes
// them and then reports the requests that they refuse. It does not wait; a
// client that never reads them is cut off.
func (c *conn) send(records []byte, refused ...*Result) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control = append(c.control, records...)
	c.refused = append(c.refused, refused...)
	if !c.flushing {
		c.flushing = true
		c.wg.Go(c.flush)
	}
	if len(c.control) > maxControl {
		return fmt.Errorf("%d bytes of answers are unread: %w", len(c.control), errFlood)
	}
	return nil
}

func (c *conn) flush() {
	for {
		c.mu.Lock()
		out, refused := c.control, c.refused
		c.control, c.refused = nil, nil
		if len(out) == 0 {
			c.flushing = false
			c.mu.Unlock()
			c.closeIfDone()
			return
		}
		c.mu.Unlock()
		c.write(nil, out) // what fails here fails everywhere: the connection is closed
		for _, res := range refused {
			c.server.done(res)
		}
	}
}

// progress notes that r has received something, and starts it when it can run.
func (c *conn) progress(r *request) {
	r.heard = c.heard
	if r.paramsOver && r.stdinIsOver {
		c.forget(r)
	}
	if r.ready() {
		c.launch(r)
	}
}

// forget takes r off what the read loop watches.
func (c *conn) forget(r *request) {
	if i := slices.Index(c.receiving, r); i >= 0 {
		c.receiving = slices.Delete(c.receiving, i, i+1)
		c.paramsBytes -= int64(r.params.Len())
	}
}

// forgetEnded does that to requests that were answered before STDIN had ended.
func (c *conn) forgetEnded() {
	for i := len(c.receiving) - 1; i >= 0; i-- {
		if r := c.receiving[i]; r.ended.Load() {
			c.forget(r)
			r.stopStdin()
		}
	}
}

// drop ends a request of which the client will not send the rest.
func (c *conn) drop(r *request, cause error) {
	c.cancel(r, cause)
	r.stopStdin()
	c.forget(r)
}

// launch has the request run, unless it has ended.
func (c *conn) launch(r *request) {
	r.prepare()
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	r.started = true
	r.stage.Store(int32(stageQueued))
	if c.mayRunInPlace(r) {
		c.inPlace = r
	} else {
		c.wg.Go(func() {
			growStack(1)
			r.run()
		})
	}
}

func (c *conn) find(id uint16) *request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.table[id]
}

// cancel ends r for a reason, if it has not ended. Whoever holds a request that
// is live may call it: the goroutine it starts is one that serve waits for.
func (c *conn) cancel(r *request, cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.inSet {
		c.cancelLocked(r, cause)
	}
}

func (c *conn) cancelLocked(r *request, cause error) {
	if (cause == ErrAborted || cause == ErrClientGone) && r.answered {
		return // the client has what it wanted
	}
	if (cause == ErrAborted || cause == ErrClientGone) && r.mayOutlive() {
		c.wg.Go(func() { r.finish(0, cause) })
		return
	}
	if cause == ErrShutdown {
		r.awaitNoStdin()
	}
	if r.ctx.Err() != nil {
		return // it is being ended already
	}
	r.cancelFn(cause)
	if r.afterCancel != nil {
		c.wg.Go(r.afterCancel)
		r.afterCancel = nil
	}
	r.body.fail(cause)
	c.hurry(r)
	started := r.started
	c.wg.Go(func() {
		if !started {
			defer c.leave(r)
			r.body.Close()
		}
		r.finish(0, cause)
	})
}

// cancelAll ends every request.
func (c *conn) cancelAll(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := range c.live.all {
		c.cancelLocked(r, cause)
	}
}

// leave takes r off the live requests: nothing of it runs any more.
func (c *conn) leave(r *request) {
	c.mu.Lock()
	c.live.remove(r)
	c.mu.Unlock()
	c.paramsHeld.Add(-r.held.Swap(0))
	r.release()
}

// abandon ends the requests of a connection that is gone.
func (c *conn) abandon() {
	c.cancelAll(ErrClientGone)
	for _, r := range c.receiving {
		r.stopStdin()
	}
	c.receiving = nil
}

// end frees r's id and then writes the records that end it, since the peer may use
// the id again as soon as it has seen them. It returns when that was.
func (c *conn) end(r *request, records []byte) time.Time {
	c.mu.Lock()
	delete(c.table, r.id)
	r.ended.Store(true)
	c.ending++
	c.closing = c.closing || !r.keep
	c.unread = !r.consumed.Load() && r.req.Role != protocol.RoleAuthorizer
	c.mu.Unlock()

	c.write(r, records) // a connection that cannot be written to is closed

	now := time.Now()
	c.mu.Lock()
	c.ending--
	c.idle = now
	c.mu.Unlock()
	c.closeIfDone()
	return now
}
