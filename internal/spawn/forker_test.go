package spawn

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
)

// programOf makes a program of machine code.
func programOf(t *testing.T, write func(a *assembler)) (name string) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("there is no such program for this architecture")
	}
	a := &assembler{labels: make(map[string]int), uses: make(map[int]string)}
	write(a)
	return runnertest.WriteFile(t, filepath.Join(t.TempDir(), "program"), string(elfAMD64(a.link())), 0o755)
}

// newForker makes a program whose first instructions fork: its child executes the second
// argument with those from the third on, and has what the program had when it began.
func newForker(t *testing.T) string {
	t.Helper()
	return programOf(t, func(a *assembler) {
		a.emit(0x48, 0x89, 0xe3) // mov rbx, rsp: argc, argv, NULL, envp
		a.systemCall(unix.SYS_FORK)
		a.emit(0x85, 0xc0, 0x0f, 0x85) // test eax, eax; jnz …
		a.distance("parent")
		a.emit(0x48, 0x8b, 0x7b, 0x10)       // mov rdi, [rbx+16]: argv[1]
		a.emit(0x48, 0x8d, 0x73, 0x18)       // lea rsi, [rbx+24]: argv[2:]
		a.emit(0x48, 0x8b, 0x03)             // mov rax, [rbx]: argc
		a.emit(0x48, 0x8d, 0x54, 0xc3, 0x10) // lea rdx, [rbx+rax*8+16]: envp
		a.systemCall(unix.SYS_EXECVE)
		a.label("parent")
		a.argument1(0xffffffff)
		a.argument2(0)
		a.argument3(0)
		a.emit(0x45, 0x31, 0xd2) // xor r10d, r10d
		a.systemCall(unix.SYS_WAIT4)
		a.argument1(0)
		a.systemCall(unix.SYS_EXIT_GROUP)
	})
}

// childSays is what a shell says that a forker has started.
func childSays(t *testing.T, cmd *Command, forker, script string) string {
	t.Helper()
	cmd.Argv, cmd.Dir, cmd.Env = []string{forker, "/bin/sh", "sh", "-c", script}, "/", os.Environ()
	var out strings.Builder
	if err := Run(t.Context(), new(Local), cmd, &out); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return strings.TrimSpace(out.String())
}

// A program that has to be moved to its group is there before it can fork, whatever executes it,
// whoever it runs as, and where nobody can be held by ptrace. It has no descriptor of that.
func TestLateGroupHasAllChildren(t *testing.T) {
	pool, err := openTree(t, func(int) error { return unix.ENOSYS }).Pool("late", cgroup.Limits{Required: true})
	if err != nil {
		t.Fatal(err)
	}
	forker := newForker(t)
	RefuseTrace(t)
	limits := []Rlimit{{"nofile", unix.RLIMIT_NOFILE, 64}}
	for name, cmd := range map[string]Command{
		"plain":   {},
		"limited": {Sandbox: &Sandbox{Rlimits: limits}},
		"bound":   {Sandbox: &Sandbox{Rlimits: limits, NoNewPrivs: true, NoNetwork: true, Write: []string{"/dev/null"}}},
		"other":   {Identity: &Identity{UID: 65534, GID: 65534}},
		"aside":   {Identity: &Identity{UID: 65534, GID: 65534}, Aside: true, Sandbox: &Sandbox{Rlimits: limits}},
	} {
		t.Run(name, func(t *testing.T) {
			if cmd.Identity != nil && os.Geteuid() != 0 {
				t.Skip("only root can start programs of other users")
			}
			if cmd.Sandbox != nil {
				if _, lacks := LookAtMachine().Fit(*cmd.Sandbox, cmd.Identity); slices.ContainsFunc(lacks, func(l Lack) bool { return l.Key != "sandbox.network" }) {
					t.Skip(lacks)
				}
			}
			forker := forker
			if cmd.Identity != nil {
				forker = forEverybody(t, forker)
			}
			cmd.Cgroup, cmd.OwnCgroup = pool, true
			for range 20 {
				got := childSays(t, &cmd, forker, "cat /proc/self/cgroup; echo /proc/self/fd/*; ulimit -n") // which may have 3 open meanwhile
				if !strings.Contains(got, "/pool-late/") || !strings.Contains(got, "/fd/2") || strings.Contains(got, "/fd/4") || strings.Contains(got, "/fd/5") || cmd.Sandbox != nil && !strings.HasSuffix(got, "\n64") {
					t.Fatalf("a child is in %s", got)
				}
			}
		})
	}
}

