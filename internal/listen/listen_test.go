package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
)

func TestMain(m *testing.M) {
	// What the runtime and the C library open once and keep is not a leak.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	_, _ = user.Lookup("nosuch")
	_, _ = user.LookupGroup("nosuch")
	goleak.VerifyTestMain(m)
}

// tempDir is a folder with a path short enough for a socket in it.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "l")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func tempSocket(t *testing.T) string { return filepath.Join(tempDir(t), "s") }

// checkNoFDLeak compares the open files of the process now and at the end of the test.
func checkNoFDLeak(t *testing.T) {
	t.Helper()
	before := openFiles(t)
	t.Cleanup(func() {
		if after := openFiles(t); after != before {
			t.Errorf("%d files open after the test, %d before", after, before)
		}
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func mustOpen(t *testing.T, o Options, yielding ...*Listener) *Listener {
	t.Helper()
	l, err := Open(context.Background(), o, yielding...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// wantOpenError opens o and fails unless that gives an error with all of parts in it.
func wantOpenError(t *testing.T, o Options, parts ...string) {
	t.Helper()
	l, err := Open(context.Background(), o)
	if err == nil {
		l.Close()
		t.Fatalf("open %s: no error, want %q", o.Address, parts)
	}
	wantError(t, err, append(parts, "listen "+o.Address+": ")...)
}

func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", parts)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q lacks %q", err, part)
		}
	}
}

// dial connects to l, without waiting for Accept.
func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := tryDial(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func tryDial(l net.Listener) (net.Conn, error) {
	return net.Dial(l.Addr().Network(), l.Addr().String())
}

func accept(t *testing.T, l *Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// serve accepts and closes until l is closed, then tells on the channel how that ended.
func serve(l *Listener) <-chan error {
	done := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				done <- err
				return
			}
			c.Close()
		}
	}()
	return done
}

func abstractAddress(t *testing.T) string {
	return fmt.Sprintf("unix:@fcgid-%d-%s", os.Getpid(), t.Name())
}

func TestOpenAcceptClose(t *testing.T) {
	tests := map[string]string{
		"path":     "unix:" + tempSocket(t),
		"abstract": abstractAddress(t),
		"tcp":      "tcp:127.0.0.1:0",
		"name":     "tcp:localhost:0",
		"any":      "tcp::0",
		"any v4":   "tcp:0.0.0.0:0",
	}
	for name, address := range tests {
		t.Run(name, func(t *testing.T) {
			checkNoFDLeak(t)
			l := mustOpen(t, Options{Address: address, Mode: 0o600})
			dial(t, l)
			c := accept(t, l)
			switch c.(type) {
			case *nbio.Conn, *net.TCPConn:
			default:
				t.Errorf("Accept returned a %T", c)
			}
			checkCloseOnExec(t, l.ln)
			if got := l.Options().Address; got != address {
				t.Errorf("options of %s", got)
			}

			done := serve(l)
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Errorf("Accept after Close: %v", err)
			}
			if err := l.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("second Close: %v", err)
			}
		})
	}
}

