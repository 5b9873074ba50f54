package pool

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// sandboxThreads is how many threads of this process are of sandboxes.
func sandboxThreads() (n int) {
	names, _ := filepath.Glob("/proc/self/task/*/comm")
	for _, name := range names {
		if comm, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(comm), "sandbox") {
			n++
		}
	}
	return n
}

func cgiIn(sandbox string) string {
	return "{name: cgi, listen: unix:%D/cgi, process: {root: [%D]}, sandbox: " + sandbox + "}"
}

// A pool's programs are under its sandbox, from one reload to the next.
func TestSandboxOfProcessPool(t *testing.T) {
	s := newTestSet(t)
	s.script("look", `printf 'Content-Type: text/plain\r\n\r\n%s %s' "$(umask)" "$(grep -c 'NoNewPrivs:.1' /proc/self/status)"`)
	for sandbox, want := range map[string]string{
		"{}": "0022 0", "{umask: '0077'}": "0077 0", "{umask: '0002', no_new_privs: true}": "0002 1",
	} {
		s.configure(cgiIn(sandbox))
		if got := s.ask("cgi", "%D/look"); got != want {
			t.Errorf("%s: the program says %s, want %s", sandbox, got, want)
		}
	}
	s.configure(poolA)
	polltest.Until(t, "the end of the sandbox's threads", func() bool { return sandboxThreads() == 0 })
}

// Workers get a changed sandbox as they get a changed command: they are replaced.
func TestSandboxOfWorkerPool(t *testing.T) {
	s := newTestSet(t)
	pool := func(sandbox string) string {
		return strings.TrimSuffix(workerText("w", "w", "old"), "}") + ", sandbox: " + sandbox + "}"
	}
	s.configure(pool("{no_new_privs: true}"))
	s.answers("w", "x", "old")
	before := s.running()["w"].workers.Snapshot().Workers[0].PID
	s.configure(pool("{no_new_privs: true}"), poolA)
	s.answers("w", "x", "old")
	if now := s.running()["w"].workers.Snapshot().Workers[0].PID; now != before {
		t.Error("the same sandbox has replaced the worker")
	}
	s.configure(pool("{no_new_privs: true, umask: '0027'}"))
	polltest.Until(t, "another worker", func() bool {
		workers := s.running()["w"].workers.Snapshot().Workers
		return len(workers) == 1 && workers[0].PID != before
	})
	s.answers("w", "x", "old")
}

