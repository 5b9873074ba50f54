package process_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/spawn"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// Input that is at hand reaches the program, however much it is and whether it is
// read or not.
func TestWholeInput(t *testing.T) {
	reads, ignores := shell(t, "exec cat"), shell(t, "echo ok")
	for _, size := range []int{0, 1, 4095, 4096, 4097, 64 << 10, 1 << 20} {
		text := strings.Repeat("x", size)
		c := reads.call()
		c.Stdin = whole(text)
		c.run(t, reads).want(t, 0, text)
		c = ignores.call()
		c.Stdin = whole(text)
		c.run(t, ignores).want(t, 0, "ok\n")
	}
}

// A program that is over before anybody looks has been heard and its exit is told,
// like that of one that takes its time.
func TestQuickAndSlow(t *testing.T) {
	for name, script := range map[string]string{
		"quick":                   "echo error >&2; echo ok; exit 3",
		"slow":                    "echo error >&2; echo ok; sleep .05; exit 3",
		"slow at first":           "sleep .05; echo error >&2; echo ok; exit 3",
		"STDOUT ends before":      "echo ok; exec >&-; echo error >&2; exit 3",
		"STDOUT ends long before": "echo ok; exec >&-; sleep .05; echo error >&2; exit 3",
	} {
		t.Run(name, func(t *testing.T) {
			p := shell(t, script, func(o *options) { o.Stderr = "client" })
			for range 5 {
				var exits atomic.Int32
				c := p.call()
				c.Exited = func() { exits.Add(1) }
				c.run(t, p).want(t, 3, "ok\n")
				if got := c.errs.String(); got != "error\n" || exits.Load() != 1 {
					t.Errorf("STDERR is %q, %d exits were told", got, exits.Load())
				}
			}
		})
	}
}

// More of STDERR than a pipe holds does not stop a program.
func TestMuchStderr(t *testing.T) {
	p := shell(t, "head -c 300000 /dev/zero >&2; echo ok", func(o *options) { o.Stderr = "client" })
	c := p.call()
	c.run(t, p).want(t, 0, "ok\n")
	if got := len(c.errs.String()); got != 300000 {
		t.Errorf("STDERR has %d bytes", got)
	}
}

// The start of a program stays as lean as it is.
func TestAllocationsOfARun(t *testing.T) {
	if wiretest.UnderRace() {
		t.Skip("the race detector allocates too")
	}
	p := process.New(options{Roots: []string{"/"}, Spawner: new(spawn.Local), PassEnv: []string{"PATH"}})
	parsed := nginxParams("/bin/true")
	const most = 64 // with somebody who waits for its exit
	for _, body := range []string{"", "a=b"} {
		got := testing.AllocsPerRun(100, func() {
			req := protocol.Request{Params: parsed, Stdout: new(strings.Builder)}
			if body != "" {
				req.Stdin = whole(body)
			}
			if status, err := p.Run(background, &req); status != 0 || err != nil {
				t.Errorf("Run returned %d, %v", status, err)
			}
		})
		if got > most {
			t.Errorf("body %q: %v allocations, want %d at most", body, got, most)
		}
	}
}
