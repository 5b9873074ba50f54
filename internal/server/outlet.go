package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/protocol"
)

// maxControl is how many bytes of answers to management records may wait for a client
// that does not read them.
const maxControl = 64 << 10

// An outlet is what writes to a connection: whole records, one writer at a time. A
// writer that cannot wait any longer leaves the rest of its records as the tail, which
// goes before whatever is written next.
type outlet struct {
	conn    *conn
	lost    atomic.Bool            // nothing can be written any more
	waiting atomic.Pointer[writer] // who waits for the client

	door   door // for who writes; guards the fields below
	tail   []byte
	socket nbio.Writer

	mu       sync.Mutex // guards the fields below
	control  []byte     // records that answer no open request, not yet written
	refused  []*Result  // of the requests that control answers
	flushing bool       // somebody writes control
	last     lastWords  // likewise
}

func (o *outlet) init(c *conn) {
	o.conn = c
	o.door.init()
}

// errSlow is what a writer gets that has waited for long enough. Its records are
// written, or stand in the tail.
var errSlow = errors.New("client is slower than its program")

// A patience is how a writer waits for the client.
type patience struct {
	left    time.Duration // how long it may wait in all, if isShort
	isShort bool
}

// instant is the shortest wait that counts as one for a slow client. A shorter one may be
// what it takes to copy the bytes.
const instant = time.Millisecond

// spend notes that the writer has waited.
func (p *patience) spend(waited time.Duration) {
	if p != nil && p.isShort {
		p.left = max(0, p.left-waited)
	}
}

// write sends the rest of r's answer, or records of no request. It waits for the
// client as long as that takes something now and then. An error is ErrClientGone, and
// the connection is closed.
func (o *outlet) write(r *request, b []byte) error {
	o.door.enter()
	defer o.done()
	return o.send(writer{outlet: o, req: r}, b)
}

// pass sends whole records that r's Runner makes, and none once r has its last answer.
// It waits no longer than p says, nor when r has been cancelled.
func (o *outlet) pass(r *request, p *patience, b []byte) error {
	if !o.enter(r, p) {
		return errShut
	}
	defer o.done()
	if r.answer.isClosed {
		return errFinished
	}
	r.answer.isOut = true
	return o.send(writer{o, r, p}, b)
}

// errShut is what a writer gets that has waited at the door for long enough: nothing
// was written.
var errShut = errors.New("another request's client is slower than its program")

// enter waits until r may write.
func (o *outlet) enter(r *request, p *patience) bool {
	if o.door.tryEnter() {
		return true
	}
	var over <-chan time.Time
	if p.isShort {
		began := time.Now()
		timer := time.NewTimer(p.left)
		defer func() {
			timer.Stop()
			p.left = max(0, p.left-time.Since(began))
		}()
		over = timer.C
	}
	return o.door.enterBefore(over, r.ctx.Done())
}

func (o *outlet) done() { o.door.leave() }

// A writer is one whom the door has let in.
type writer struct {
	*outlet
	req      *request  // nil for records of none
	patience *patience // nil for what waits as long as there is a client
}

// send writes what others have left, and then b.
func (o *outlet) send(w writer, b []byte) error {
	if o.lost.Load() {
		return ErrClientGone
	}
	if len(o.tail) > 0 {
		if err := w.flushTail(); err != nil {
			return w.keepTail(b, err)
		}
	}
	if len(b) == 0 {
		return nil
	}
	n := o.socket.WriteNow(o.conn.in.socket.rc, b)
	o.count(n)
	if b = b[n:]; len(b) == 0 {
		return nil
	}
	n, err := w.wait(b)
	if err != nil {
		return w.keepTail(b[n:], err)
	}
	return nil
}

// keepTail makes b the end of the tail if err tells that it is not waited for.
func (w *writer) keepTail(b []byte, err error) error {
	if errors.Is(err, errSlow) {
		w.tail = append(w.tail, b...)
	}
	return err
}

func (w *writer) flushTail() error {
	n, err := w.wait(w.tail)
	if w.tail = w.tail[n:]; len(w.tail) == 0 {
		w.tail = nil
	}
	return err
}

