package nbio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/polltest"
)

// accepted is a Conn, its descriptor, and its peer.
func accepted(t *testing.T) (c *nbio.Conn, fd int, peer net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "peer")
	defer f.Close()
	if peer, err = net.FileConn(f); err != nil {
		t.Fatal(err)
	}
	c = nbio.NewConn(fds[0], &net.UnixAddr{Name: "/here", Net: "unix"}, &net.UnixAddr{Net: "unix"})
	t.Cleanup(func() {
		c.Close()
		peer.Close()
	})
	return c, fds[0], peer
}

// whenPolled calls f when the poller knows a descriptor.
func whenPolled(t *testing.T, fd int, f func()) {
	go func() {
		polltest.Until(t, "somebody to wait", func() bool { return isPolled(t, fd) })
		f()
	}()
}

// isPolled reports whether a poller of this process knows a descriptor.
func isPolled(t *testing.T, fd int) bool {
	t.Helper()
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		text, _ := os.ReadFile(info)
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "tfd:" && f[1] == fmt.Sprint(fd) {
				return true
			}
		}
	}
	return false
}

func put(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, r io.Reader, text string) {
	t.Helper()
	p := make([]byte, len(text))
	if _, err := io.ReadFull(r, p); err != nil || string(p) != text {
		t.Fatalf("read %q, %v, want %q", p, err, text)
	}
}

// A client that nobody has to wait for is none for the poller.
func TestConnOutsideOfThePoller(t *testing.T) {
	c, fd, peer := accepted(t)
	c.SetDeadline(time.Now().Add(time.Hour))
	put(t, peer, "ping")
	want(t, c, "ping")
	put(t, c, "pong")
	want(t, peer, "pong")
	if isPolled(t, fd) {
		t.Error("the poller knows a connection that was not waited for")
	}
	whenPolled(t, fd, func() { peer.Write([]byte("later")) })
	want(t, c, "later")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if isPolled(t, fd) {
		t.Error("the poller knows a connection that is closed")
	}
	if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the peer reads %v, want the end", err)
	}
}

// waits are ways to wait for a peer that does nothing.
var waits = map[string]func(*nbio.Conn) error{
	"read": func(c *nbio.Conn) error { _, err := c.Read(make([]byte, 1)); return err },
	"write": func(c *nbio.Conn) error {
		_, err := c.Write(make([]byte, 4<<20))
		return err
	},
}

// A deadline ends a wait, whether it was set before the poller had the connection or
// during the wait, and the connection can be used afterwards.
func TestConnDeadline(t *testing.T) {
	for name, wait := range waits {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, after the wait has begun: %v", name, after), func(t *testing.T) {
				c, fd, peer := accepted(t)
				if after {
					whenPolled(t, fd, func() { c.SetDeadline(time.Unix(1, 0)) })
				} else {
					c.SetDeadline(time.Now().Add(10 * time.Millisecond))
				}
				if err := wait(c); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("the wait has ended with %v", err)
				}
				c.SetDeadline(time.Time{})
				put(t, peer, "on")
				want(t, c, "on")
			})
		}
	}
}

// What is there is not taken after the deadline, as with package net.
func TestConnPassedDeadline(t *testing.T) {
	c, fd, peer := accepted(t)
	put(t, peer, "x")
	c.SetReadDeadline(time.Unix(1, 0))
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v", n, err)
	}
	put(t, c, "y") // it has a deadline of its own
	c.SetReadDeadline(time.Time{})
	want(t, c, "x")
	if isPolled(t, fd) {
		t.Error("the poller knows a connection that was not waited for")
	}
}

// Close ends a wait.
func TestCloseConnInAWait(t *testing.T) {
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			c, fd, _ := accepted(t)
			whenPolled(t, fd, func() { c.Close() })
			if err := wait(c); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the wait has ended with %v", err)
			}
		})
	}
}

// Close during a use leaves the descriptor to that: another connection may have its number.
func TestCloseConnInUse(t *testing.T) {
	c, _, peer := accepted(t)
	raw, _ := c.SyscallConn()
	raw.Control(func(fd uintptr) {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := unix.Write(int(fd), []byte("still")); err != nil {
			t.Error(err)
		}
	})
	if got, err := io.ReadAll(peer); string(got) != "still" || err != nil {
		t.Errorf("the peer has read %q, %v", got, err)
	}
}

func TestClosedConn(t *testing.T) {
	for _, polled := range []bool{false, true} {
		c, _, _ := accepted(t)
		if polled {
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			c.Read(make([]byte, 1))
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		raw, _ := c.SyscallConn()
		for name, err := range map[string]error{
			"Close": c.Close(), "CloseWrite": c.CloseWrite(), "SetDeadline": c.SetDeadline(time.Time{}), "SetWriteDeadline": c.SetWriteDeadline(time.Time{}),
			"Control": raw.Control(func(uintptr) { t.Error("a closed descriptor was used") }),
			"read":    waits["read"](c), "write": waits["write"](c),
		} {
			if !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s after Close, in the poller %v: %v", name, polled, err)
			}
		}
	}
}

func TestConnCloseWrite(t *testing.T) {
	c, _, peer := accepted(t)
	put(t, c, "last")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(peer); string(got) != "last" || err != nil {
		t.Errorf("the peer has read %q, %v", got, err)
	}
	put(t, peer, "still heard")
	want(t, c, "still heard")
}

// Readers, writers, deadlines and Close at once use no descriptor that is another's by then.
func TestConnAtOnce(t *testing.T) {
	for i := range 200 {
		c, _, peer := accepted(t)
		sent := bytes.Repeat([]byte("x"), 300<<10)
		var all sync.WaitGroup
		all.Go(func() { io.Copy(io.Discard, peer) })
		all.Go(func() { peer.Write(sent) })
		for range 2 {
			all.Go(func() { io.Copy(io.Discard, struct{ io.Reader }{c}) })
			all.Go(func() { c.Write(sent) })
			all.Go(func() { c.SetDeadline(time.Now().Add(time.Hour)) })
		}
		all.Go(func() {
			if i%2 == 0 {
				c.SetDeadline(time.Unix(1, 0))
			}
			c.Close()
			peer.Close()
		})
		all.Wait()
	}
}
