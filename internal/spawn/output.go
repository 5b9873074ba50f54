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
	file  *os.File
	ended *endedPipe // in place of file

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
		n, err = to.ReadFrom(o.pipe())
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
	o.setDeadlineLocked()
}

// Expire ends the waiting after d, for good.
func (o *Output) Expire(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.end = sooner(time.Now().Add(d), o.end)
	o.setDeadlineLocked()
}

// setDeadlineLocked ends the waiting when that is over: for what has ended nobody waits.
func (o *Output) setDeadlineLocked() {
	if o.file != nil {
		o.file.SetReadDeadline(sooner(o.wait, o.end))
	}
}

// pipe is what is read.
func (o *Output) pipe() interface {
	io.Reader
	syscall.Conn
} {
	if o.ended != nil {
		return o.ended
	}
	return o.file
}

// Close closes it: who goes on writing is told.
func (o *Output) Close() error {
	if o.ended != nil {
		return o.ended.close()
	}
	return o.file.Close()
}

// inode is the number of its pipe; 0 when it is closed, and of none.
func (o *Output) inode() (n uint64) {
	if o.file == nil {
		return 0 // there is none, or nobody has it
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
	rc, err := o.pipe().SyscallConn()
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
	rc, err := o.pipe().SyscallConn()
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
func hasEnded(rc syscall.RawConn) (is bool) {
	rc.Control(func(fd uintptr) { is = pollNow(int(fd)) == unix.POLLHUP })
	return is
}

// hasHungUp reports whether nobody has a pipe open for writing.
func hasHungUp(fd int) bool { return pollNow(fd)&unix.POLLHUP != 0 }

func pollNow(fd int) int16 {
	fds := [...]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	unix.Poll(fds[:], 0)
	return fds[0].Revents
}

// An endedPipe is one that nobody can write to any more: to read it takes no time, and it need
// not be known to the runtime's poller. It is for one goroutine at a time.
type endedPipe struct{ fd int }

// Read reads what there is, to the end.
func (p *endedPipe) Read(b []byte) (n int, err error) {
	if p.fd < 0 {
		return 0, os.ErrClosed
	}
	n, err = nbio.ReadPipe(uintptr(p.fd), b)
	if n == 0 && err == nil && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

// SyscallConn is the pipe itself.
func (p *endedPipe) SyscallConn() (syscall.RawConn, error) { return endedConn{p}, nil }

func (p *endedPipe) close() error {
	if p.fd < 0 {
		return os.ErrClosed
	}
	err := unix.Close(p.fd)
	p.fd = -1
	return err
}

// An endedConn is one whose calls never wait.
type endedConn struct{ *endedPipe }

// Control calls f with the descriptor.
func (c endedConn) Control(f func(fd uintptr)) error {
	if c.fd < 0 {
		return os.ErrClosed
	}
	f(uintptr(c.fd))
	return nil
}

// Read calls f until it says that it is done.
func (c endedConn) Read(f func(fd uintptr) (done bool)) error {
	done := false
	for err := error(nil); !done; {
		if err = c.Control(func(fd uintptr) { done = f(fd) }); err != nil {
			return err
		}
	}
	return nil
}

// Write is of no use here.
func (c endedConn) Write(func(fd uintptr) (done bool)) error { return os.ErrInvalid }
