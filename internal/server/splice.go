package server

import (
	"errors"
	"io"
	"os"
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

// shrink gives back what the pipe was made larger by.
func (s *splicer) shrink() { s.pipe.Control(nbio.ShrinkPipe) }

// blocks reports whether to move something to the socket might wait for the client,
// however long that takes.
func blocks(socket syscall.RawConn) (yes bool) {
	socket.Control(func(fd uintptr) { yes = nbio.Blocks(fd) })
	return yes
}

// sendFile moves up to n bytes of the file to the socket, and waits for that to take
// them.
func sendFile(socket syscall.RawConn, file *os.File, from int64, n int) (moved int, err error) {
	frc, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var serr error
	err = socket.Write(func(to uintptr) bool {
		cerr := frc.Control(func(fd uintptr) {
			for moved < n {
				var k int
				k, serr = unix.Sendfile(int(to), int(fd), &from, n-moved)
				switch {
				case serr == unix.EINTR:
				case serr != nil:
					return
				case k == 0:
					serr = io.ErrUnexpectedEOF // the file is shorter than it was
					return
				default:
					moved += k
				}
			}
		})
		serr = errors.Join(serr, cerr)
		return serr == nil || !errors.Is(serr, unix.EAGAIN)
	})
	if err != nil {
		return moved, err
	}
	return moved, serr
}

// spliceBody sends records of what is in the pipe, until there is little.
func (w *answer) spliceBody(s *splicer) (total int64, err error) {
	for {
		n, err := s.waiting()
		n = min(n, protocol.MaxContent) &^ 7 // a multiple of 8 needs no padding
		if err != nil || n < spliceMin || blocks(s.socket) || w.dropsOutput() || !w.backlog.isEmpty() || !w.flows(n) {
			return total, err
		}
		moved, err := w.spliceRecord(s, n)
		if total += int64(moved); err != nil || moved == 0 {
			return total, err
		}
	}
}

// spliceRecord sends a record of the next n bytes of the pipe, and returns how many of
// them are on their way: none where they have to be read, since the client is slow.
func (w *answer) spliceRecord(s *splicer, n int) (moved int, err error) {
	w.req.silence.speaks()
	defer w.req.silence.spoke(w.req)
	err = w.req.conn.out.spliceRecord(s, w.req, &w.outPatience, n)
	switch {
	case w.isCancelled():
	case errors.Is(err, errSlow):
		w.backlog.start()
		return n, nil
	case errors.Is(err, errShut):
		w.unsend(n)
		return 0, nil
	}
	return n, w.outcome(err)
}

// moveNow splices what the socket takes at once of n bytes: then no deadline need be set,
// nor the client be watched, which costs more. Of errors it tells nothing: who moves the
// rest finds out.
func (s *splicer) moveNow(n int) (moved int) {
	s.socket.Control(func(to uintptr) { moved, _ = s.splice(to, n) })
	return moved
}

// move splices up to n bytes and waits for the socket to take them.
func (s *splicer) move(n int) (moved int, err error) {
	var serr error
	err = s.socket.Write(func(to uintptr) bool {
		var k int
		k, serr = s.splice(to, n-moved)
		moved += k
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

// splice moves up to n bytes to the socket, without waiting.
func (s *splicer) splice(to uintptr, n int) (moved int, err error) {
	cerr := s.pipe.Control(func(from uintptr) {
		for moved < n && err == nil {
			k, serr := unix.Splice(int(from), nil, int(to), nil, n-moved, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
			switch {
			case serr == unix.EINTR:
			case serr != nil:
				err = serr
			case k == 0:
				err = io.ErrUnexpectedEOF // somebody else reads the pipe
			default:
				moved += int(k)
			}
		}
	})
	if cerr != nil {
		err = cerr
	}
	return moved, err
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
