package nbio_test

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/nbio"
)

// A lender counts how many of its buffers are out.
type lender struct {
	buf [8]byte
	out int
}

func (l *lender) get() []byte { l.out++; return l.buf[:] }
func (l *lender) put()        { l.out-- }

func pipe(t *testing.T) (r, w *os.File, rc syscall.RawConn) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if rc, err = r.SyscallConn(); err != nil {
		t.Fatal(err)
	}
	return r, w, rc
}

func TestRead(t *testing.T) {
	_, w, rc := pipe(t)
	var l lender
	w.WriteString("0123456789")
	for _, want := range []string{"01234567", "89"} {
		n, err := nbio.Read(rc, l.get, l.put)
		if err != nil || string(l.buf[:n]) != want || l.out != 1 {
			t.Fatalf("read %q, %v, %d buffers are out", l.buf[:n], err, l.out)
		}
		l.put()
	}
	w.Close()
	if n, err := nbio.Read(rc, l.get, l.put); n != 0 || err != io.EOF || l.out != 1 {
		t.Errorf("at the end: %d, %v, %d buffers are out", n, err, l.out)
	}
}

// Who waits holds no buffer, and has one when the wait is over, however it ends.
func TestReadWaitsWithoutABuffer(t *testing.T) {
	for _, wake := range []struct {
		name string
		do   func(r, w *os.File)
		want error
	}{
		{"bytes", func(_, w *os.File) { w.WriteString("x") }, nil},
		{"end", func(_, w *os.File) { w.Close() }, io.EOF},
		{"deadline", func(r, _ *os.File) { r.SetReadDeadline(time.Now()) }, os.ErrDeadlineExceeded},
	} {
		t.Run(wake.name, func(t *testing.T) {
			r, w, rc := pipe(t)
			var l lender
			waits := make(chan int)
			first := true
			put := func() {
				l.put()
				if first {
					first = false
					waits <- l.out
				}
			}
			go func() {
				if out := <-waits; out != 0 {
					t.Errorf("%d buffers are out", out)
				}
				wake.do(r, w)
			}()
			if _, err := nbio.Read(rc, l.get, put); !errors.Is(err, wake.want) || l.out != 1 {
				t.Errorf("%v, %d buffers are out; want %v and 1", err, l.out, wake.want)
			}
		})
	}
}
