package listen

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// isBlocking reports whether who accepts at a descriptor waits.
func isBlocking(t *testing.T, fd int) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_NONBLOCK == 0
}

// socketOf is what a worker has of a Listener. It blocks.
func socketOf(t *testing.T, l *Listener) int {
	t.Helper()
	fd, err := l.Socket()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if !isBlocking(t, fd) {
		t.Errorf("%v does not block", l.Addr())
	}
	return fd
}

// acceptAt accepts what must be there as a worker does.
func acceptAt(t *testing.T, fd int) {
	t.Helper()
	if !isAcceptable(t, fd) {
		t.Fatal("no connection waits")
	}
	c, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(c)
}

// isAcceptable waits for a connection, but not for long.
func isAcceptable(t *testing.T, fd int) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 1000)
		if err != unix.EINTR {
			return err == nil && n == 1
		}
	}
}

func directAddresses(t *testing.T) []string {
	return []string{"unix:" + tempSocket(t), abstractAddress(t), "tcp:127.0.0.1:0"}
}

// Others accept the connections of a direct Listener, and nothing that they do to the socket
// changes what the next one gets.
func TestDirect(t *testing.T) {
	for _, address := range directAddresses(t) {
		l := mustOpen(t, Options{Address: address, Mode: 0o600, Direct: true})
		fd := socketOf(t, l)
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) || !l.IsDirect() {
			t.Errorf("%s: accept: %v", address, err)
		}
		dial(t, l)
		wantQueue(t, l, 1)
		acceptAt(t, fd)
		wantQueue(t, l, 0)
		unix.SetNonblock(fd, true)
		socketOf(t, l)
		if err := l.Apply(Options{Address: address, Mode: 0o640, Backlog: 3, Direct: true}); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if err := l.Reassert(); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if !isBlocking(t, fd) {
			t.Errorf("%s does not block any more", address)
		}
	}
}

// When it stops, nothing new comes, and what waits can be accepted.
func TestStopDirect(t *testing.T) {
	for _, address := range directAddresses(t) {
		l := mustOpen(t, Options{Address: address, Mode: 0o600, Direct: true})
		fd := socketOf(t, l)
		dial(t, l)
		if stopped, err := l.StopDirect(); !stopped || err != nil {
			t.Fatalf("%s: %t, %v", address, stopped, err)
		}
		d := net.Dialer{Timeout: 50 * time.Millisecond}
		if c, err := d.Dial(l.Addr().Network(), l.Addr().String()); err == nil {
			t.Errorf("%s lets another one in", address)
			c.Close()
		}
		acceptAt(t, fd)
		wantQueue(t, l, 0)
	}
}

// It is the next process' business when that has it, or will have it.
func TestStopDirectOfOthers(t *testing.T) {
	for what, leave := range map[string]func(*Listener){"left": (*Listener).Leave, "disowned": (*Listener).Disown} {
		l := mustOpen(t, Options{Address: "unix:" + tempSocket(t), Mode: 0o600, Direct: true})
		fd := socketOf(t, l)
		leave(l)
		if stopped, err := l.StopDirect(); stopped || err != nil {
			t.Errorf("%s: %t, %v", what, stopped, err)
		}
		dial(t, l)
		acceptAt(t, fd)
	}
}

// A socket that is handed over stays what it is, whatever a worker has made of it: two
// processes would disagree on whether it blocks.
func TestDirectIsHandedOver(t *testing.T) {
	inheriting(t, func() {
		dir := t.TempDir()
		var handed []Handed
		var fds []int
		old := make(map[string]*Listener)
		for name, direct := range map[string]bool{"stays": true, "to-managed": true, "to-direct": false} {
			l := mustOpen(t, Options{Address: "unix:" + dir + "/" + name, Mode: 0o600, Direct: direct})
			h, fd, err := l.Hand()
			if err != nil {
				t.Fatal(err)
			}
			old[name], handed, fds = l, append(handed, h), append(fds, fd)
		}
		unix.SetNonblock(socketOf(t, old["stays"]), true)
		if err := Inherit(handed, fds); err != nil {
			t.Fatal(err)
		}
		Begin()
		now := mustOpen(t, Options{Address: "unix:" + dir + "/stays", Mode: 0o600, Direct: true})
		fd := socketOf(t, now)
		old["stays"].Disown()
		old["stays"].Close()
		dial(t, now)
		acceptAt(t, fd)
		for name, l := range old {
			if l == old["stays"] {
				continue
			}
			_, err := Open(context.Background(), Options{Address: "unix:" + dir + "/" + name, Mode: 0o600, Direct: !l.IsDirect()})
			if !errors.Is(err, ErrOtherMode) {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := os.Lstat(dir + "/" + name); err != nil {
				t.Errorf("its file: %v", err)
			}
		}
		socketOf(t, old["to-managed"])
	})
}

// What comes out of systemd's store is nobody else's any more: it can be either.
func TestDirectIsStored(t *testing.T) {
	inheriting(t, func() {
		k, dir := newKeeper(t), t.TempDir()
		store := &Store{Send: k.send, Most: 2}
		was := map[string]bool{"a": true, "b": false} // each is to be the other
		for name, direct := range was {
			l := mustOpen(t, Options{Address: "unix:" + dir + "/" + name, Mode: 0o600, Direct: direct})
			if err := store.Keep([]*Listener{l}); err != nil {
				t.Fatal(err)
			}
			store.Names = nil // the keeper keeps both
			k.take(1)
			l.Leave()
			l.Close()
			mustDial(t, "unix", dir+"/"+name)
		}
		recoverStored(k.stored())
		for name, direct := range was {
			l := mustOpen(t, Options{Address: "unix:" + dir + "/" + name, Mode: 0o600, Direct: !direct})
			if l.IsDirect() == direct {
				t.Errorf("%s is direct: %t", name, direct)
			} else if direct {
				accepts(t, l)
			} else {
				acceptAt(t, socketOf(t, l))
			}
		}
	})
}
