package worker

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/protocol"
)

// A seat is a worker's place for one request, with the connection that is kept
// from one request to the next.
type seat struct {
	worker *worker // immutable

	// Guarded by Pool.mu.
	req       *protocol.Request // nil: the place is free
	since     time.Time         // when req got it
	maxMemory int64             // of Options, then
	untried   bool              // the worker had not answered any request, then
	startBy   time.Time         // when it should take requests
	shared    bool              // it might have others besides, then
	fresh     bool              // conn is new, and the worker need not have accepted it

	// Written with Pool.mu held by who has the place, who may read them without.
	conn   net.Conn        // nil: none
	raw    syscall.RawConn // of conn; nil where it is no socket
	reader *protocol.Reader

	// Used by who has the place.
	lastID uint16 // of the requests on conn
	writer nbio.Writer
	// What is done with conn's descriptor, made once, since it takes memory.
	look, measure func(fd uintptr)
	watch, tryAsk func(fd uintptr) (done bool)
	looked        error       // what look or watch has found
	unread        bool        // what measure has found
	asking        *headBuffer // what tryAsk is to write; nil once it has written all
	asked         int         // how much that was
}

// nextID returns another id than the requests before it on the connection had, so
// that what a worker writes late is not taken for a part of the next answer.
func (s *seat) nextID() uint16 {
	s.lastID++
	if s.lastID == 0 { // that is for management records (section 3.3)
		s.lastID = 1
	}
	return s.lastID
}

// connect makes a connection to the worker.
func (s *seat) connect(ctx context.Context) error {
	w := s.worker
	conn, err := w.process.connect(ctx)
	if err != nil && !isRefused(err) {
		return unreachableError{err}
	}
	if err != nil {
		return err
	}
	w.pool.mu.Lock()
	defer w.pool.unlock()
	if w.state == stateGone {
		conn.Close()
		return errGone
	}
	s.conn, s.raw, s.reader, s.fresh = conn, nil, protocol.NewReader(conn), true
	if s.look == nil {
		s.look = func(fd uintptr) { s.looked = peek(fd) }
		s.measure = func(fd uintptr) { s.unread = hasQueued(int(fd)) }
		s.watch, s.tryAsk = s.watchNotice, s.writeOnce
	}
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw, s.reader = raw, protocol.NewReader(nbio.NewReader(raw))
		}
	}
	return nil
}

// isRefused reports whether a connection could not be made since nobody listens
// any more.
func isRefused(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT)
}

// An unreachableError is that of a connection that could not be made, for which
// the worker need not be to blame.
type unreachableError struct{ error }

var errGone = errors.New("the worker has exited")

// isUnix reports whether the kernel tells what the worker has read.
func (s *seat) isUnix() bool {
	_, ok := s.conn.(*net.UnixConn)
	return ok && s.raw != nil
}

// tryWrite writes what can be written at once.
func (s *seat) tryWrite(b []byte) { s.writer.WriteNow(s.raw, b) }

// shut lets the worker's writes fail, and its reads end.
func (s *seat) shut() {
	c := s.conn.(*net.UnixConn)
	c.CloseRead()
	c.CloseWrite()
}

// awaitRead waits until the worker has read all that was written, or has closed the
// connection, or a deadline is over.
func (s *seat) awaitRead() error {
	return s.raw.Write(func(fd uintptr) bool { return !hasQueued(int(fd)) })
}

// write writes to the connection.
func (s *seat) write(b []byte) (int, error) {
	n := s.writer.WriteNow(s.raw, b)
	if n == len(b) {
		return n, nil
	}
	m, err := s.conn.Write(b[n:])
	return n + m, err
}

// tell writes what is in out, and frees that.
func (s *seat) tell(out *headBuffer) (int, error) {
	defer out.free()
	return s.write(out.b)
}

// ask writes all that a worker needs to answer, and waits until it has said something: a
// read that comes first finds nothing, as a rule, and costs as much as one that does. It frees
// out when that is written. How the wait has ended is for the next read to find out.
func (s *seat) ask(out *headBuffer) (n int, err error) {
	n = len(out.b)
	s.asking, s.asked = out, 0
	if s.raw != nil {
		s.raw.Read(s.tryAsk)
	}
	if s.asking == nil {
		return n, nil
	}
	s.asking = nil
	defer out.free()
	n, err = s.conn.Write(out.b[s.asked:])
	return s.asked + n, err
}

