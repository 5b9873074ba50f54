package server

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

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
		unix.FcntlInt(uintptr(p.fd), unix.F_SETPIPE_SZ, pipeSize) // refused: it stays as it is
	}
}

// splice moves up to n bytes from the socket, as body.splice has it.
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

// next returns the next record. While large ones of STDIN come for a program that
// takes them, their content goes to it without being read.
func (c *conn) next() (protocol.Record, error) {
	r := c.bulk
	if r == nil || !c.mayBulk(r) {
		return c.reader.Next()
	}
	for c.reader.Left() > 0 {
		n, err := (*connReader)(c).splice(&r.body, c.reader.Left())
		if err != nil {
			return protocol.Record{}, err
		}
		if n == 0 {
			return c.reader.Next()
		}
		c.reader.Took(n)
		r.received.Add(int64(n))
		r.heard = c.heard
	}
	return c.reader.NextPart(bulkMin)
}

// mayBulk reports whether STDIN of r can go straight to its program.
func (c *conn) mayBulk(r *request) bool {
	return c.socket.rc != nil && !r.stdinIsOver && !r.bodyIsGone && r.body.isDirect() && c.lingering.Load() == 0
}

// stdin takes the content of a STDIN record, or the part of it that was read.
func (c *conn) stdin(r *request, content []byte) {
	if r.consumed.Load() {
		c.server.protocolError(kindSequence)
		return
	}
	left := c.reader.Left()
	if left == 0 || len(content) > 0 { // else nothing was read of it
		r.addStdin(content)
		c.progress(r)
	}
	if len(content)+left >= bulkMin {
		c.bulk = r
	}
}
