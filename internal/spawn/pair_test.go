package spawn_test

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/spawn"
)

// What is said at one end of a pair is heard at the other, and neither is inherited.
func TestPair(t *testing.T) {
	for _, socketType := range []int{unix.SOCK_STREAM, unix.SOCK_SEQPACKET} {
		ours, fd, err := spawn.NewPair(socketType)
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %#x, %v", flags, err)
		}
		theirs, err := spawn.ConnOf(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		if _, err := ours.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		said := make([]byte, 9)
		if n, err := theirs.Read(said); err != nil || string(said[:n]) != "hello" {
			t.Errorf("%q, %v", said[:n], err)
		}
	}
}

// A descriptor of something else is refused.
func TestConnOfWhatIsNoUnixSocket(t *testing.T) {
	tcp, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{tcp, null} {
		if conn, err := spawn.ConnOf(fd); err == nil {
			t.Errorf("descriptor %d is %v", fd, conn.LocalAddr())
			conn.Close()
		}
	}
}
