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

// bulkMin is from what size on the content of a STDIN record is moved from the
// socket to a pipe without being read: that takes a system call more, for the
// header alone.
const bulkMin = 16 << 10

// An inputPipe is the pipe that a program reads STDIN from. All but spliceFile
// returns at once.
type inputPipe struct {
	rc       syscall.RawConn
	fd       int // of rc
	enlarged bool
}

// newInputPipe returns nil for a pipe that is closed.
func newInputPipe(w protocol.PipeWriter) *inputPipe {
	rc, err := w.Pipe()
	if err != nil {
		return nil
	}
	p := &inputPipe{rc: rc}
	if rc.Control(func(fd uintptr) { p.fd = int(fd) }) != nil {
		return nil
	}
	return p
}

// write puts as much of b into the pipe as there is room for, and returns how
// much that is. Of errors it tells nothing: who writes the rest finds out.
func (p *inputPipe) write(b []byte) (n int) {
	if len(b) >= bulkMin {
		p.enlarge()
	}
	for n < len(b) {
		k, err := unix.Write(p.fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || k == 0 {
			break
		}
		n += k
	}
	return n
}

// enlarge makes the pipe hold more, since it gets much: then the program need
// not keep pace with the client.
func (p *inputPipe) enlarge() {
	if !p.enlarged {
		p.enlarged = true
		nbio.EnlargePipe(uintptr(p.fd))
	}
}

// splice moves up to n bytes from the socket; see liveBody.splice.
func (p *inputPipe) splice(socket, n int) (moved int, wait bool) {
	p.enlarge()
	for moved < n {
		k, err := unix.Splice(socket, nil, p.fd, nil, n-moved, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN && moved == 0:
			// Either of the two may be the reason.
			waiting, err := unix.IoctlGetInt(socket, unix.TIOCINQ)
			return 0, err == nil && waiting == 0
		case err != nil || k == 0:
			return moved, false
		default:
			moved += int(k)
		}
	}
	return moved, false
}

// spliceFile moves up to n bytes of the file, from an offset on, and waits until
// the pipe takes some.
func (p *inputPipe) spliceFile(file *os.File, from int64, n int) (moved int, err error) {
	p.enlarge()
	frc, err := file.SyscallConn()
	if err != nil {
		return 0, err
	}
	var serr error
	err = p.rc.Write(func(to uintptr) bool {
		cerr := frc.Control(func(file uintptr) {
			for {
				k, err := unix.Splice(int(file), &from, int(to), nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
				if err != unix.EINTR {
					moved, serr = int(max(0, k)), err
					return
				}
			}
		})
		if cerr != nil {
			serr = cerr
		}
		return serr != unix.EAGAIN
	})
	if err = errors.Join(err, serr); err == nil && moved == 0 {
		err = io.ErrUnexpectedEOF // the file is shorter than it was
	}
	return moved, err
}
