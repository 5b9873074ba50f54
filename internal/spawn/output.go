package spawn

import (
	"cmp"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
)

// The ways in which Copy ends before the output does.
var (
	ErrQuiet   = errors.New("output is still open, and nothing comes")
	ErrExpired = errors.New("output is still open, and waited for no longer")
)

// An Output is our end of a program's STDOUT or STDERR.
type Output struct {
	file *os.File

	mu   sync.Mutex // guards the fields below
	wait time.Time  // when waiting is over; the zero time is never
	end  time.Time  // when it is, whatever WaitFor says
}

// Copy passes on what comes, to w's ReadFrom if it has one, until all of those
// that write have closed it: then the error is nil. It is ErrQuiet when the time of
// WaitFor is over, and ErrExpired when that of Expire is. Either way all that was there
// by then has been passed on, even if Copy was called after that time. Any other error
// is w's.
func (o *Output) Copy(w io.Writer) (n int64, err error) {
	if to, ok := w.(io.ReaderFrom); ok {
		n, err = to.ReadFrom(o.file)
	} else {
		n, err = o.copy(w)
	}
	late := o.late(err)
	if late == nil {
		return n, err
	}
	m, err := o.rest(w)
	if err == io.EOF {
		return n + m, nil
	}
	return n + m, cmp.Or(err, late)
}

// WaitFor has Copy return after d at the latest, unless Expire has said so already.
func (o *Output) WaitFor(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wait = time.Now().Add(d)
	o.file.SetReadDeadline(sooner(o.wait, o.end))
}

// Expire ends the waiting after d, for good.
func (o *Output) Expire(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end = sooner(time.Now().Add(d), o.end)
	o.file.SetReadDeadline(sooner(o.wait, o.end))
}

// Close closes it: who goes on writing is told.
func (o *Output) Close() error { return o.file.Close() }

// inode is the number of its pipe; 0 when it is closed, and of none.
func (o *Output) inode() (n uint64) {
	if o.file == nil {
		return 0
	}
	if rc, err := o.file.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) { n = inodeOf(fd) })
	}
	return n
}

// sooner is the earlier of two times; the zero time is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// late is ErrQuiet or ErrExpired where err, of moving output, tells that the time to
// wait is over, and nil else: the other side may have deadlines of its own.
func (o *Output) late(err error) error {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	passed := func(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }
	switch {
	case passed(o.end):
		return ErrExpired
	case passed(o.wait):
		return ErrQuiet
	}
	return nil
}

// Of a pipe of packets what a buffer does not hold is lost: it holds PIPE_BUF.
var outputBuffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// copy holds no memory while there is nothing to read.
func (o *Output) copy(w io.Writer) (total int64, err error) {
	rc, err := o.file.SyscallConn()
	for err == nil {
		var n int
		n, err = copyOnce(rc, w)
		total += int64(n)
	}
	if err == io.EOF {
		err = nil
	}
	return total, err
}

func copyOnce(rc syscall.RawConn, w io.Writer) (n int, err error) {
	var buf *[4 << 10]byte
	get := func() []byte { buf = outputBuffers.Get().(*[4 << 10]byte); return buf[:] }
	put := func() { outputBuffers.Put(buf) }
	n, err = nbio.Read(rc, get, put)
	defer put()
	if err != nil {
		return 0, err
	}
	return w.Write(buf[:n])
}

// rest passes on what is there now, and waits for no more: when the one who takes
// it is slow, that is much of what the program wrote before its exit. The error is
// io.EOF when the output has ended.
func (o *Output) rest(w io.Writer) (total int64, err error) {
	rc, err := o.file.SyscallConn()
	if err != nil {
		return 0, err
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
			return total, io.EOF
		case err == nil:
			left -= n
			total += int64(n)
			_, err = w.Write(buf[:n])
		}
	}
	if err == nil && hasEnded(rc) {
		err = io.EOF
	}
	return total, err
}

// hasEnded reports whether a pipe is empty, and nobody has it open for writing.
func hasEnded(rc syscall.RawConn) bool {
	fds := [...]unix.PollFd{{Events: unix.POLLIN}}
	rc.Control(func(fd uintptr) {
		fds[0].Fd = int32(fd)
		unix.Poll(fds[:], 0)
	})
	return fds[0].Revents == unix.POLLHUP
}
