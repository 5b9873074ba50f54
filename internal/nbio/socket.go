package nbio

import (
	"io"
	"syscall"
)

// A Reader reads from a socket in the runtime's poller with TryRead. It serves
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
	r.p, r.n, r.err = p, 0, nil
	err := r.rc.Read(r.try)
	r.p = nil
	switch {
	case err != nil:
		return 0, err
	case r.n == 0 && r.err == nil && len(p) > 0:
		return 0, io.EOF
	}
	return r.n, r.err
}

// A Writer writes what a socket takes at once: then no deadline need be set,
// which costs more than a small write. The zero value is ready for use, by one
// goroutine at a time.
type Writer struct {
	try func(fd uintptr) // made once, since it takes memory
	b   []byte           // what try is to write
	n   int              // bytes of it that try has written
}

// Write returns how much of b was written, and of errors nothing: who writes the
// rest finds out. It writes nothing where rc is nil.
func (w *Writer) Write(rc syscall.RawConn, b []byte) int {
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
