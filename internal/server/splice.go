package server

import (
	"errors"
	"io"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/protocol"
)

const (
	// spliceMin is how much has to be in a pipe for moving its pages to cost
	// less than copying what they hold.
	spliceMin = 32 << 10
)

// splicer moves the body of a response from a program's pipe to the socket
// without copying it, for as long as there is much of it.
type splicer struct {
	pipe, socket syscall.RawConn
	enlarged     bool
}

// newSplicer returns nil where the kernel cannot splice.
func newSplicer(w *answer, pipe syscall.RawConn) *splicer {
	socket := w.req.conn.in.socket.rc
	if socket == nil {
		return nil
	}
	return &splicer{pipe: pipe, socket: socket}
}

// waiting is how much is in the pipe. One that is full is made larger, once. The
// error is that of reading: the time to read may be over.
func (s *splicer) waiting() (n int, err error) {
	err = s.pipe.Read(func(fd uintptr) bool {
		n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ)
		if n >= spliceMin && !s.enlarged {
			s.enlarged = true
			nbio.EnlargePipe(fd) // its program goes on while its output is on its way
		}
		return true
	})
	return n, err
}

// release gives back what the pipe was made larger by.
func (s *splicer) release() { s.pipe.Control(nbio.ShrinkPipe) }

// blocks reports whether a splice might wait for the client, however long that takes.
func (s *splicer) blocks() (yes bool) {
	s.socket.Control(func(fd uintptr) { yes = nbio.Blocks(fd) })
	return yes
}

// spliceBody sends records of what is in the pipe, until there is little.
func (w *answer) spliceBody(s *splicer) (total int64, err error) {
	for {
		n, err := s.waiting()
		n = min(n, protocol.MaxContent) &^ 7 // a multiple of 8 needs no padding
		if err != nil || n < spliceMin || s.blocks() || w.goesOn() || !w.flows(n) {
			return total, err
		}
		if err := w.req.conn.out.spliceRecord(s, w.req, &w.outPatience, n); err != nil {
			return total, w.outcome(err)
		}
		total += int64(n)
	}
}

// move splices up to n bytes and waits for the socket to take them.
func (s *splicer) move(n int) (moved int, err error) {
	var serr error
	err = s.socket.Write(func(to uintptr) bool {
		s.pipe.Control(func(from uintptr) {
			for moved < n && serr == nil {
				k, err := unix.Splice(int(from), nil, int(to), nil, n-moved, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
				switch {
				case err == unix.EINTR:
				case err != nil:
					serr = err
				case k == 0:
					serr = io.ErrUnexpectedEOF // somebody else reads the pipe
				default:
					moved += int(k)
				}
			}
		})
		if serr == unix.EAGAIN {
			if s.isEmpty() {
				serr = io.ErrUnexpectedEOF
				return true
			}
			serr = nil
			return false
		}
		return true
	})
	return moved, errors.Join(err, serr)
}

// isEmpty reports whether nothing is in the pipe: then it is not the socket that
// has to be waited for.
func (s *splicer) isEmpty() bool {
	n := 0
	s.pipe.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n == 0
}

// appendRest appends the next n bytes of the pipe, which are there. It returns nil if
// they are not: somebody else reads the pipe.
func (s *splicer) appendRest(dst []byte, n int) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, n)...)
	s.pipe.Control(func(fd uintptr) {
		for at < len(dst) {
			k, err := nbio.ReadPipe(fd, dst[at:])
			if err != nil || k <= 0 {
				return
			}
			at += k
		}
	})
	if at < len(dst) {
		return nil
	}
	return dst
}
