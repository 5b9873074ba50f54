package nbio

import (
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Conn is a connection that a Unix socket has accepted. The runtime's poller gets to know
// it when somebody has to wait for it, and not before: a client that has sent its request
// by then, and goes when it is answered, is nobody to wait for. To take a socket into the
// poller and out of it costs as much as to read and write, and between that each read of the
// peer's wakes a thread, to tell that there is room.
//
// It is as a *net.UnixConn otherwise. That goes for its SyscallConn too.
type Conn struct {
	fd            int // immutable
	local, remote net.Addr

	mu       sync.Mutex // guards the fields below; nobody waits with it held
	users    int        // of fd, without the poller
	isClosed bool
	file     *os.File        // of fd, in the poller; nil as long as nobody had to wait
	raw      syscall.RawConn // of file
	until    [2]time.Time    // the deadlines of reads and writes, while there is no file
}

var _ interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
} = (*Conn)(nil)

// NewConn takes over the descriptor of a connection, which does not block.
func NewConn(fd int, local, remote net.Addr) *Conn {
	return &Conn{fd: fd, local: local, remote: remote}
}

// LocalAddr is that of the socket which has accepted it.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the peer's.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SyscallConn does not fail.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return (*rawConn)(c), nil }

// Read waits until there is something, and reads it.
func (c *Conn) Read(p []byte) (int, error) { return NewReader((*rawConn)(c)).Read(p) }

// Write writes all of p.
func (c *Conn) Write(p []byte) (int, error) { return new(Writer).WriteAll((*rawConn)(c), p) }

// CloseWrite tells the peer that nothing follows.
func (c *Conn) CloseWrite() error {
	var err error
	if closed := (*rawConn)(c).Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_WR) }); closed != nil {
		return closed
	}
	return os.NewSyscallError("shutdown", err)
}

// Close wakes who waits.
func (c *Conn) Close() error {
	c.mu.Lock()
	wasClosed, isFree := c.isClosed, c.users == 0
	c.isClosed = true
	c.mu.Unlock()
	if wasClosed {
		return net.ErrClosed
	}
	if isFree {
		return c.release()
	}
	return nil // the last of its users releases it
}

// release closes the descriptor. It is called once.
func (c *Conn) release() error {
	if c.file != nil {
		return c.file.Close()
	}
	// As with a write, the peer is woken by it and may run first.
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(c.fd), 0, 0); errno != 0 {
		return os.NewSyscallError("close", errno)
	}
	return nil
}

// The deadlines.
const (
	reads  = 0
	writes = 1
)

// SetDeadline sets both deadlines.
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.setDeadline(reads, t); err != nil {
		return err
	}
	return c.setDeadline(writes, t)
}

// SetReadDeadline sets that of reads.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(reads, t) }

// SetWriteDeadline sets that of writes.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(writes, t) }

func (c *Conn) setDeadline(of int, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.isClosed:
		return net.ErrClosed
	case c.file == nil:
		c.until[of] = t
		return nil
	case of == reads:
		return c.file.SetReadDeadline(t)
	}
	return c.file.SetWriteDeadline(t)
}

// enter lets the caller use the descriptor until it calls leave, or tells what to use in
// its place.
func (c *Conn) enter() (inPoller syscall.RawConn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.isClosed:
		return nil, net.ErrClosed
	case c.raw == nil:
		c.users++
	}
	return c.raw, nil
}

func (c *Conn) leave() {
	c.mu.Lock()
	c.users--
	isLast := c.isClosed && c.users == 0
	c.mu.Unlock()
	if isLast {
		c.release()
	}
}

// isOver reports whether a deadline has passed.
func (c *Conn) isOver(of int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.until[of].IsZero() && !time.Now().Before(c.until[of])
}

// toPoller takes the connection into the poller, unless that was done.
func (c *Conn) toPoller() (syscall.RawConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed {
		return nil, net.ErrClosed
	}
	if c.raw != nil {
		return c.raw, nil
	}
	file := os.NewFile(uintptr(c.fd), "connection")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	c.file, c.raw = file, raw
	if t := c.until[reads]; !t.IsZero() {
		file.SetReadDeadline(t)
	}
	if t := c.until[writes]; !t.IsZero() {
		file.SetWriteDeadline(t)
	}
	return raw, nil
}

// try calls f once without the poller, if the connection is not in it. It returns what f is
// to be waited with if that was not enough.
func (c *Conn) try(of int, f func(fd uintptr) (done bool)) (done bool, inPoller syscall.RawConn, err error) {
	if inPoller, err = c.enter(); inPoller != nil || err != nil {
		return false, inPoller, err
	}
	defer c.leave()
	if c.isOver(of) {
		return false, nil, os.ErrDeadlineExceeded
	}
	if f(uintptr(c.fd)) {
		return true, nil, nil
	}
	inPoller, err = c.toPoller()
	return false, inPoller, err
}

// why is the error of a use in the poller.
func (c *Conn) why(err error) error {
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosed { // a file has an error of its own for it
		return net.ErrClosed
	}
	return err
}

// A rawConn is the descriptor of a Conn.
type rawConn Conn

// Control is of syscall.RawConn.
func (r *rawConn) Control(f func(fd uintptr)) error {
	c := (*Conn)(r)
	inPoller, err := c.enter()
	switch {
	case err != nil:
		return err
	case inPoller != nil:
		return c.why(inPoller.Control(f))
	}
	defer c.leave()
	f(uintptr(c.fd))
	return nil
}

// Read is of syscall.RawConn.
func (r *rawConn) Read(f func(fd uintptr) (done bool)) error {
	c := (*Conn)(r)
	done, inPoller, err := c.try(reads, f)
	if done || err != nil {
		return err
	}
	return c.why(inPoller.Read(f))
}

// Write is of syscall.RawConn.
func (r *rawConn) Write(f func(fd uintptr) (done bool)) error {
	c := (*Conn)(r)
	done, inPoller, err := c.try(writes, f)
	if done || err != nil {
		return err
	}
	return c.why(inPoller.Write(f))
}
