package terminal_test

import (
	"io"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/terminal"
)

// A terminal takes colours, unless its user or its kind does not.
func TestTerminal(t *testing.T) {
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !terminal.Is(f) {
		t.Error("a terminal is none")
	}
	for _, c := range []struct {
		noColor, term string
		want          bool
	}{{"", "xterm", true}, {"", "", true}, {"1", "xterm", false}, {"no", "xterm", false}, {"", "dumb", false}} {
		t.Setenv("NO_COLOR", c.noColor)
		t.Setenv("TERM", c.term)
		if got := terminal.TakesColours(f); got != c.want {
			t.Errorf("NO_COLOR=%s TERM=%s: %t", c.noColor, c.term, got)
		}
	}
}

// What is no terminal is as it was afterwards: who shares it may count on O_NONBLOCK.
func TestNoTerminal(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, out := range map[string]io.Writer{"a device": null, "a pipe": w, "a closed file": closed, "no file": io.Discard, "nil": (*os.File)(nil)} {
		if terminal.TakesColours(out) {
			t.Errorf("%s takes colours", name)
		}
	}
	conn, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = conn.Control(func(fd uintptr) {
		if flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("the pipe has the flags %#o, %v", flags, err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