// wait writes b and waits for the client meanwhile. The error is errSlow, or
// ErrClientGone when the connection is lost.
func (w *writer) wait(b []byte) (written int, err error) {
	defer w.noteWaiting()()
	for len(b) > 0 {
		n, err := w.onePiece(func() (int, error) { return w.some(b[:w.conn.piece(len(b))]) })
		w.count(n)
		written += n
		b = b[n:]
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// some writes all of b, unless the deadline comes first.
func (w *writer) some(b []byte) (int, error) {
	if rc := w.conn.in.socket.rc; rc != nil {
		return w.socket.WriteAll(rc, b)
	}
	return w.conn.nc.Write(b)
}

// noteWaiting lets hurry know of the writer, until what it returns is called.
func (w *writer) noteWaiting() (over func()) {
	waiting := *w // w need not be on the heap
	w.waiting.Store(&waiting)
	return w.outlet.clearWaiting
}

func (o *outlet) clearWaiting() { o.waiting.Store(nil) }

// onePiece writes with a deadline. An error tells that this was in vain, and a deadline
// that the client has taken something until then is none.
func (w *writer) onePiece(write func() (int, error)) (n int, err error) {
	began, queued := time.Now(), w.queued()
	w.setDeadline()
	n, err = write()
	waited := time.Since(began)
	if err == nil {
		if waited >= instant {
			w.patience.spend(waited)
		}
		return n, nil
	}
	if !w.conn.in.isTimeout(err) {
		return n, w.lose(err)
	}
	if p := w.patience; p != nil {
		p.spend(waited)
		if w.isCancelled() || p.isShort && p.left == 0 && w.mayLeave() {
			return n, errSlow
		}
	}
	if most := w.maxWait(); n == 0 && most > 0 && waited >= most && w.queued() >= queued {
		return n, w.lose(err)
	}
	return n, nil
}

// maxWait is how long the client may take nothing; 0 is for ever. Who waits to end a
// request that was cancelled does not wait long.
func (w *writer) maxWait() time.Duration {
	wait := w.conn.server().settings.Load().Limits.WriteTimeout
	if w.isCancelled() && (wait == 0 || wait > lingerTime) {
		wait = lingerTime
	}
	return wait
}

func (w *writer) isCancelled() bool { return w.req != nil && w.req.ctx.Err() != nil }

// mayLeave reports whether a write that has met its deadline can go on later.
func (w *writer) mayLeave() bool { return w.conn.under == nil }

// setDeadline is for before each write: the client has to take something until then, or
// it is the end of patience.
func (w *writer) setDeadline() {
	cancelled := w.isCancelled()
	wait := w.maxWait()
	if p := w.patience; p != nil && w.mayLeave() {
		switch {
		case cancelled:
			wait = time.Nanosecond
		case p.isShort && (wait == 0 || p.left < wait):
			wait = max(p.left, time.Nanosecond)
		}
	}
	var deadline time.Time // none; an earlier one may have been set
	if wait > 0 {
		deadline = time.Now().Add(wait)
	}
	w.conn.nc.SetWriteDeadline(deadline)
	if !cancelled && w.isCancelled() {
		w.setDeadline() // hurry came in between
	}
}

// hurry shortens the wait for a client that does not take what is being written of r,
// which was cancelled. Its program does not wait at all.
func (o *outlet) hurry(r *request) {
	w := o.waiting.Load()
	switch {
	case w == nil || w.req != r:
	case w.patience != nil && w.mayLeave():
		o.conn.nc.SetWriteDeadline(passed)
	default:
		o.conn.nc.SetWriteDeadline(time.Now().Add(lingerTime))
	}
}

// queued is how much the client has not taken of what the socket has.
func (o *outlet) queued() (n int) {
	if rc := o.conn.in.socket.rc; rc != nil {
		rc.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) })
	}
	return n
}

func (o *outlet) count(n int) { o.conn.lane().sent.Add(int64(n)) }

// lose closes a connection to which nothing can be written.
func (o *outlet) lose(err error) error {
	o.lost.Store(true)
	o.conn.cut()
	return fmt.Errorf("%w: %w", ErrClientGone, err)
}

// post hands records that answer no open request to a goroutine that writes them and
// then reports the requests that they refuse. It does not wait; a client that never
// reads them is cut off.
func (o *outlet) post(records []byte, refused ...*Result) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conn.charge(int64(len(records)))
	o.control = append(o.control, records...)
	o.refused = append(o.refused, refused...)
	if !o.flushing {
		o.flushing = true
		o.conn.wg.Go(o.flush)
	}
	if len(o.control) > maxControl {
		return fmt.Errorf("%d bytes of answers are unread: %w", len(o.control), errFlood)
	}
	return nil
}

func (o *outlet) flush() {
	for {
		o.mu.Lock()
		out, refused := o.control, o.refused
		o.control, o.refused = nil, nil
		o.flushing = len(out) > 0
		o.mu.Unlock()
		if len(out) == 0 {
			o.conn.table.settle()
			return
		}
		o.write(nil, out) // what fails here fails everywhere: the connection is closed
		o.conn.charge(-int64(len(out)))
		for _, res := range refused {
			o.conn.server().done(res)
			o.conn.server().account(res)
		}
	}
}

// sendFile sends n bytes of a file, which are whole records of r. The error is that of
// write.
func (o *outlet) sendFile(r *request, file *os.File, from, n int64) error {
	o.door.enter()
	defer o.done()
	w := writer{outlet: o, req: r}
	rc := o.conn.in.socket.rc
	if rc == nil || blocks(rc) {
		buf := make([]byte, n)
		if _, err := file.ReadAt(buf, from); err != nil {
			return o.lose(err)
		}
		return o.send(w, buf)
	}
	if err := o.send(w, nil); err != nil {
		return err
	}
	defer w.noteWaiting()()
	for n > 0 {
		moved, err := w.onePiece(func() (int, error) { return sendFile(rc, file, from, int(n)) })
		o.count(moved)
		from, n = from+int64(moved), n-int64(moved)
		if err != nil {
			return err
		}
	}
	return nil
}

// isFlushing reports whether there are records that post was given.
func (o *outlet) isFlushing() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.flushing
}

// spliceRecord sends a STDOUT record with the next n bytes of the pipe, which are
// there, as its content. The error is that of pass.
func (o *outlet) spliceRecord(s *splicer, r *request, p *patience, n int) error {
	if !o.enter(r, p) {
		return errShut
	}
	defer o.done()
	if r.answer.isClosed {
		return errFinished
	}
	w := writer{o, r, p}
	var header [protocol.HeaderLen]byte
	err := o.send(w, protocol.AppendHeader(header[:0], protocol.TypeStdout, r.id, n, 0))
	if err == nil {
		moved := s.moveNow(n)
		o.count(moved)
		n -= moved
	}
	if n > 0 && err == nil {
		defer w.noteWaiting()()
	}
	for n > 0 && err == nil {
		var moved int
		moved, err = w.onePiece(func() (int, error) { return s.move(n) })
		o.count(moved)
		n -= moved
	}
	if errors.Is(err, errSlow) {
		if o.tail = s.appendRest(o.tail, n); o.tail == nil {
			return o.lose(io.ErrUnexpectedEOF)
		}
	}
	return err
}
