package nbio

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// A Reader reads from a socket, with TryRead. It serves
// one goroutine at a time.
type Reader struct {
	rc  syscall.RawConn
	try func(fd uintptr) (done bool) // made once, since it takes memory
	p   []byte                       // what try is to fill
	n   int                          // what came of it
	err error
}

// NewReader returns a Reader of rc.
func NewReader(rc syscall.RawConn) *Reader {
	r := &Reader{rc: rc}
	r.try = func(fd uintptr) bool {
		r.n, r.err = TryRead(fd, r.p)
		return r.err != syscall.EAGAIN
	}
	return r
}

// Read waits until there is something, and reads it.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil // else it would be waited for
	}
	r.p, r.n, r.err = p, 0, nil
	err := r.rc.Read(r.try)
	r.p = nil
	switch {
	case err != nil:
		return 0, Cause(err)
	case r.n == 0 && r.err == nil:
		return 0, io.EOF
	}
	return r.n, r.err
}

// Cause is what has ended a wait, without what package net says of it for programmers:
// "raw-read unix @->/run/x.sock: …".
func Cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// A Writer writes to a socket, with TryWrite. The zero value
// is ready for use, by one goroutine at a time.
type Writer struct {
	// Made once, since they take memory.
	try  func(fd uintptr)
	wait func(fd uintptr) (done bool)

	b   []byte // what they are to write
	n   int    // how much of it they have written
	err error  // what wait has met
}

// WriteAll writes all of b. It waits for room until the deadline of rc.
func (w *Writer) WriteAll(rc syscall.RawConn, b []byte) (int, error) {
	if w.wait == nil {
		w.wait = w.write
	}
	w.b, w.n, w.err = b, 0, nil
	err := rc.Write(w.wait)
	w.b = nil
	if err != nil {
		return w.n, Cause(err)
	}
	return w.n, w.err
}

func (w *Writer) write(fd uintptr) (done bool) {
	for w.n < len(w.b) {
		n, err := TryWrite(fd, w.b[w.n:])
		w.n += n
		if err == syscall.EAGAIN {
			return false
		}
		if err != nil {
			w.err = err
			return true
		}
	}
	return true
}

// WriteNow writes what rc takes at once: then no deadline need be set, which costs
// more than a small write. It returns how much of b that was, and of errors nothing:
// who writes the rest finds out. It writes nothing where rc is nil.
func (w *Writer) WriteNow(rc syscall.RawConn, b []byte) int {
	if rc == nil || len(b) == 0 {
		return 0
	}
	if w.try == nil {
		w.try = func(fd uintptr) { w.n, _ = TryWrite(fd, w.b) }
	}
	w.b, w.n = b, 0
	rc.Control(w.try)
	w.b = nil
	return w.n
}
