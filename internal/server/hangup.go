package server

import (
	"io"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
)

// halfClosed reports whether a client that sends no more may still read. Of a
// Unix socket the kernel tells the two apart; a TCP peer that has sent its FIN
// counts as gone, since nothing else would tell us that it is.
func (c *conn) halfClosed() bool {
	rc := c.in.socket.rc
	return rc != nil && c.nc.LocalAddr().Network() == "unix" && c.in.until.Load() == 0 && !hungUp(rc)
}

// awaitHangup answers what has been asked and returns when the client is gone,
// or the connection is closed after the last answer.
func (c *conn) awaitHangup() error {
	for _, r := range slices.Clone(c.table.receiving) {
		c.table.drop(r, ErrClientGone)
	}
	c.table.close(phaseClosing)
	c.in.setDeadline(time.Time{})
	if err := c.in.socket.rc.Read(func(fd uintptr) bool { return hangup(fd) }); err != nil {
		return nbio.Cause(err)
	}
	return io.EOF
}

func hungUp(rc syscall.RawConn) bool {
	gone := true
	if err := rc.Control(func(fd uintptr) { gone = hangup(fd) }); err != nil {
		return true
	}
	return gone
}

func hangup(fd uintptr) bool {
	p := []unix.PollFd{{Fd: int32(fd)}}
	n, err := unix.Poll(p, 0)
	return n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0 || err != nil && err != unix.EINTR
}