// forEverybody copies a program to where other users can execute it.
func forEverybody(t *testing.T, program string) string {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "fcgid-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := filepath.Join(dir, "program")
	if err := os.WriteFile(name, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(name, 0o755)); err != nil {
		t.Fatal(err)
	}
	return name
}

// A set-user-ID program that has to be moved to its group keeps its rights: it is not held.
func TestLateGroupKeepsRights(t *testing.T) {
	pool, err := openTree(t, func(int) error { return unix.ENOSYS }).Pool("late", cgroup.Limits{Required: true})
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can make such a program for others")
	}
	who := forEverybody(t, programOf(t, func(a *assembler) {
		a.systemCall(unix.SYS_GETEUID)
		a.emit(0x89, 0xc7) // mov edi, eax
		a.systemCall(unix.SYS_EXIT_GROUP)
	}))
	for mode, isRoot := range map[os.FileMode]bool{0o755: false, 0o755 | os.ModeSetuid: true} {
		if err := os.Chmod(who, mode); err != nil {
			t.Fatal(err)
		}
		cmd := &Command{Argv: []string{who}, Dir: "/", Identity: &Identity{UID: 65534, GID: 65534}, Cgroup: pool, OwnCgroup: true}
		if err := Run(t.Context(), new(Local), cmd, io.Discard); (err == nil) != isRoot {
			t.Errorf("with mode %v it exits with %v", mode, err)
		}
	}
}

// Where nothing moves a program to its group, as in a chroot without ptrace, that is said: it
// does not run, or without its limits where these are not required.
func TestLateGroupCannotBeEntered(t *testing.T) {
	tree := openTree(t, func(int) error { return unix.ENOSYS })
	if os.Geteuid() != 0 {
		t.Skip("only root can chroot")
	}
	RefuseTrace(t)
	for _, required := range []bool{true, false} {
		pool, err := tree.Pool("late", cgroup.Limits{Required: required, Pids: 100})
		if err != nil {
			t.Fatal(err)
		}
		cmd := &Command{Argv: []string{"/bin/true"}, Dir: "/", Sandbox: &Sandbox{Chroot: "/"}, Cgroup: pool}
		err = Run(t.Context(), new(Local), cmd, io.Discard)
		if required && (err == nil || !strings.Contains(err.Error(), "sandbox.cgroup: cannot be moved to its cgroup: ptrace")) || !required && err != nil {
			t.Errorf("required %v: %v", required, err)
		}
	}
}

// What a program starts first is as nice as itself.
func TestChildrenAreNice(t *testing.T) {
	s := &Sandbox{NoNewPrivs: true, Nice: 3}
	if err := canTrace(); err != nil {
		t.Skipf("ptrace: %v", err)
	}
	want, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		t.Fatal(err)
	}
	want = min(20-want+s.Nice, 19)
	forker := newForker(t)
	for range 20 {
		if got := childSays(t, &Command{Sandbox: s}, forker, "nice"); got != strconv.Itoa(want) {
			t.Fatalf("a child has the niceness %s, want %d", got, want)
		}
	}
}

// What has forked before it could not be settled leaves nothing behind.
func TestAbandonedProgramLeavesNothing(t *testing.T) {
	forker := newForker(t)
	name := filepath.Base(filepath.Dir(filepath.Dir(forker))) + "-sleep" // that nothing else has
	s := &Sandbox{OOMScoreAdj: 1_000_000}
	for range 20 {
		cmd := &Command{Argv: []string{forker, "/bin/sleep", name, "600"}, Dir: "/", Sandbox: s}
		if p, err := new(Local).Start(t.Context(), cmd); err == nil {
			p.Kill()
			t.Fatal("a program runs without what was asked for")
		}
	}
	polltest.Until(t, "the end of what it has forked", func() bool {
		names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		return !slices.ContainsFunc(names, func(file string) bool {
			text, _ := os.ReadFile(file)
			return strings.HasPrefix(string(text), name+"\x00")
		})
	})
}
