package listen

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inheriting runs f in a process of its own: what is inherited is the process's.
func inheriting(t *testing.T, f func()) {
	t.Helper()
	const inside = "FCGID_TEST_INHERITING"
	if os.Getenv(inside) == t.Name() {
		f()
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// hand opens addresses and inherits copies of them.
func hand(t *testing.T, addresses ...string) (opened []*Listener) {
	t.Helper()
	var handed []Handed
	var fds []int
	for _, address := range addresses {
		l, err := Open(context.Background(), Options{Address: address, Mode: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		h, fd, err := l.Hand()
		if err != nil {
			t.Fatal(err)
		}
		opened, handed, fds = append(opened, l), append(handed, h), append(fds, fd)
	}
	if err := Inherit(handed, fds); err != nil {
		t.Fatal(err)
	}
	return opened
}

// What was handed is what Open returns, whatever name it has there; it accepts from Begin
// on, what waited too, and its file is not touched before.
func TestInherit(t *testing.T) {
	inheriting(t, func() {
		dir := t.TempDir()
		port := freePort(t)
		abstract := fmt.Sprintf("unix:@fcgid-test-%d", os.Getpid())
		addresses := []string{"unix:" + dir + "/s", abstract, "tcp:127.0.0.1:" + port, "unix:" + dir + "/other", "unix:" + dir + "/lost"}
		old := hand(t, addresses...)
		if err := os.Symlink(dir, dir+"/link"); err != nil {
			t.Fatal(err)
		}
		os.Remove(dir + "/lost")
		waiting, err := net.Dial("unix", dir+"/s")
		if err != nil {
			t.Fatal(err)
		}
		defer waiting.Close()

		var now []*Listener
		for _, address := range []string{"unix:" + dir + "/link/s", abstract, "tcp:localhost:" + port, "unix:" + dir + "/lost"} {
			l, err := Open(context.Background(), Options{Address: address, Mode: 0o640, Backlog: 5})
			if err != nil {
				t.Fatal(err)
			}
			now = append(now, l)
		}
		if taken := fmt.Sprint(Taken()); taken != "[0 1 2]" {
			t.Errorf("taken: %v", taken)
		}
		accepted := make(chan error, 1)
		go func() {
			c, err := now[0].Accept()
			if err == nil {
				c.Close()
			}
			accepted <- err
		}()
		select {
		case err := <-accepted:
			t.Fatalf("it accepts before its time: %v", err)
		case <-time.After(20 * time.Millisecond): // it would be there at once
		}
		Begin()
		if err := <-accepted; err != nil {
			t.Error(err)
		}
		for _, l := range old[:3] {
			l.Disown()
			l.Drain()
		}
		if c, err := net.Dial("unix", dir+"/s"); err != nil {
			t.Errorf("after the end of the old one: %v", err)
		} else {
			c.Close()
		}
		if err := DropRest(); err != nil {
			t.Error(err)
		}
		old[3].Close()
		if _, err := os.Lstat(dir + "/other"); err == nil {
			t.Error("the file of a socket that nobody took is left")
		}
		now[0].Close()
		if _, err := os.Lstat(dir + "/s"); err == nil {
			t.Error("the file of a socket that was taken is left")
		}
	})
}

// A process that gives up before its turn leaves everything to the one that it was to
// replace.
func TestInheritAndGiveUp(t *testing.T) {
	inheriting(t, func() {
		dir := t.TempDir()
		old := hand(t, "unix:"+dir+"/s")[0]
		l, err := Open(context.Background(), Options{Address: "unix:" + dir + "/s", Mode: 0o666})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := l.Accept()
			ended <- err
		}()
		if err := l.Drain(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err == nil {
			t.Error("it has accepted")
		}
		l.Close()
		if err := old.Reassert(); err != nil {
			t.Error(err)
		}
		info, err := os.Stat(dir + "/s")
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
		connects(t, old, "unix", dir+"/s")
	})
}

// An address that a socket is in the way of which nobody takes can be listened on.
func TestInheritYielding(t *testing.T) {
	inheriting(t, func() {
		port := freePort(t)
		hand(t, "tcp:0.0.0.0:"+port)
		l, err := Open(context.Background(), Options{Address: "tcp:127.0.0.1:" + port})
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	})
}

// A descriptor of it leaves the socket as it is: it does not block.
func TestHandLeavesNonblocking(t *testing.T) {
	l, err := Open(t.Context(), Options{Address: "unix:" + filepath.Join(t.TempDir(), "s"), Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, fd, err := l.Hand()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := strings.Cut(l.Addr().String(), ":")
	return port
}
