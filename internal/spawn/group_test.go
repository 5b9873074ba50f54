package spawn

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/polltest"
)

// newTree opens what is delegated to the tests.
func newTree(t testing.TB) *cgroup.Tree {
	t.Helper()
	return openTree(t, TryCgroup)
}

func openTree(t testing.TB, try func(fd int) error) *cgroup.Tree {
	t.Helper()
	tree, err := cgroup.Open(cgroup.Options{Try: try})
	if err != nil {
		t.Skipf("no cgroups here: %v", err)
	}
	t.Cleanup(func() {
		polltest.Until(t, "all groups to be empty", func() bool {
			for _, name := range pidFiles(t, tree.Path()) {
				if text, err := os.ReadFile(name); err == nil && len(text) > 0 {
					return false
				}
			}
			return true
		})
		tree.Close()
		polltest.Until(t, "the tree to be removed", func() bool {
			os.Remove(tree.Path())
			return !isThere(tree.Path())
		})
	})
	return tree
}

// pidFiles are the cgroup.procs of a group and those below it.
func pidFiles(t testing.TB, path string) (files []string) {
	t.Helper()
	filepath.WalkDir(path, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Name() == "cgroup.procs" {
			files = append(files, path)
		}
		return nil
	})
	return files
}

func newPool(t testing.TB, limits cgroup.Limits) *cgroup.Pool {
	t.Helper()
	p, err := newTree(t).Pool("www", limits)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// runaway starts a process that has nothing in common with its program any more, neither
// parent nor session, process group or files, and tells its pid. The shell between
// them has ended.
const runaway = `setsid sh -c 'setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $!'`

func readPID(t *testing.T, p *Process) int {
	t.Helper()
	var out strings.Builder
	for !strings.Contains(out.String(), "\n") {
		p.Stdout.WaitFor(time.Minute)
		buf := make([]byte, 100)
		n, err := p.Stdout.file.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(buf[:n])
	}
	pid, err := strconv.Atoi(strings.TrimSpace(out.String()))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func isAlive(pid int) bool {
	task, ok := readTask(pid)
	return ok && !task.isZombie
}

// A forced end takes all that is in a cgroup of the program's own, a healthy one
// nothing.
func TestOwnGroup(t *testing.T) {
	for _, forced := range []bool{true, false} {
		t.Run("forced "+strconv.FormatBool(forced), func(t *testing.T) {
			var l Local
			p := start(t, &l, &Command{
				Argv: []string{"/bin/sh", "-c", runaway + "; read x"}, Env: os.Environ(), IO: IO{Stdin: true},
				Cgroup: newPool(t, cgroup.Limits{}), OwnCgroup: true,
			})
			p.Watch()
			pid := readPID(t, p)
			defer unix.Kill(pid, unix.SIGKILL)
			if forced {
				p.program.(*Child).kin = nil // nobody has looked before it was gone
				p.Terminate(0)
			} else {
				p.Stdin.Close()
			}
			if _, err := p.end(); err != nil {
				t.Fatal(err)
			}
			if forced {
				polltest.Until(t, "the end of what has run away", func() bool { return !isAlive(pid) })
			} else if !isAlive(pid) {
				t.Error("what was left in the background has ended")
			}
		})
	}
}

// Neighbours in the group of a pool are left alone, whatever becomes of one of them.
func TestSharedGroup(t *testing.T) {
	pool := newPool(t, cgroup.Limits{})
	var l Local
	sleep := &Command{Argv: []string{"/bin/sh", "-c", "read x; exit 0"}, IO: IO{Stdin: true}, Cgroup: pool}
	a, b := start(t, &l, sleep), start(t, &l, sleep)
	a.Watch()
	b.Watch()
	if text, err := os.ReadFile("/proc/" + strconv.Itoa(a.PID) + "/cgroup"); err != nil || !strings.Contains(string(text), "/pool-www/programs\n") {
		t.Errorf("it is in %s, %v", text, err)
	}
	a.Terminate(0)
	if e, err := a.end(); err != nil || e.Code() == 0 {
		t.Errorf("the one that was ended: %+v, %v", e, err)
	}
	b.Stdin.Close()
	if e, err := b.end(); err != nil || e.Code() != 0 {
		t.Errorf("its neighbour: %+v, %v", e, err)
	}
}

// A program is started without its group when that is gone, unless limits are required.
func TestGroupGone(t *testing.T) {
	tree := newTree(t)
	for _, required := range []bool{false, true} {
		pool, err := tree.Pool("gone", cgroup.Limits{Required: required})
		if err != nil {
			t.Fatal(err)
		}
		filepath.WalkDir(tree.Path(), func(path string, e os.DirEntry, _ error) error {
			if e != nil && e.IsDir() && e.Name() == "programs" {
				os.Remove(path)
			}
			return nil
		})
		var l Local
		p, err := l.Start(t.Context(), &Command{Argv: []string{"/bin/true"}, Dir: "/", Cgroup: pool})
		if required {
			if err == nil || !strings.Contains(err.Error(), "sandbox.cgroup") {
				t.Error("a program runs without the limits that it must have, or it is not said why:", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		p.Watch()
		p.Stderr.Copy(io.Discard)
		if e, err := p.end(); err != nil || e.Code() != 0 {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

// Without the system call for that, a program is moved to its group.
func TestLateGroup(t *testing.T) {
	tree := openTree(t, func(int) error { return unix.ENOSYS })
	pool, err := tree.Pool("late", cgroup.Limits{Required: true})
	if err != nil {
		t.Fatal(err)
	}
	var l Local
	p := start(t, &l, &Command{
		Argv: []string{"/bin/sh", "-c", "read x; " + runaway + "; read x"}, Env: os.Environ(), IO: IO{Stdin: true}, Cgroup: pool, OwnCgroup: true,
	})
	p.Watch()
	p.Stdin.Write([]byte("\n"))
	pid := readPID(t, p)
	defer unix.Kill(pid, unix.SIGKILL)
	p.Terminate(0)
	if _, err := p.end(); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the end of what has run away", func() bool { return !isAlive(pid) })

	filepath.WalkDir(tree.Path(), func(path string, e os.DirEntry, _ error) error {
		if e != nil && e.IsDir() && e.Name() == "programs" {
			os.Remove(path)
		}
		return nil
	})
	if p, err := l.Start(t.Context(), &Command{Argv: []string{"/bin/true"}, Dir: "/", Cgroup: pool}); err == nil {
		p.Kill()
		t.Error("a program runs without the limits that it must have")
	}
}

func TestTryCgroup(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if err := TryCgroup(int(null.Fd())); err == nil {
		t.Error("programs can be started in what is no cgroup")
	}
}

func BenchmarkStartInGroup(b *testing.B) {
	for name, run := range map[string]struct {
		grouped, own bool
	}{"none": {}, "pool": {true, false}, "own": {true, true}} {
		b.Run(name, func(b *testing.B) {
			cmd := &Command{Argv: []string{"/bin/true"}, Dir: "/", OwnCgroup: run.own}
			if run.grouped {
				cmd.Cgroup = newPool(b, cgroup.Limits{})
			}
			var l Local
			for b.Loop() {
				p, err := l.Start(b.Context(), cmd)
				if err != nil {
					b.Fatal(err)
				}
				p.Watch()
				if _, err := p.end(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
