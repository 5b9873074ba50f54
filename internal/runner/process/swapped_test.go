package process_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fcgid/fcgid/internal/runner/process"
)

// manySwaps is how often what a name leads to is exchanged in a test.
const manySwaps = 10_000

// A swapper exchanges what a name leads to for one of two files and the other, again and
// again.
type swapper struct {
	name string
	to   [2]string

	swaps   atomic.Int64
	quit    chan struct{}
	running sync.WaitGroup
}

// swap begins to, by links to them.
func swap(t *testing.T, name, one, other string) *swapper {
	t.Helper()
	s := &swapper{name: name, to: [2]string{one, other}, quit: make(chan struct{})}
	mustDo(t, s.once(0))
	s.running.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-s.quit:
				return
			default:
				s.once(i)
				s.swaps.Add(1)
			}
		}
	})
	t.Cleanup(s.end)
	return s
}

func (s *swapper) once(i int) error {
	if err := os.Symlink(s.to[i%2], s.name+".next"); err != nil {
		return err
	}
	return os.Rename(s.name+".next", s.name)
}

// isOver reports whether there were enough.
func (s *swapper) isOver() bool { return s.swaps.Load() >= manySwaps }

func (s *swapper) end() {
	if s.quit != nil {
		close(s.quit)
		s.running.Wait()
		s.quit = nil
	}
}

// Somebody who may write no folder of root, and asks for a script there by a link of their
// own, which they turn to and fro, gets it run, or nothing: not what the link leads to else,
// nor a neighbour that the script looks for by its own name.
func TestScriptSwapped(t *testing.T) {
	top := tempDir(t)
	for name, text := range map[string]string{"root/x.sh": `. "${0%/*}/part"`, "root/part": "echo good", "theirs/x.sh": "echo evil", "theirs/part": "echo evil"} {
		write(t, filepath.Join(top, name), text, 0o644)
	}
	for name, test := range map[string]struct{ link, theirs, good, asked string }{
		"the script": {"theirs/link.sh", "theirs/x.sh", "root/x.sh", "theirs/link.sh"},
		"its folder": {"theirs/links", "theirs", "root", "theirs/links/x.sh"},
	} {
		t.Run(name, func(t *testing.T) {
			in := func(name string) string { return filepath.Join(top, name) }
			p := &program{process.New(options{
				Roots: []string{in("root")}, Interpreters: map[string]string{".sh": "/bin/sh"}, KillGrace: patience,
			}), in(test.asked)}
			swaps := swap(t, in(test.link), in(test.good), in(test.theirs))
			ran := make(map[string]int)
			for i := 0; i < 300 || !swaps.isOver(); i++ {
				c := p.call().run(t, p)
				switch out := strings.TrimSpace(c.out.String()); {
				case c.err != nil && out == "":
					ran["refused"]++
				case c.err == nil && out == "good":
					ran["good"]++
				default:
					t.Fatalf("%q, %v, %s", out, c.err, c.errs.String())
				}
			}
			swaps.end()
			t.Log(ran, swaps.swaps.Load(), "swaps")
		})
	}
}