// writeOnce writes what is asked. It is called when the poller has been told to forget what
// was there before, so that what it waits for after that is the answer.
func (s *seat) writeOnce(fd uintptr) (done bool) {
	out := s.asking
	if out == nil {
		return true
	}
	s.asked, _ = nbio.TryWrite(fd, out.b)
	if s.asked < len(out.b) {
		return true
	}
	s.asking = nil
	out.free()
	return false
}

// disconnect closes the connection, for who has the place.
func (s *seat) disconnect() {
	s.worker.pool.mu.Lock()
	defer s.worker.pool.unlock()
	s.close()
}

// close closes the connection. The pool's mu is held.
func (s *seat) close() {
	if s.conn != nil {
		s.conn.Close()
		s.conn, s.raw, s.reader = nil, nil, nil
	}
}

// cut is for a worker that has exited, or whose answer nobody wants any more: what
// it wrote can still be read, but nobody waits for more, even if a process that it
// has left behind has the other end. The pool's mu is held.
func (s *seat) cut() {
	if s.req == nil {
		s.close()
		return
	}
	if c, ok := s.conn.(*net.UnixConn); ok {
		c.CloseRead()
		c.CloseWrite()
	}
}

// The conditions in which a connection can be that nothing was asked on.
var (
	errClosed = errors.New("the worker closed the connection")
	errSpoke  = brokenAnswer{errors.New("it wrote before it was asked")}
)

// check returns nil if the connection can be used for a request.
func (s *seat) check() error {
	s.looked = nil
	if s.raw != nil {
		s.raw.Control(s.look)
	}
	return s.looked
}

// peek looks whether there is something to read.
func peek(fd uintptr) error {
	var b [1]byte
	n, err := nbio.TryPeek(fd, b[:])
	switch {
	case err == unix.EAGAIN:
		return nil
	case err != nil || n == 0:
		return errClosed
	}
	return errSpoke
}

// noticeTime is how long a worker has to take notice of a request before it is
// sent the rest whatever may become of it.
const noticeTime = time.Second

// awaitNotice waits until the worker has read all that was written so far, but no longer
// than until by. It reports whether the worker has, as far as the kernel can tell. The
// error is errClosed when the worker has closed the connection. It waits for room to
// write: there is more of it with each piece that the worker reads.
func (s *seat) awaitNotice(ctx context.Context, by time.Time) (noticed bool, err error) {
	if s.raw == nil {
		return true, nil
	}
	s.looked = nil
	s.conn.SetWriteDeadline(by)
	err = s.raw.Write(s.watch)
	s.conn.SetWriteDeadline(time.Time{})
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return false, errClosed
	}
	return err == nil, s.looked
}

// watchNotice looks whether the worker has read all, and then how: closing reads
// everything too.
func (s *seat) watchNotice(fd uintptr) (done bool) {
	queued := hasQueued(int(fd))
	s.looked = peek(fd)
	return !queued || s.looked != nil
}

// claim is called when something was written to a connection. If the worker need
// not have accepted it, its processes may all wait for more on connections on which
// nothing is to come: these are closed.
func (s *seat) claim() {
	if !s.fresh {
		return
	}
	w := s.worker
	w.pool.mu.Lock()
	defer w.pool.unlock()
	if !s.isUnread() {
		return
	}
	for _, other := range w.seats {
		if other.req == nil {
			other.close()
		}
	}
}

// isRead reports whether the worker has provably read all that was written. It is for who
// has the place.
func (s *seat) isRead() bool {
	if !s.isUnix() {
		return false
	}
	s.unread = true
	s.raw.Control(s.measure)
	return !s.unread
}

// isUnread reports whether some of what was written was not read by the worker. Anybody
// may ask who holds the pool's mu, or has the place.
func (s *seat) isUnread() (unread bool) {
	if s.raw != nil {
		s.raw.Control(func(fd uintptr) { unread = hasQueued(int(fd)) })
	}
	return unread
}

// hasQueued reports whether what was written to a socket waits to be read, as far
// as the kernel can tell.
func hasQueued(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ)
	return err == nil && n >= leastQueued
}

// leastQueued is less than what the kernel counts for the smallest piece of data
// that a Unix socket holds: it counts what it has allocated.
const leastQueued = 256
