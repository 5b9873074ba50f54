package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// connects fails unless l accepts a connection to addr.
func connects(t *testing.T, l *Listener, network, addr string) {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepts(t, l)
}

// accepts fails unless l takes a connection that waits.
func accepts(t *testing.T, l *Listener) {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// A socket whose name leads nowhere, or to another one, is lost.
func TestIsLost(t *testing.T) {
	checkNoFDLeak(t)
	path := tempSocket(t)
	l := mustOpen(t, Options{Address: "unix:" + path, Mode: 0o600})
	if l.IsLost() {
		t.Error("a fresh socket is lost")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if !l.IsLost() {
		t.Error("without its file it is not lost")
	}
	next := mustOpen(t, Options{Address: "unix:" + path, Mode: 0o600})
	if !l.IsLost() || next.IsLost() {
		t.Error("the socket that has the name is not told from the one that had it")
	}
	l.Close()
	if next.IsLost() {
		t.Error("the old socket has taken the new one's file with it")
	}
	connects(t, next, "unix", path)
	for _, address := range []string{"tcp:127.0.0.1:0", "unix:@fcgid-test-" + filepath.Base(filepath.Dir(path))} {
		if mustOpen(t, Options{Address: address}).IsLost() {
			t.Errorf("%s is lost", address)
		}
	}
}

// A blind Binder cannot look at files.
type blind struct{ Binder }

func (blind) Find(path string) (*File, error) {
	return nil, &os.PathError{Op: "lstat", Path: path, Err: unix.EIO}
}

// A socket whose file cannot be looked at is not lost for that.
func TestIsLostUnseen(t *testing.T) {
	l := mustOpen(t, Options{Address: "unix:" + tempSocket(t), Mode: 0o600})
	l.by = blind{l.by}
	if l.IsLost() {
		t.Error("a socket is lost whose file could not be looked at")
	}
}

// A socket is known by each of its names, and is in the way of what overlaps it.
func TestNamesOfASocket(t *testing.T) {
	checkNoFDLeak(t)
	dir := tempDir(t)
	if err := os.Symlink(dir, dir+"-link"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir + "-link") })
	file := mustOpen(t, Options{Address: "unix:" + dir + "/s", Mode: 0o600})
	tcp := mustOpen(t, Options{Address: "tcp:127.0.0.1:0"})
	port := tcp.tcpAddr().Port
	for _, test := range []struct {
		l                *Listener
		address          string
		isAt, isInTheWay bool
	}{
		{file, "unix:" + dir + "/s", true, true},
		{file, "unix:" + dir + "-link/s", true, true},
		{file, "unix:" + dir + "/other", false, false},
		{file, "unix:@s", false, false},
		{file, "nonsense", false, false},
		{tcp, fmt.Sprintf("tcp:127.0.0.1:%d", port), true, true},
		{tcp, fmt.Sprintf("tcp:0.0.0.0:%d", port), false, true},
		{tcp, fmt.Sprintf("tcp:[::]:%d", port), false, true},
		{tcp, fmt.Sprintf("tcp::%d", port), false, true},
		{tcp, fmt.Sprintf("tcp:127.0.0.2:%d", port), false, false},
		{tcp, "tcp:127.0.0.1:1", false, false},
		{tcp, "unix:" + dir + "/s", false, false},
	} {
		if isAt, isInTheWay := test.l.IsAt(test.address), test.l.IsInTheWay(test.address); isAt != test.isAt || isInTheWay != test.isInTheWay {
			t.Errorf("%s: IsAt %v, IsInTheWay %v", test.address, isAt, isInTheWay)
		}
	}
}

// An address may become wider or narrower: the new socket listens before the old one
// has gone, and nobody else can share either of them.
func TestTCPAddressChangesItsWidth(t *testing.T) {
	for _, test := range [][2]string{
		{"127.0.0.1", "0.0.0.0"}, {"0.0.0.0", "127.0.0.1"}, {"127.0.0.1", ""}, {"", "127.0.0.1"}, {"0.0.0.0", "[::]"}, {"[::]", "0.0.0.0"}, {"[::1]", "[::]"},
	} {
		t.Run(strings.Join(test[:], " to "), func(t *testing.T) {
			checkNoFDLeak(t)
			old, err := Open(t.Context(), Options{Address: "tcp:" + test[0] + ":0"})
			if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
				t.Skip("this machine has no IPv6")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer old.Close()
			port := old.tcpAddr().Port
			next := fmt.Sprintf("tcp:%s:%d", test[1], port)
			if _, err := Open(t.Context(), Options{Address: next}); !errors.Is(err, ErrInUse) {
				t.Fatalf("while the old one is there to stay: %v, want %v", err, ErrInUse)
			}
			unrelated := mustOpen(t, Options{Address: "unix:@fcgid-test-width-" + fmt.Sprint(port)})
			l := mustOpen(t, Options{Address: next}, unrelated, old)
			for _, s := range []*Listener{old, l} {
				if on := reusesPort(t, s); on {
					t.Errorf("%v may be shared", s.Addr())
				}
			}
			old.Close()
			network, host := "tcp4", "127.0.0.1"
			if strings.HasPrefix(test[0], "[::1") {
				network, host = "tcp6", "[::1]"
			}
			connects(t, l, network, fmt.Sprintf("%s:%d", host, port))
		})
	}
}