func checkCloseOnExec(t *testing.T, ln socketListener) {
	t.Helper()
	err := withFD(ln, func(fd int) error {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC == 0 {
			err = errors.New("listening socket is not close-on-exec")
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestBadAddress(t *testing.T) {
	checkNoFDLeak(t)
	tests := map[string]string{
		"":                                  "is not unix:/path",
		"/run/x":                            "is not unix:/path",
		"udp:127.0.0.1:1":                   "is not unix:/path",
		"systemd:":                          "needs a name",
		"unix:":                             "absolute path of a socket, or @",
		"unix:run/x":                        "absolute path of a socket, or @",
		"unix:@":                            "absolute path of a socket, or @",
		"unix:/" + strings.Repeat("x", 107): "path of 108 bytes",
		"unix:@" + strings.Repeat("x", 108): "abstract name of 108 bytes",
		"tcp:127.0.0.1":                     "needs a host and a port",
		"tcp:127.0.0.1:":                    "needs a port",
		"tcp:::1:9000":                      "needs a host and a port",
		"tcp:127.0.0.1:nosuch":              "nosuch",
		"systemd:web":                       "passed no sockets",
		"unix:/proc/self/nosuch/fcgid-test": "folder /proc/self/nosuch: no such file",
		"unix:/proc/self/status/fcgid-test": "folder /proc/self/status: not a directory",
	}
	for address, want := range tests {
		wantOpenError(t, Options{Address: address, Mode: 0o600}, want)
	}
}

func TestLongestUnixNames(t *testing.T) {
	checkNoFDLeak(t)
	path := tempDir(t) + "/"
	path += strings.Repeat("x", 107-len(path))
	abstract := abstractAddress(t)
	abstract += strings.Repeat("x", 108+len("unix:")-len(abstract))
	for _, address := range []string{"unix:" + path, abstract} {
		l := mustOpen(t, Options{Address: address, Mode: 0o600})
		dial(t, l)
		accept(t, l)
		l.Close()
	}
}

func TestAddressInUse(t *testing.T) {
	checkNoFDLeak(t)
	abstract := mustOpen(t, Options{Address: abstractAddress(t)})
	defer abstract.Close()
	wantOpenError(t, Options{Address: abstractAddress(t)}, "address in use: another process holds the name")

	tcp := mustOpen(t, Options{Address: "tcp:127.0.0.1:0"})
	defer tcp.Close()
	wantOpenError(t, Options{Address: "tcp:" + tcp.Addr().String()}, "address in use: another process listens on it")
}

// A client that came before Close, and its port in TIME_WAIT, do not keep a new Open out.
func TestTCPPortCanBeOpenedAgain(t *testing.T) {
	checkNoFDLeak(t)
	l := mustOpen(t, Options{Address: "tcp:127.0.0.1:0"})
	client := dial(t, l)
	accept(t, l).Close()
	if n, err := client.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v", n, err)
	}
	client.Close()
	l.Close()
	mustOpen(t, Options{Address: "tcp:" + l.Addr().String()}).Close()
}

func TestIPv6(t *testing.T) {
	checkNoFDLeak(t)
	probe, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("this host has no IPv6 loopback: %v", err)
	}
	probe.Close()
	l := mustOpen(t, Options{Address: "tcp:[::1]:0"})
	dial(t, l)
	accept(t, l)
	l.Close()

	any4 := mustOpen(t, Options{Address: "tcp:0.0.0.0:0"})
	defer any4.Close()
	_, port, _ := net.SplitHostPort(any4.Addr().String())
	if c, err := net.Dial("tcp", "[::1]:"+port); err == nil {
		c.Close()
		t.Error("tcp:0.0.0.0 took an IPv6 client")
	}
}

// Both ends of a connection to a Unix socket have the names that package net gives them.
func TestNamesOfAConnection(t *testing.T) {
	for name, peer := range map[string]string{"none": "", "path": tempSocket(t), "abstract": "@fcgid-peer" + t.Name()} {
		t.Run(name, func(t *testing.T) {
			l := mustOpen(t, Options{Address: "unix:" + tempSocket(t), Mode: 0o600})
			reference, err := net.Listen("unix", tempSocket(t))
			if err != nil {
				t.Fatal(err)
			}
			defer reference.Close()
			var names [2]string
			for i, ln := range []net.Listener{l, reference} {
				client, err := net.DialUnix("unix", &net.UnixAddr{Name: peer, Net: "unix"}, ln.Addr().(*net.UnixAddr))
				if err != nil {
					t.Fatal(err)
				}
				c, err := ln.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if c.LocalAddr().String() != ln.Addr().String() {
					t.Errorf("the connection to %s has %s", ln.Addr(), c.LocalAddr())
				}
				names[i] = c.RemoteAddr().Network() + " " + c.RemoteAddr().String()
				c.Close()
				client.Close()
				if peer != "" {
					os.Remove(peer)
				}
			}
			if names[0] != names[1] {
				t.Errorf("the peer is %q, and %q for package net", names[0], names[1])
			}
		})
	}
}
