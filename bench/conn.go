package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// A conn is a place for one connection at a time of a loop.
type conn struct {
	*loop
	index   int
	fd      int // -1 is none
	streams []stream
	answers answers
	http    httpAnswer
	done    bool // the request of the one stream is answered

	buf      []byte // heads and tails that are to be sent; buf[bufSent:] is left
	bufSent  int
	body     int64 // bytes of the body that are still to be sent
	tail     bool  // the tail is to be sent after the body
	awaitOut bool  // epoll tells when more can be sent
}

// A stream is one request id of a connection.
type stream struct {
	busy bool
	got  int64 // bytes of the answer
	due  int64 // when it was to be sent, or was sent
}

var errClosed = errors.New("the server closed the connection before the end of its answer")

// renew sends a request on every stream: on the connection if there is one that
// is kept, else on a new one.
func (c *conn) renew() error {
	if c.fd >= 0 && !c.keep {
		c.drop()
	}
	if c.fd < 0 {
		if err := c.open(); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	for i := range c.streams {
		if !c.streams[i].busy {
			c.begin(i)
		}
	}
	return c.flush()
}

// open connects. A Unix socket's backlog that is full is an error.
func (c *conn) open() (err error) {
	if c.network == "unix" {
		c.fd, err = syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
		if err == nil {
			err = syscall.Connect(c.fd, &c.unix)
		}
	} else {
		c.fd, err = dialTCP(c.address)
	}
	if err == nil {
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.index)}
		err = syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_ADD, c.fd, &event)
	}
	return err
}

func dialTCP(address string) (int, error) {
	a, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		return -1, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	to := &syscall.SockaddrInet4{Port: a.Port}
	copy(to.Addr[:], a.IP.To4())
	if err := syscall.Connect(fd, to); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	return fd, syscall.SetNonblock(fd, true)
}

// begin queues the request of a stream.
func (c *conn) begin(i int) {
	c.streams[i].busy, c.streams[i].got = true, 0
	if c.rate == 0 {
		c.streams[i].due = c.now
	}
	c.active++
	c.buf = append(c.buf, c.request.heads[i]...)
	c.body = c.request.bodyBytes()
	c.tail = c.request.tail != nil
}

// flush sends as much as the socket takes.
func (c *conn) flush() error {
	for {
		p := c.unsent()
		if len(p) == 0 {
			return c.wantOut(false)
		}
		n, err := syscall.Write(c.fd, p)
		if err == syscall.EAGAIN {
			return c.wantOut(true)
		}
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		c.sent(n)
		if c.bufSent < len(c.buf) {
			c.bufSent += n
		} else {
			c.body -= int64(n)
		}
	}
}

// unsent is what is to be sent next.
func (c *conn) unsent() []byte {
	if c.bufSent < len(c.buf) {
		return c.buf[c.bufSent:]
	}
	c.buf, c.bufSent = c.buf[:0], 0
	if c.body > 0 {
		block := c.request.block
		return block[(c.request.bodyBytes()-c.body)%int64(len(block)):]
	}
	if c.tail {
		c.tail = false
		c.buf = append(c.buf, c.request.tail...)
	}
	return c.buf
}

func (c *conn) wantOut(want bool) error {
	if want == c.awaitOut {
		return nil
	}
	c.awaitOut = want
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(c.index)}
	if want {
		event.Events |= syscall.EPOLLOUT
	}
	return syscall.EpollCtl(c.epoll, syscall.EPOLL_CTL_MOD, c.fd, &event)
}

// handle does what epoll says is possible.
func (c *conn) handle(events uint32) error {
	if events&syscall.EPOLLOUT != 0 {
		if err := c.flush(); err != nil {
			return err
		}
	}
	if events&^syscall.EPOLLOUT == 0 {
		return nil
	}
	n, err := syscall.Read(c.fd, c.buffer)
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case err != nil:
		return fmt.Errorf("receive: %w", err)
	case n == 0:
		return errClosed
	}
	c.received(n)
	if c.request.http {
		err = c.feedHTTP(c.buffer[:n])
	} else {
		err = c.answers.feed(c.buffer[:n], c)
	}
	if err != nil {
		return err
	}
	return c.goOn()
}

// goOn sends what answers have made possible.
func (c *conn) goOn() error {
	if c.done {
		c.done = false
		switch {
		case c.rate > 0:
			c.drop()
			c.release(c)
			return nil
		case c.now < c.until:
			return c.renew()
		case !c.keep:
			c.drop()
			return nil
		}
	}
	if len(c.buf) > 0 {
		return c.flush()
	}
	return nil
}

// stdout counts a piece of an answer.
func (c *conn) stdout(id int, p []byte) error {
	if id < 1 || id > len(c.streams) || !c.streams[id-1].busy {
		return fmt.Errorf("STDOUT for request %d, which is not running", id)
	}
	c.streams[id-1].got += int64(len(p))
	return nil
}

// feedHTTP counts a piece of an answer over HTTP.
func (c *conn) feedHTTP(p []byte) error {
	done, err := c.http.feed(p)
	if err != nil || !done {
		return err
	}
	c.streams[0].got = c.http.body
	return c.ended(1)
}

// ended counts an answer, and queues the next request of a stream that is one
// of several.
func (c *conn) ended(id int) error {
	if id < 1 || id > len(c.streams) || !c.streams[id-1].busy {
		return fmt.Errorf("END_REQUEST for request %d, which is not running", id)
	}
	s := &c.streams[id-1]
	if s.got != c.answer {
		return fmt.Errorf("answer has %d bytes, not %d", s.got, c.answer)
	}
	s.busy = false
	c.answered(s.due)
	if len(c.streams) == 1 {
		c.done = true
	} else if c.now < c.until {
		c.begin(id - 1)
	}
	return nil
}

// drop closes the connection and forgets what was sent on it.
func (c *conn) drop() {
	if c.fd >= 0 {
		syscall.Close(c.fd)
	}
	for i := range c.streams {
		if c.streams[i].busy {
			c.streams[i].busy = false
			c.active--
		}
	}
	c.fd, c.answers, c.done, c.awaitOut = -1, answers{}, false, false
	c.http.state, c.http.headLen = inHead, 0
	c.buf, c.bufSent, c.body, c.tail = c.buf[:0], 0, 0, false
}
