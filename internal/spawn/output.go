package spawn

import (
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
)

// CopyStdout writes the program's output to w until all of its writers are gone, or
// lingering is over, and closes it.
func (p *Process) CopyStdout(w io.Writer) error {
	defer p.stdout.Close()
	var err error
	if to, ok := w.(io.ReaderFrom); ok {
		_, err = to.ReadFrom(p.stdout)
	} else {
		_, err = io.Copy(w, p.stdout)
	}
	if p.isLate(err) {
		return rest(p.stdout, w)
	}
	return err
}

var stderrBuffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// CopyStderr takes all of the program's STDERR to w until its end, or until
// lingering is over, and closes it. Watch comes first.
func (p *Process) CopyStderr(w io.Writer) {
	defer p.stderr.Close()
	rc, err := p.stderr.SyscallConn()
	for err == nil {
		err = copyOnce(rc, w)
	}
	if p.isLate(err) {
		rest(p.stderr, w)
	}
}

func copyOnce(rc syscall.RawConn, w io.Writer) error {
	var buf *[4 << 10]byte
	get := func() []byte { buf = stderrBuffers.Get().(*[4 << 10]byte); return buf[:] }
	put := func() { stderrBuffers.Put(buf) }
	n, err := nbio.Read(rc, get, put)
	defer put()
	if err != nil {
		return err
	}
	_, err = w.Write(buf[:n])
	return err
}

// rest writes to w what is in the pipe f now, and waits for no more: when the
// one who takes it is slow, that is much of what the program wrote before its exit.
func rest(f *os.File, w io.Writer) error {
	rc, err := f.SyscallConn()
	if err != nil {
		return err
	}
	left := 0
	rc.Control(func(fd uintptr) { left, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	buf := make([]byte, min(left, 32<<10))
	for left > 0 && err == nil {
		n := 0
		rc.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf[:min(left, len(buf))]) })
		switch {
		case err == unix.EINTR:
			err = nil
		case err == nil && n == 0:
			return nil
		case err == nil:
			left -= n
			_, err = w.Write(buf[:n])
		}
	}
	return err
}
