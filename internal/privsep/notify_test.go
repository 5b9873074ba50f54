package privsep

import (
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/spawn"
)

// The spawner passes on to systemd what a daemon says of itself, with a socket that is to be kept,
// and nothing that is about another process.
func TestNotify(t *testing.T) {
	path := t.TempDir() + "/notify"
	heard, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	s := new(spawner)
	for _, word := range []string{
		"MAINPID=1", "WATCHDOG=trigger", "READY=1\nMAINPID=1", "NOTIFYACCESS=all", "", "READY=1\n", "STATUS", "STATUS=" + strings.Repeat("x", maxNotification),
		"STATUS=x\rMAINPID=1", "STATUS=x\r\nREADY=1", "STATUS=x\x00MAINPID=1", "STATUS=x\x1b[2J", "READY=1\r", "STATUS=x\x7f",
		"FDSTORE=1\nFDNAME=http", "FDSTORE=1\nFDNAME=", "FDNAME=fcgid-socket-", "FDNAME=fcgid-socket-1:http", "FDNAME=fcgid-socket-../x", "FDSTOREREMOVE=1\nFDNAME=stored",
	} {
		if err := s.notify(&Message{Kind: KindNotify, Body: []byte(word)}); err == nil {
			t.Errorf("%.40q is passed on", word)
		}
	}
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fd := int(file.Fd())
	if err := s.notify(&Message{Kind: KindNotify, Body: []byte("READY=1"), FDs: []int{fd, fd}}); err == nil {
		t.Error("two descriptors are passed on")
	}
	s.succession.next = &spawn.Successor{PID: 42}
	if err := s.notify(&Message{Kind: KindNotify, Body: []byte("MAINPID=421")}); err == nil {
		t.Error("another process than the successor is passed on")
	}
	const word = "FDSTORE=1\nFDPOLL=0\nFDNAME=fcgid-socket-1"
	for _, m := range []*Message{{Body: []byte("STATUS=all is well")}, {Body: []byte("MAINPID=42")}, {Body: []byte(word), FDs: []int{fd}}} {
		if err := s.notify(m); err != nil {
			t.Errorf("%q: %v", m.Body, err)
		}
		text, oob := make([]byte, 100), make([]byte, 100)
		n, oobn, _, _, err := heard.ReadMsgUnix(text, oob)
		if err != nil || string(text[:n]) != string(m.Body) {
			t.Errorf("systemd hears %q, %v", text[:n], err)
		}
		var fds []int
		if control, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(control) > 0 {
			fds, _ = unix.ParseUnixRights(&control[0])
		}
		if len(fds) != len(m.FDs) {
			t.Errorf("with %q come the descriptors %v", m.Body, fds)
		}
		for _, fd := range fds {
			unix.Close(fd)
		}
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := s.notify(&Message{Kind: KindNotify, Body: []byte("READY=1")}); err == nil {
		t.Error("nobody hears it, and that is no error")
	}
}
