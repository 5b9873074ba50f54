package process_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// The program writes much before it reads much: who reads and writes in turn
// hangs, as fcgiwrap does.
func TestOutputBeforeInput(t *testing.T) {
	p := shell(t, `head -c 200000 /dev/zero; wc -c`)
	c := p.call()
	c.Stdin = random(1 << 20)
	c.run(t, p).want(t, 0, strings.Repeat("\x00", 200000)+"1048576\n")
}

func TestDuplex(t *testing.T) {
	p := shell(t, "exec cat")
	const size = 8 << 20
	in, out := sha256.New(), sha256.New()
	c := p.call()
	c.Stdin, c.Stdout = io.TeeReader(random(size), in), out
	c.run(t, p).want(t, 0, "")
	if !bytes.Equal(in.Sum(nil), out.Sum(nil)) {
		t.Error("what comes back is something else")
	}
}

// A Stdin that has a WriteTo and a Stdout that has a ReadFrom are used so.
func TestCopiesWithoutACopy(t *testing.T) {
	p := shell(t, "exec cat")
	c := p.call()
	var out fromReader
	c.Stdin, c.Stdout = strings.NewReader("text"), &out
	c.run(t, p).want(t, 0, "")
	if out.String() != "text" || !out.used {
		t.Errorf("stdout is %q, by ReadFrom: %v", out.String(), out.used)
	}
}

type fromReader struct {
	bytes.Buffer
	used bool
}

func (f *fromReader) ReadFrom(r io.Reader) (int64, error) {
	f.used = true
	return f.Buffer.ReadFrom(r)
}

func TestNoStdin(t *testing.T) {
	p := shell(t, "cat; readlink /proc/self/fd/0")
	p.call().run(t, p).want(t, 0, "/dev/null\n")
}

// A program need not read its input: neither that it ends nor that it closes it
// is an error, and who holds more of it is told that it is not wanted.
func TestInputIsNotRead(t *testing.T) {
	for name, script := range map[string]string{
		"ends at once":        "printf ok",
		"closes it":           "exec <&-; printf ok",
		"reads some":          "head -c 1000 >/dev/null; printf ok",
		"closes it, waits":    "exec <&-; printf ok; until [ -e $FLAG ]; do sleep .01; done",
		"closes it, and more": "exec <&-; printf ok; until [ -e $FLAG ]; do sleep .01; done; printf .",
	} {
		for _, size := range []int64{1, 1 << 20, 1 << 40} {
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				p := shell(t, script)
				flag := tempDir(t) + "/flag"
				c := p.call("FLAG", flag)
				in := &closing{Reader: random(size), closed: make(chan struct{})}
				c.Stdin = in
				c.start(t, p)
				<-in.closed
				write(t, flag, "", 0o600)
				want := "ok"
				if strings.HasSuffix(name, "more") {
					want = "ok."
				}
				c.wait(t).want(t, 0, want)
			})
		}
	}
}

// A closing is a Stdin that tells when it is closed, and fails if it is twice.
type closing struct {
	io.Reader
	closed chan struct{}
}

func (c *closing) Close() error {
	close(c.closed)
	return nil
}

// A program that has exited does not wait for a client that sends slowly.
func TestExitBeforeInput(t *testing.T) {
	p := shell(t, "exit 7")
	c := p.call()
	r, w := io.Pipe()
	defer w.Close()
	c.Stdin = r
	c.run(t, p).want(t, 7, "")
	if _, err := w.Write([]byte("late")); err != io.ErrClosedPipe {
		t.Errorf("Write to Stdin returned %v", err)
	}
}

// What breaks in the middle is not taken for the whole.
func TestInputBreaks(t *testing.T) {
	p := shell(t, "cat; printf whole")
	broken := errors.New("broken")
	r, w := io.Pipe()
	c := p.call()
	c.Stdin = r
	c.start(t, p)
	fmt.Fprint(w, "a part")
	c.out.Await(t, "a part")
	w.CloseWithError(broken)
	c.wait(t)
	if c.status != 143 || !errors.Is(c.err, broken) || !strings.Contains(c.err.Error(), "read stdin: ") {
		t.Errorf("Run returned %d, %v", c.status, c.err)
	}
	if got := c.out.String(); got != "a part" {
		t.Errorf("stdout is %q", got)
	}
}

// Who does not take the output does not get more: the program ends.
func TestOutputIsNotTaken(t *testing.T) {
	refused := errors.New("refused")
	for name, script := range map[string]string{
		"writes on":         "yes",
		"reads":             "echo; exec cat",
		"does not notice":   "echo; exec sleep 1000",
		"notices, ignoring": "trap '' PIPE; echo; while :; do echo 2>/dev/null; done",
	} {
		t.Run(name, func(t *testing.T) {
			p := shell(t, script)
			c := p.call()
			r, w := io.Pipe()
			defer w.Close()
			c.Stdin = r
			c.Stdout = failing{Err: refused}
			c.run(t, p)
			if c.status != 143 && c.status != 128+13 || !errors.Is(c.err, refused) {
				t.Errorf("Run returned %d, %v", c.status, c.err)
			}
		})
	}
}

// A deadline of the one who takes the output is not ours.
func TestOutputHasADeadline(t *testing.T) {
	p := shell(t, "echo; exec sleep 1000")
	c := p.call()
	c.Stdout = failing{Err: os.ErrDeadlineExceeded}
	c.run(t, p)
	if c.status != 143 || !errors.Is(c.err, os.ErrDeadlineExceeded) {
		t.Errorf("Run returned %d, %v", c.status, c.err)
	}
}

// Output is passed on as it comes: the program goes on when each byte has arrived.
func TestOutputIsNotHeldBack(t *testing.T) {
	p := shell(t, "for c in a b c d e f; do printf $c; read -r line || exit 1; done")
	r, w := io.Pipe()
	c := p.call()
	c.Stdin = r
	c.start(t, p)
	for i := range 6 {
		c.out.Await(t, "abcdef"[:i+1])
		fmt.Fprintln(w)
	}
	c.wait(t).want(t, 0, "abcdef")
	if c.out.Writes() != 6 {
		t.Errorf("%d writes, want 6", c.out.Writes())
	}
}

// The end of the output is not the end of the program.
func TestOutputEndsEarly(t *testing.T) {
	p := shell(t, "printf ok; exec >&- 2>&-; read -r x; exit $x")
	r, w := io.Pipe()
	c := p.call()
	c.Stdin = r
	c.start(t, p)
	c.out.Await(t, "ok")
	fmt.Fprintln(w, 9)
	c.wait(t).want(t, 9, "ok")

	p = shell(t, "printf ok; exec >&- 2>&-; exec sleep 1000")
	c = p.call().start(t, p)
	c.out.Await(t, "ok")
	c.cancel()
	c.wait(t).want(t, 143, "ok")
}

// A slow client gets all.
func TestSlowOutput(t *testing.T) {
	p := shell(t, "head -c 300000 /dev/zero; printf end")
	c := p.call()
	c.Stdout = writerFunc(func(b []byte) (int, error) {
		time.Sleep(5 * time.Millisecond)
		return c.out.Write(b)
	})
	c.run(t, p).want(t, 0, strings.Repeat("\x00", 300000)+"end")
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