// What cannot be done is refused before anything changes, and the key is named.
func TestSandboxIsRefused(t *testing.T) {
	s := newTestSet(t)
	s.script("hello", `printf 'Content-Type: text/plain\r\n\r\nhello'`)
	s.configure(cgiIn("{}"))
	gone := filepath.Join(s.dir, "gone")
	if err := os.Mkdir(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	text := cgiIn("{no_new_privs: true, read: [/, " + gone + "]}")
	s.configure(text)
	s.answers("cgi", "%D/hello", "hello")
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	if got := s.ask("cgi", "%D/hello"); !strings.HasPrefix(got, "502") {
		t.Errorf("without a folder of sandbox.read the answer is %q", got)
	}
	polltest.Until(t, "a log that says what is missing", func() bool {
		return strings.Contains(fmt.Sprint(s.logs.All()), "sandbox.read: "+gone+": no such file")
	})
}

// A thousand reloads that change a sandbox leave no thread, and lose no program.
func TestReloadsOfSandbox(t *testing.T) {
	s := newTestSet(t)
	s.script("umask", `printf 'Content-Type: text/plain\r\n\r\n%s' "$(umask)"`)
	for i := range 1000 {
		mask := fmt.Sprintf("%04o", i%0o100)
		s.configure(cgiIn(fmt.Sprintf("{umask: '%s', nice: %d}", mask, i%2)))
		if i%100 == 0 {
			if got := s.ask("cgi", "%D/umask"); got != mask {
				t.Fatalf("after reload %d the umask is %s, want %s", i, got, mask)
			}
		}
	}
	polltest.Until(t, "one sandbox's threads", func() bool { return sandboxThreads() <= 4 })
}

// A seenIdentity is a Spawner that is told who programs run as, and holds nothing.
type seenIdentity struct {
	spawn.Spawner
	fit, held *spawn.Identity
}

func (s *seenIdentity) Fit(box spawn.Sandbox, id *spawn.Identity) (spawn.Sandbox, []spawn.Lack) {
	s.fit = id
	return box, nil
}

func (s *seenIdentity) Hold(_ *spawn.Sandbox, id *spawn.Identity) (func(), error) {
	s.held = id
	return func() {}, nil
}

// Where scripts run as their owners the sandbox is one of theirs, not root's, nor that of
// the user who looks for scripts.
func TestSandboxOfOwners(t *testing.T) {
	for name, test := range map[string]struct {
		cfg  config.Pool
		want *spawn.Identity
	}{
		"owners":          {config.Pool{Sandbox: config.Sandbox{Owner: true, MinUID: 2000}}, &spawn.Identity{UID: 2000, GID: 2000}},
		"with a user":     {config.Pool{Sandbox: config.Sandbox{Owner: true, MinUID: 2000}, RunsAs: &config.Identity{UID: 33, GID: 33}}, &spawn.Identity{UID: 2000, GID: 2000}},
		"without":         {config.Pool{Sandbox: config.Sandbox{MinUID: 2000}}, nil},
		"a user's script": {config.Pool{RunsAs: &config.Identity{UID: 33, GID: 34}}, &spawn.Identity{UID: 33, GID: 34}},
	} {
		by := new(seenIdentity)
		s := newTestSet(t)
		s.opt.Spawner = by
		test.cfg.Sandbox.NoNewPrivs = true
		if _, err := s.prepareSandbox(&test.cfg, ""); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(by.fit, test.want) || !reflect.DeepEqual(by.held, test.want) {
			t.Errorf("%s: fitted for %+v and held for %+v, want %+v", name, by.fit, by.held, test.want)
		}
	}
}

// The preset is all of it there for owners' scripts, and may be required: its nproc is a
// limit of theirs.
func TestStrictOfOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start programs as somebody else")
	}
	s := newTestSet(t)
	err := os.WriteFile(filepath.Join(s.dir, "f"), []byte(s.expand("pools:\n- {name: a, listen: unix:%D/a, process: {root: [/usr]}, sandbox: {owner: true, preset: strict}}\n")), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.LoadAndCheck(filepath.Join(s.dir, "f"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, lacks, err := launch.FitSandbox(s.opt.Spawner, &cfg.Pools[0], 0o022)
	if err != nil || strings.Contains(fmt.Sprint(lacks), "nproc") {
		t.Errorf("lacks %v, error %v", lacks, err)
	}
}

// A body in a file can be opened by its name in the sandbox, wherever a reload has put it.
func TestSandboxFollowsSpoolDir(t *testing.T) {
	s := newTestSet(t)
	s.script("count", `printf 'Content-Type: text/plain\r\n\r\n%s' "$(wc -c </dev/stdin)"`)
	for _, folder := range []string{"root", "one", "two"} {
		if err := os.Mkdir(filepath.Join(s.dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(s.dir, "count"), filepath.Join(s.dir, "root/count")); err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20 // is more than body_memory
	pool := "{name: cgi, listen: unix:%D/cgi, process: {root: [%D/root]}, sandbox: {no_new_privs: true, read: [/usr, -/bin, -/lib, -/lib64, -/etc/ld.so.cache, %D/root]}}"
	for _, folder := range []string{"one", "two"} {
		s.configure(pool + "\nspool_dir: %D/" + folder)
		if got := s.askWith("cgi", "%D/root/count", strings.Repeat("x", size)); got != fmt.Sprint(size) {
			t.Errorf("with spool_dir %s the program says %q of its body, want %d", folder, got, size)
		}
	}
}

// askWith is ask with a body.
func (s *testSet) askWith(socket, script, body string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := fcgi.Dial(ctx, "unix:"+filepath.Join(s.dir, socket))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	var out strings.Builder
	params := fcgi.Params{{Name: "SCRIPT_FILENAME", Value: s.expand(script)}, {Name: "REQUEST_METHOD", Value: "POST"}, {Name: "CONTENT_LENGTH", Value: fmt.Sprint(len(body))}}
	if _, err := c.Do(ctx, &fcgi.Request{Close: true, Params: params, Stdin: strings.NewReader(body), Stdout: &out}); err != nil {
		s.t.Fatal(err)
	}
	_, text, _ := strings.Cut(out.String(), "\r\n\r\n")
	return text
}
