package listen

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fileOf returns the descriptor that a child gets, of a socket that is closed in
// this process together with it.
func fileOf(t *testing.T, s interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := s.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestSystemd runs itself as the process that systemd passed sockets to.
func TestSystemd(t *testing.T) {
	if os.Getenv("LISTEN_FDS") != "" {
		testPassedSockets(t)
		return
	}
	checkNoFDLeak(t)
	path := tempSocket(t)
	unixListener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer unixListener.Close()
	tcpListener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer tcpListener.Close()
	datagram, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer datagram.Close()
	noSocket, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer noSocket.Close()

	// The shell knows the pid that the child will have.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0],
		"-test.run=^TestSystemd$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), "LISTEN_TEST_PATH="+path, "LISTEN_FDS=6", "LISTEN_FDNAMES=local:web:twin:twin:datagram:null")
	unixFile, tcpFile := fileOf(t, unixListener), fileOf(t, tcpListener)
	cmd.ExtraFiles = []*os.File{unixFile, tcpFile, tcpFile, tcpFile, fileOf(t, datagram), noSocket}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestSystemd/queue") {
		t.Errorf("child: %v\n%s", err, out)
	}
	lstat(t, path) // no Close in the child has removed it
}

func testPassedSockets(t *testing.T) {
	local, web := Options{Address: "systemd:local"}, Options{Address: "systemd:web"}
	t.Run("close-on-exec", func(t *testing.T) {
		// Any Open marks them all.
		mustOpen(t, Options{Address: "tcp:127.0.0.1:0"})
		for fd := uintptr(3); fd < 9; fd++ {
			if flags, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("fd %d: flags %x, %v", fd, flags, err)
			}
		}
	})
	t.Run("errors", func(t *testing.T) {
		checkNoFDLeak(t)
		wantOpenError(t, Options{Address: "systemd:nosuch"}, "no socket of this name, only: datagram, local, null, twin, web")
		wantOpenError(t, Options{Address: "systemd:twin"}, "passed 2 sockets of this name", "FileDescriptorName=")
		wantOpenError(t, Options{Address: "systemd:datagram"}, "does not listen")
		wantOpenError(t, Options{Address: "systemd:null"}, "socket operation on non-socket")
		wantOpenError(t, Options{Address: "unix:" + os.Getenv("LISTEN_TEST_PATH")}, "address in use: systemd has passed this socket, listen on systemd:local")
		wantOpenError(t, Options{Address: "systemd:local", Allow: prefixes("10.0.0.0/8")}, "allow is for tcp")
		wantOpenError(t, Options{Address: "systemd:web", AllowUIDs: []uint32{0}}, "allow_uids is for unix")
	})
	t.Run("open again", func(t *testing.T) { testReopen(t, local, web) })
	t.Run("clients", func(t *testing.T) { testPassedClients(t, local, web) })
	t.Run("backlog", func(t *testing.T) {
		checkNoFDLeak(t)
		web := web
		web.Backlog = 5
		l := mustOpen(t, web)
		defer l.Close()
		if n := tcpBacklog(t, l); n != 5 {
			t.Errorf("backlog %d", n)
		}
		web.Backlog = 0
		second := mustOpen(t, web)
		defer second.Close()
		if n := tcpBacklog(t, second); n != 5 {
			t.Errorf("Open with 0 made it %d", n)
		}
	})
	t.Run("queue", func(t *testing.T) {
		checkNoFDLeak(t)
		for _, o := range []Options{local, web} {
			l := mustOpen(t, o)
			testAcceptQueue(t, l)
			l.Close()
		}
	})
}

// A socket serves through two listeners, and through one after another is closed;
// a client that came between two of them is not lost.
func testReopen(t *testing.T, all ...Options) {
	checkNoFDLeak(t)
	for _, o := range all {
		first := mustOpen(t, o)
		checkCloseOnExec(t, first.ln)
		dial(t, first)
		accept(t, first)

		second := mustOpen(t, o)
		first.Close()
		dial(t, second)
		accept(t, second)

		second.Close()
		dial(t, second)
		third := mustOpen(t, o)
		accept(t, third)
		if path := third.Addr().String(); filepath.IsAbs(path) {
			lstat(t, path)
		}
		third.Close()
	}
}

func testPassedClients(t *testing.T, local, web Options) {
	uid := uint32(os.Getuid())
	refusing := local
	refusing.AllowUIDs = []uint32{uid + 1}
	admitting := local
	admitting.AllowUIDs = []uint32{uid}
	l := mustOpen(t, refusing)
	refusals := recordRefusals(l)
	done := serve(l)
	wantClosed(t, dial(t, l))
	wantError(t, (<-refusals).reason, "is not in allow_uids")
	l.Close()
	<-done
	l = mustOpen(t, admitting)
	dial(t, l)
	accept(t, l)
	l.Close()

	web.Allow = prefixes("10.0.0.0/8")
	l = mustOpen(t, web)
	refusals = recordRefusals(l)
	done = serve(l)
	wantClosed(t, dial(t, l))
	wantError(t, (<-refusals).reason, "in no network of allow")
	l.Close()
	<-done
}
