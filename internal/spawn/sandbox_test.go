package spawn_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// nobody is a user that owns nothing.
var nobody = &spawn.Identity{UID: 65534, GID: 65534}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can start programs of other users")
	}
}

func umask(mask uint32) *uint32 { return &mask }

// output is what a shell says under a sandbox, and how it ended.
func output(t *testing.T, l *spawn.Local, cmd *spawn.Command, script string) (string, error) {
	t.Helper()
	cmd.Argv, cmd.Dir, cmd.Env = []string{"/bin/sh", "-c", script}, "/", append(cmd.Env, "PATH="+os.Getenv("PATH"))
	var out strings.Builder
	err := spawn.Run(t.Context(), l, cmd, &out)
	return out.String(), err
}

// says is output of what ends with status 0.
func says(t *testing.T, l *spawn.Local, cmd *spawn.Command, script string) string {
	t.Helper()
	text, err := output(t, l, cmd, script)
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, text)
	}
	return strings.TrimSpace(text)
}

// threads is how many of this process are of sandboxes.
func threads(t testing.TB) (n int) {
	t.Helper()
	names, err := filepath.Glob("/proc/self/task/*/comm")
	runnertest.Must(t, err)
	for _, name := range names {
		if comm, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(comm), "sandbox") {
			n++
		}
	}
	return n
}

func TestUmask(t *testing.T) {
	var l spawn.Local
	for mask, want := range map[uint32]string{0o077: "0077", 0o002: "0002", 0: "0000"} {
		if got := says(t, &l, &spawn.Command{Sandbox: &spawn.Sandbox{Umask: umask(mask)}}, "umask"); got != want {
			t.Errorf("the umask is %s, want %s", got, want)
		}
	}
	ours := says(t, &l, &spawn.Command{}, "umask")
	// A program changes its own alone.
	strict := &spawn.Sandbox{Umask: umask(0o077)}
	says(t, &l, &spawn.Command{Sandbox: strict}, "umask 0; exec true")
	if got := says(t, &l, &spawn.Command{Sandbox: strict}, "umask"); got != "0077" {
		t.Errorf("another program has changed the umask to %s", got)
	}
	if got := says(t, &l, &spawn.Command{}, "umask"); got != ours {
		t.Errorf("without a sandbox the umask is %s, was %s", got, ours)
	}
}

// A thread that has an umask of its own is told that one, and nobody else is.
func TestUmaskOfThread(t *testing.T) {
	before, asked := spawn.Umask(), make(chan uint32)
	go func() {
		defer close(asked)
		runtime.LockOSThread() // for good: the thread ends with this function
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			t.Error(err)
			return
		}
		unix.Umask(0o135)
		asked <- spawn.Umask()
	}()
	if got := <-asked; got != 0o135 {
		t.Errorf("the thread's umask is %04o, want 0135", got)
	}
	if got := spawn.Umask(); got != before {
		t.Errorf("the umask is %04o, was %04o", got, before)
	}
}

func TestNoNewPrivs(t *testing.T) {
	var l spawn.Local
	const look = "grep NoNewPrivs /proc/self/status"
	if got := says(t, &l, &spawn.Command{Sandbox: &spawn.Sandbox{NoNewPrivs: true}}, look); got != "NoNewPrivs:\t1" {
		t.Errorf("with no_new_privs: %s", got)
	}
	if got := says(t, &l, &spawn.Command{}, look); got != "NoNewPrivs:\t0" {
		t.Errorf("without: %s", got)
	}
	needRoot(t)
	// A set-user-ID program of root, which a user may run.
	dir := openFolder(t)
	tool := filepath.Join(dir, "id")
	id, err := os.ReadFile("/usr/bin/id")
	runnertest.Must(t, err)
	runnertest.WriteFile(t, tool, string(id), 0o755)
	runnertest.Must(t, os.Chmod(tool, 0o755|os.ModeSetuid))
	if got := says(t, &l, &spawn.Command{Identity: nobody}, tool+" -u"); got != "0" {
		t.Skipf("a set-user-ID program runs as %s here", got)
	}
	if got := says(t, &l, &spawn.Command{Identity: nobody, Sandbox: &spawn.Sandbox{NoNewPrivs: true}}, tool+" -u"); got != "65534" {
		t.Errorf("with no_new_privs a set-user-ID program runs as %s", got)
	}
}

// openFolder is a folder that everybody can reach.
func openFolder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		runnertest.Must(t, os.Chmod(d, 0o755))
	}
	return dir
}