func reusesPort(t *testing.T, l *Listener) bool {
	t.Helper()
	value := 0
	err := withFD(l.ln, func(fd int) (err error) {
		value, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return value != 0
}

// A second Listener goes by another name of its socket.
func TestDupByAnotherName(t *testing.T) {
	checkNoFDLeak(t)
	dir := tempDir(t)
	if err := os.Symlink(dir, dir+"-link"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir + "-link") })
	l := mustOpen(t, Options{Address: "unix:" + dir + "/s", Mode: 0o600})
	name := "unix:" + dir + "-link/s"
	dup, err := l.Dup(name)
	if err != nil {
		t.Fatal(err)
	}
	defer dup.Close()
	if got := dup.Options().Address; got != name || l.Options().Address == name {
		t.Errorf("their names are %s and %s", got, l.Options().Address)
	}
	if err := dup.Apply(Options{Address: name, Mode: 0o640}); err != nil {
		t.Error(err)
	}
	l.Disown()
	l.Close()
	connects(t, dup, "unix", dir+"/s")
}

// A Listener may come to go by another name of its socket, and by no other socket's.
func TestApplyAnotherName(t *testing.T) {
	dir := tempDir(t)
	if err := os.Symlink(dir, dir+"-link"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir + "-link") })
	l := mustOpen(t, Options{Address: "unix:" + dir + "/s", Mode: 0o600})
	mustOpen(t, Options{Address: "unix:" + dir + "/other", Mode: 0o600})
	if err := l.Apply(Options{Address: "unix:" + dir + "/other", Mode: 0o600}); err == nil {
		t.Error("it goes by the name of another socket")
	}
	name := "unix:" + dir + "-link/s"
	if err := l.Apply(Options{Address: name, Mode: 0o600}); err != nil {
		t.Error(err)
	}
	if got := l.Options().Address; got != name {
		t.Errorf("its name is %s", got)
	}
}

// A connection by a name is one of whoever has that name now.
func TestServes(t *testing.T) {
	dir := tempDir(t)
	path := mustOpen(t, Options{Address: "unix:" + dir + "/s", Mode: 0o600})
	if err := os.Remove(dir + "/s"); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, Options{Address: "unix:" + dir + "/s", Mode: 0o600})
	other := mustOpen(t, Options{Address: "unix:" + dir + "/other", Mode: 0o600})
	narrow := mustOpen(t, Options{Address: "tcp:127.0.0.1:0"})
	port := narrow.tcpAddr().Port
	wide := mustOpen(t, Options{Address: fmt.Sprintf("tcp:0.0.0.0:%d", port)}, narrow)
	elsewhere := mustOpen(t, Options{Address: "tcp:0.0.0.0:0"})
	all := map[string]*Listener{"path": path, "again": again, "other": other, "narrow": narrow, "wide": wide, "elsewhere": elsewhere}
	var after []string
	for a, l := range all {
		for b, before := range all {
			if a != b && l.IsAfter(before) {
				after = append(after, a+" "+b)
			}
		}
	}
	slices.Sort(after)
	if want := []string{"again path", "narrow wide", "path again", "wide narrow"}; !slices.Equal(after, want) {
		t.Errorf("one is after the other: %q, want %q", after, want)
	}
	at := func(ip string, port int) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: port} }
	for _, c := range []struct {
		l     *Listener
		local net.Addr
		want  bool
	}{
		{again, path.Addr(), true}, {again, &net.UnixAddr{}, true}, {again, at("127.0.0.1", port), false},
		{narrow, at("127.0.0.1", port), true}, {narrow, at("127.0.0.2", port), false}, {narrow, at("127.0.0.1", port+1), false},
		{narrow, path.Addr(), false}, {wide, at("127.0.0.2", port), true}, {wide, at("::1", port), false},
	} {
		if got := c.l.Serves(c.local); got != c.want {
			t.Errorf("%v, %v: %v", c.l.Addr(), c.local, got)
		}
	}
}
