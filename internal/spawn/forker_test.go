package spawn

import (
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

// newForker makes a program whose first instructions fork: its child executes the second
// argument with those from the third on, and has what the program had when it began.
func newForker(t *testing.T) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("there is no such program for this architecture")
	}
	a := &assembler{labels: make(map[string]int), uses: make(map[int]string)}
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
	return runnertest.WriteFile(t, filepath.Join(t.TempDir(), "forker"), string(elfAMD64(a.link())), 0o755)
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

// A program that has to be moved to its group is there before it can fork, also where
// something else executes it.
func TestLateGroupHasAllChildren(t *testing.T) {
	pool, err := openTree(t, func(int) error { return unix.ENOSYS }).Pool("late", cgroup.Limits{Required: true})
	if err != nil {
		t.Fatal(err)
	}
	forker := newForker(t)
	RefuseTrace(t) // for limits there is a limiter then
	for name, s := range map[string]*Sandbox{"plain": nil, "limited": {Rlimits: []Rlimit{{"nofile", unix.RLIMIT_NOFILE, 64}}}} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				got := childSays(t, &Command{Sandbox: s, Cgroup: pool, OwnCgroup: true}, forker, "cat /proc/self/cgroup; ulimit -n")
				if !strings.Contains(got, "/pool-late/") || s != nil && !strings.HasSuffix(got, "\n64") {
					t.Fatalf("a child is in %s", got)
				}
			}
		})
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
