package nbio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// sockets are the two ends of a connection.
func sockets(t testing.TB) (a, b *net.UnixConn, rc syscall.RawConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		nc, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		ends[i] = nc.(*net.UnixConn)
	}
	if rc, err = ends[0].SyscallConn(); err != nil {
		t.Fatal(err)
	}
	return ends[0], ends[1], rc
}

// on calls f with the descriptor of rc.
func on(t *testing.T, rc syscall.RawConn, f func(fd uintptr)) {
	t.Helper()
	if err := rc.Control(f); err != nil {
		t.Fatal(err)
	}
}

// What the flag of a socket says does not matter, since others may change it.
func TestTry(t *testing.T) {
	for _, nonblocking := range []bool{true, false} {
		t.Run(fmt.Sprintf("O_NONBLOCK=%v", nonblocking), func(t *testing.T) {
			_, peer, rc := sockets(t)
			on(t, rc, func(fd uintptr) {
				if err := unix.SetNonblock(int(fd), nonblocking); err != nil {
					t.Fatal(err)
				}
				if nbio.Blocks(fd) == nonblocking {
					t.Errorf("blocks: %v", !nonblocking)
				}
			})
			tryAll(t, rc, peer)
		})
	}
}

func tryAll(t *testing.T, rc syscall.RawConn, peer net.Conn) {
	buf := make([]byte, 8)
	on(t, rc, func(fd uintptr) {
		for name, try := range map[string]func(uintptr, []byte) (int, error){"read": nbio.TryRead, "peek": nbio.TryPeek} {
			if n, err := try(fd, buf); n != 0 || err != syscall.EAGAIN {
				t.Errorf("%s of nothing: %d, %v", name, n, err)
			}
		}
		if n, err := nbio.TryWrite(fd, []byte("question")); n != 8 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	})
	if _, err := io.ReadFull(peer, buf); err != nil || string(buf) != "question" {
		t.Errorf("peer has got %q, %v", buf, err)
	}
	peer.Write([]byte("ok"))
	peer.Close()
	on(t, rc, func(fd uintptr) {
		for _, try := range []func(uintptr, []byte) (int, error){nbio.TryPeek, nbio.TryPeek, nbio.TryRead} {
			if n, err := try(fd, buf); string(buf[:n]) != "ok" || err != nil {
				t.Errorf("%q, %v", buf[:n], err)
			}
		}
		for name, try := range map[string]func(uintptr, []byte) (int, error){"read": nbio.TryRead, "peek": nbio.TryPeek} {
			if n, err := try(fd, buf); n != 0 || err != nil {
				t.Errorf("%s at the end: %d, %v", name, n, err)
			}
		}
		if n, err := nbio.TryWrite(fd, buf); n != 0 || err != syscall.EPIPE {
			t.Errorf("write to nobody: %d, %v", n, err)
		}
	})
}

func TestReader(t *testing.T) {
	nc, peer, rc := sockets(t)
	r := nbio.NewReader(rc)
	buf := make([]byte, 4)
	read := func(want string, wantErr error) {
		t.Helper()
		if n, err := r.Read(buf); string(buf[:n]) != want || !errors.Is(err, wantErr) {
			t.Errorf("read %q, %v; want %q, %v", buf[:n], err, want, wantErr)
		}
	}
	go peer.Write([]byte("123456"))
	read("1234", nil)
	read("56", nil)
	nc.SetReadDeadline(time.Now())
	read("", os.ErrDeadlineExceeded)
	nc.SetReadDeadline(time.Time{})
	go peer.Close()
	read("", io.EOF)
	nc.Close()
	read("", net.ErrClosed)
}

// A Writer writes what there is room for, does not wait for more, and has no errors.
func TestWriter(t *testing.T) {
	nc, peer, rc := sockets(t)
	var w nbio.Writer
	if n := w.WriteNow(rc, []byte("abc")); n != 3 {
		t.Errorf("wrote %d bytes", n)
	}
	large := bytes.Repeat([]byte("x"), 8<<20)
	n := w.WriteNow(rc, large)
	if n == 0 || n == len(large) {
		t.Errorf("wrote %d bytes", n)
	}
	if n := w.WriteNow(rc, large); n != 0 {
		t.Errorf("wrote %d bytes where there is no room", n)
	}
	nc.CloseWrite()
	if got, err := io.ReadAll(peer); err != nil || len(got) != 3+n {
		t.Errorf("peer has got %d bytes, %v; want %d", len(got), err, 3+n)
	}
	if n := w.WriteNow(rc, large); n != 0 {
		t.Errorf("wrote %d bytes after the end", n)
	}
	nc.Close()
	if n := w.WriteNow(rc, large) + w.WriteNow(nil, large) + w.WriteNow(rc, nil); n != 0 {
		t.Errorf("wrote %d bytes to nothing", n)
	}
}

// WriteAll waits for room, to the deadline, and tells of errors.
func TestWriteAll(t *testing.T) {
	nc, peer, rc := sockets(t)
	var w nbio.Writer
	large := bytes.Repeat([]byte("x"), 8<<20)
	got := make(chan int64)
	go func() {
		n, _ := io.CopyN(io.Discard, peer, int64(len(large)))
		got <- n
	}()
	if n, err := w.WriteAll(rc, large); n != len(large) || err != nil {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	<-got
	nc.SetWriteDeadline(time.Now())
	if n, err := w.WriteAll(rc, large); n == len(large) || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d bytes, %v", n, err)
	}
	nc.SetWriteDeadline(time.Time{})
	peer.Close()
	if n, err := w.WriteAll(rc, large); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("to nobody: wrote %d bytes, %v", n, err)
	}
}

func BenchmarkSocket(b *testing.B) {
	_, peer, rc := sockets(b)
	peerRC, err := peer.SyscallConn()
	if err != nil {
		b.Fatal(err)
	}
	r := nbio.NewReader(rc)
	var w nbio.Writer
	for _, size := range []int{64, 4 << 10, 64 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			for b.Loop() {
				for n := w.WriteNow(peerRC, buf); n > 0; {
					k, err := r.Read(buf)
					if err != nil {
						b.Fatal(err)
					}
					n -= k
				}
			}
		})
	}
}

func TestAllocationsOfSockets(t *testing.T) {
	if wiretest.UnderRace() {
		t.Skip("counts are of a build without the race detector")
	}
	_, peer, rc := sockets(t)
	peerRC, err := peer.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	r := nbio.NewReader(rc)
	var w nbio.Writer
	buf := make([]byte, 8)
	var one [1]byte
	look := func(fd uintptr) { nbio.TryPeek(fd, one[:]) }
	n := testing.AllocsPerRun(100, func() {
		w.WriteNow(peerRC, buf)
		rc.Control(look)
		r.Read(buf)
	})
	if n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// What ends a wait is told in words for people: not as package net has it, with its name
// for the call and both addresses.
func TestWaitEndsInPlainWords(t *testing.T) {
	a, _, rc := sockets(t)
	a.SetDeadline(time.Unix(1, 0))
	_, err := nbio.NewReader(rc).Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) || err.Error() != "i/o timeout" {
		t.Errorf("Read: %v", err)
	}
	_, err = new(nbio.Writer).WriteAll(rc, make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) || err.Error() != "i/o timeout" {
		t.Errorf("WriteAll: %v", err)
	}
	a.Close()
	_, err = nbio.NewReader(rc).Read(make([]byte, 1))
	if !errors.Is(err, net.ErrClosed) || err.Error() != "use of closed network connection" {
		t.Errorf("Read of a socket that is closed: %v", err)
	}
}