func TestNiceAndOOMScore(t *testing.T) {
	var l spawn.Local
	ours := says(t, &l, &spawn.Command{}, "nice; cat /proc/self/oom_score_adj")
	var nice, score int
	fmt.Sscan(ours, &nice, &score)
	s := &spawn.Sandbox{Nice: 3, OOMScoreAdj: score + 100}
	// They come to the program when it has begun.
	want := fmt.Sprintf("%d\n%d", nice+3, score+100)
	polltest.Until(t, "nice and oom_score_adj", func() bool {
		return says(t, &l, &spawn.Command{Sandbox: s}, "sleep 0.05; nice; cat /proc/self/oom_score_adj") == want
	})
	if got := says(t, &l, &spawn.Command{}, "nice; cat /proc/self/oom_score_adj"); got != ours {
		t.Errorf("without a sandbox: %s, was %s", got, ours)
	}
}

func TestIdentity(t *testing.T) {
	needRoot(t)
	var l spawn.Local
	who := &spawn.Identity{UID: 65534, GID: 65533, Groups: []uint32{7, 8}}
	if got := says(t, &l, &spawn.Command{Identity: who}, "id -u; id -g; id -G"); got != "65534\n65533\n65533 7 8" {
		t.Errorf("runs as %s", got)
	}
	if got := says(t, &l, &spawn.Command{Identity: nobody}, "id -G"); got != "65534" {
		t.Errorf("has the groups %s", got)
	}
	if _, err := output(t, &l, &spawn.Command{Identity: nobody}, "cat /etc/shadow"); err == nil {
		t.Error("reads /etc/shadow")
	}
}

// A program of another user can open its input and output by name.
func TestIdentityOpensItsFiles(t *testing.T) {
	needRoot(t)
	var l spawn.Local
	if got := says(t, &l, &spawn.Command{Identity: nobody, IO: spawn.IO{Stdin: true, Input: []byte("input")}}, "cat /dev/stdin >/dev/stdout; echo 2>/dev/stderr"); got != "input" {
		t.Errorf("a pipe: %q", got)
	}
	file, err := os.CreateTemp(t.TempDir(), "")
	runnertest.Must(t, err)
	defer file.Close()
	runnertest.Must(t, os.WriteFile(file.Name(), []byte("body"), 0o600))
	runnertest.Must(t, os.Remove(file.Name()))
	if got := says(t, &l, &spawn.Command{Identity: nobody, IO: spawn.IO{File: file}}, "cat /dev/stdin"); got != "body" {
		t.Errorf("a file: %q", got)
	}
	for _, script := range []string{"echo more >>/dev/stdin", ": >/dev/stdin", "chmod 0600 /dev/stdin"} {
		if text, err := output(t, &l, &spawn.Command{Identity: nobody, IO: spawn.IO{File: file}}, script); err == nil {
			t.Errorf("%s is permitted: %s", script, text)
		}
	}
	if info, err := file.Stat(); err != nil || info.Size() != 4 {
		t.Errorf("the file was changed: %v, %v", info, err)
	}
}

// The threads of a sandbox end with the last of its programs, or with the last that
// holds it.
func TestThreadsOfSandboxEnd(t *testing.T) {
	var l spawn.Local
	s := &spawn.Sandbox{Umask: umask(0o027)}
	release, err := l.Hold(s, nil)
	runnertest.Must(t, err)
	held := threads(t)
	says(t, &l, &spawn.Command{Sandbox: s}, "true")
	again, err := l.Hold(&spawn.Sandbox{Umask: umask(0o027)}, nil)
	runnertest.Must(t, err)
	if now := threads(t); now != held {
		t.Errorf("equal sandboxes have %d threads, then %d", held, now)
	}
	r := run(t, &l, &spawn.Command{Argv: []string{"/bin/sh", "-c", "echo $$; read x; umask"}, IO: spawn.IO{Stdin: true}, Sandbox: s})
	r.pid()
	release()
	again()
	release()
	if now := threads(t); now != held {
		t.Errorf("%d threads of %d are left while their program runs", now, held)
	}
	r.Stdin.Close()
	if got := r.line(); got != "0027" {
		t.Errorf("the program said %s", got)
	}
	if e := r.wait(); e.Code() != 0 {
		t.Errorf("the program ended with %d", e.Code())
	}
	polltest.Until(t, "the end of the threads", func() bool { return threads(t) == 0 })
}

// A sandbox that changes with each of many reloads leaves no thread behind.
func TestNoThreadLeak(t *testing.T) {
	var l spawn.Local
	release := func() {}
	for i := range 1000 {
		s := &spawn.Sandbox{Name: "www", Umask: umask(uint32(i % 512)), NoNewPrivs: i%2 == 0}
		next, err := l.Hold(s, nil)
		runnertest.Must(t, err)
		release()
		release = next
		if i%100 == 0 {
			says(t, &l, &spawn.Command{Sandbox: s}, "true")
		}
	}
	release()
	polltest.Until(t, "the end of the threads", func() bool { return threads(t) == 0 })
}
