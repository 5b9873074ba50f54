package server

import (
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/fcgid/fcgid/internal/nbio"
)

// A readBuffer is what a connection reads to while little comes.
type readBuffer [4 << 10]byte

var readBuffers = sync.Pool{New: func() any { return new(readBuffer) }}

// A socketReader reads a connection's socket without holding a buffer while there
// is nothing to read, and without reading at all where STDIN can be moved. It
// belongs to the read loop.
type socketReader struct {
	rc     syscall.RawConn // nil where there is no descriptor; immutable
	reader *nbio.Reader    // of rc; nil until somebody needs it
	// What is done with the descriptor, made once, since it takes memory.
	tryRead, trySplice func(fd uintptr) (done bool)

	// What came of tryRead.
	buf *readBuffer // nil unless n > 0
	n   int
	err error

	// What trySplice is to do, and what came of it.
	body  *liveBody
	want  int
	moved int
}

func newSocketReader(nc net.Conn) *socketReader {
	s := new(socketReader)
	s.tryRead = s.read
	s.rc = descriptor(nc)
	return s
}

// descriptor is that of a connection which is a socket and nothing more: one that
// embeds a socket may have a Read and a Write of its own.
func descriptor(nc net.Conn) syscall.RawConn {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn, *nbio.Conn:
		rc, err := nc.(syscall.Conn).SyscallConn()
		if err == nil {
			return rc
		}
	}
	return nil
}

func (s *socketReader) read(fd uintptr) (done bool) {
	buf := readBuffers.Get().(*readBuffer)
	s.n, s.err = nbio.TryRead(fd, buf[:])
	if s.n == 0 {
		readBuffers.Put(buf)
		return s.err != syscall.EAGAIN
	}
	s.buf = buf
	return true
}

func (s *socketReader) splice(fd uintptr) (done bool) {
	if nbio.Blocks(fd) {
		return true
	}
	moved, wait := s.body.splice(int(fd), s.want)
	s.moved = moved
	return !wait
}

// lend reads what there is to a buffer that is the caller's.
func (s *socketReader) lend() (buf []byte, n int, err error) {
	s.buf, s.n, s.err = nil, 0, nil
	err = s.rc.Read(s.tryRead)
	switch {
	case s.buf != nil:
		buf, n = s.buf[:], s.n
		s.buf = nil
	case err == nil && s.err != nil:
		err = s.err
	case err == nil:
		err = io.EOF
	default:
		err = nbio.Cause(err)
	}
	return buf, n, err
}

// readTo reads what there is to p.
func (s *socketReader) readTo(p []byte) (int, error) {
	if s.reader == nil {
		s.reader = nbio.NewReader(s.rc)
	}
	return s.reader.Read(p)
}

// spliceTo moves up to n bytes to the program that has b for its body, and waits until
// there is something.
func (s *socketReader) spliceTo(b *liveBody, n int) (moved int, err error) {
	if s.trySplice == nil {
		s.trySplice = s.splice
	}
	s.body, s.want, s.moved = b, n, 0
	err = s.rc.Read(s.trySplice)
	s.body = nil
	return s.moved, nbio.Cause(err)
}
