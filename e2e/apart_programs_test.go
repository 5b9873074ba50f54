//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// apartPrograms are pools of programs below a folder, all of other users than the daemon.
func (a *apart) programs(t *testing.T) string {
	t.Helper()
	dir := a.dir
	script(t, dir+"/cgi/who", whoAmI)
	script(t, dir+"/cgi/body", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nwc -c </dev/stdin; echo said >/dev/stderr\n")
	script(t, dir+"/cgi/sleep", strings.ReplaceAll("#!/bin/sh\necho $$ >DIR/run/pid\n(setsid sleep 600 </dev/null >/dev/null 2>&1 &)\nsleep 600\n", "DIR", dir))
	write(t, dir+"/cgi/who.php", "<?php echo posix_geteuid(), ' ', posix_getegid(), ' ', getmypid();")
	if err := os.Mkdir(dir+"/run", 0o777); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	if err := os.Chmod(dir+"/run", 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("DIR", dir, "PHP", need(t, "php-cgi"), "AS1", asUser(64101), "AS2", asUser(64102), "AS3", asUser(64103)).Replace(
		`- {name: one, listen: "unix:@ADDRESS-one", AS1, groups: ["7"], process: {root: [DIR/cgi]}, limits: {body_memory: 4KiB}, timeout: 20s}
- {name: two, listen: "unix:@ADDRESS-two", AS2, groups: ["7"], process: {root: [DIR/cgi]}, timeout: 0, sandbox: {rlimits: [nofile=77]}}
- {name: php, listen: "unix:@ADDRESS-php", AS3, worker: {command: [PHP], root: [DIR/cgi], max: 2, min: 2}, timeout: 20s}
`)
}

// at asks one of those pools.
func (a *apart) at(t *testing.T, pool, name string, body string) (fcgi.Result, string) {
	t.Helper()
	req := &fcgi.Request{Close: true, Params: params(a.dir + "/cgi/" + name)}
	if body != "" {
		req.Stdin = strings.NewReader(body)
		req.Params.Set("REQUEST_METHOD", "POST")
		req.Params.Set("CONTENT_LENGTH", fmt.Sprint(len(body)))
	}
	return ask(t, "unix", "@"+a.address+"-"+pool, req)
}

func (a *apart) withPrograms(t *testing.T) string {
	return a.pools(strings.ReplaceAll(a.programs(t), "ADDRESS", a.address))
}

// A daemon that may do nothing has the programs of its pools run, each as its user; a reload
// changes one's user, and what is killed takes all programs with it.
func TestApartPrograms(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	a.configure(a.withPrograms(t))
	a.order(t, "reload").is(t, "reload", 0, "php: added")
	for _, test := range []struct{ pool, script, body, want string }{
		{"one", "who", "", "64101 64101 64101 7 /"},
		{"two", "who", "", "64102 64102 64102 7 /"},
		{"one", "body", "hello", "\n5\n"},
		{"one", "body", strings.Repeat("x", 100_000), "\n100000\n"},
		{"php", "who.php", "", "64103 64103 "},
	} {
		if res, out := a.at(t, test.pool, test.script, test.body); res.AppStatus != 0 || !strings.Contains(out, test.want) {
			t.Errorf("pool %s: %+v %q, want %q", test.pool, res, out, test.want)
		}
	}
	if _, out := a.at(t, "one", "none", ""); !strings.HasPrefix(out, "Status: 404") {
		t.Errorf("no such script: %q", out)
	}
	if got := children(a.served); len(got) != 0 {
		t.Errorf("the daemon has the children %v", got)
	}
	a.configure(strings.ReplaceAll(a.withPrograms(t), "64103", "64104"))
	a.order(t, "reload").is(t, "reload of another user", 0, "php: user 64103→64104")
	if _, out := a.at(t, "php", "who.php", ""); !strings.Contains(out, "64104 64104") {
		t.Errorf("after the reload: %q", out)
	}
	a.ping(t)
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 0 || !strings.Contains(a.out.String(), `"msg":"stopped"`) {
		t.Errorf("exit status %d", code)
	}
	await(t, "the programs to be gone", func() bool {
		return len(programsOf(t, 64101))+len(programsOf(t, 64102))+len(programsOf(t, 64103))+len(programsOf(t, 64104)) == 0
	})
}

// A secret in root's environment reaches the programs of the pools that pass it, scripts and
// workers, and not the daemon; that has what it needs itself.
func TestApartEnvironment(t *testing.T) {
	t.Parallel()
	const secret = "SECRET_OF_POOL=hush, hush"
	a := serveApart(t, func(cmd *exec.Cmd) {
		cmd.Env = append(os.Environ(), secret, "GOOGLE_APPLICATION_CREDENTIALS=/x", "FCGID_LOG_LEVEL=debug", "TZ=Asia/Tokyo", "LC_TIME=C")
	})
	script(t, a.dir+"/cgi/secret", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nenv\n")
	pools := a.withPrograms(t)
	write(t, a.dir+"/cgi/secret.php", "<?php echo 'SECRET_OF_POOL=', getenv('SECRET_OF_POOL');")
	pools = strings.ReplaceAll(pools, "{name: one,", "{name: one, pass_env: [PATH, SECRET_OF_POOL],")
	pools = strings.ReplaceAll(pools, "{name: php,", "{name: php, pass_env: [PATH, SECRET_OF_POOL],")
	a.configure(pools)
	a.order(t, "reload").is(t, "reload", 0)
	for _, test := range []struct {
		pool, script string
		has          bool
	}{{"one", "secret", true}, {"two", "secret", false}, {"php", "secret.php", true}} {
		if res, out := a.at(t, test.pool, test.script, ""); res.AppStatus != 0 || strings.Contains(out, secret) != test.has {
			t.Errorf("pool %s: %+v %q", test.pool, res, out)
		}
	}
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", a.served))
	if err != nil {
		t.Fatal(err)
	}
	for _, unwanted := range []string{"hush", "GOOGLE_APPLICATION_CREDENTIALS"} {
		if strings.Contains(string(environ), unwanted) {
			t.Errorf("the daemon has %s: %q", unwanted, environ)
		}
	}
	for _, wanted := range []string{"FCGID_LOG_LEVEL=debug", "TZ=Asia/Tokyo", "LC_TIME=C", "PATH=", "STATE_DIRECTORY="} {
		if !strings.Contains(string(environ), wanted) {
			t.Errorf("the daemon has no %s: %q", wanted, environ)
		}
	}
}

// Whichever of the two is killed, no program is left, of nobody: also what has left its group
// and its session when the daemon is.
func TestApartKilledWithPrograms(t *testing.T) {
	for name, victim := range map[string]func(*apart) int{
		"daemon":  func(a *apart) int { return a.served },
		"spawner": func(a *apart) int { return a.Process.Pid },
	} {
		t.Run(name, func(t *testing.T) {
			a := serveApart(t)
			a.configure(a.withPrograms(t))
			a.order(t, "reload").is(t, "reload", 0)
			c, err := fcgi.Dial(t.Context(), "unix:@"+a.address+"-two")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			go c.Do(t.Context(), &fcgi.Request{Params: params(a.dir + "/cgi/sleep")})
			pid := awaitPID(t, a.dir+"/run/pid")
			if err := unix.Kill(victim(a), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if code := a.exitCode(); code == 0 {
				t.Error("exit status 0")
			}
			awaitGone(t, []int{a.served, pid})
			left := func() int { return len(programsOf(t, 64102)) + len(programsOf(t, 64103)) }
			if name == "daemon" {
				await(t, "all programs to be gone", func() bool { return left() == 0 })
				return
			}
			for pid := range programsOf(t, 64102) { // which has left its group and its session, and has no parent any more
				unix.Kill(pid, unix.SIGKILL)
			}
			await(t, "the programs to be gone", func() bool { return left() == 0 })
		})
	}
}

// The example of the documentation, for users that there are.
func TestDocumentedApart(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := folder(t)
	who := script(t, dir+"/cgi/who", whoAmI)
	if err := errors.Join(os.Mkdir(dir+"/run", 0o755), os.Chown(dir+"/run", 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	user, pools, _ := strings.Cut(harness.Documented(t, "docs/users.md", "daemon-apart",
		"user: fcgid", "user: nobody", "/run/fcgid/alice.sock", dir+"/run/s", "user: alice", "user: daemon", "/home/alice/cgi-bin", dir+"/cgi"), "pools:\n")
	serve(t, dir, pools+user)
	if _, out := ask(t, "unix", dir+"/run/s", &fcgi.Request{Close: true, Params: params(who)}); !strings.HasSuffix(out, "1 1 1 /usr/sbin") {
		t.Errorf("the program runs as %q", out)
	}
}

// Direct workers of another user than the daemon's have its socket, and leave it to those that
// take their place.
func TestApartDirect(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	a.programs(t)
	pool := a.pools(strings.NewReplacer("ADDRESS", a.address, "PHP", need(t, "php-cgi"), "AS", asUser(64107)).Replace(
		`- {name: own, listen: "unix:@ADDRESS-own", AS, env: [GEN=a], worker: {command: [PHP], connections: direct, scale: static, max: 2}}` + "\n"))
	a.configure(pool)
	a.order(t, "reload").is(t, "reload", 0, "own: added")
	who := func() (pid string) {
		t.Helper()
		_, out := a.at(t, "own", "who.php", "")
		_, body, _ := strings.Cut(out, "\r\n\r\n")
		fields := strings.Fields(body)
		if len(fields) != 3 || fields[0] != "64107" || fields[1] != "64107" {
			t.Fatalf("got %q", out)
		}
		return fields[2]
	}
	before := programsOf(t, 64107)
	who()
	a.configure(strings.Replace(pool, "GEN=a", "GEN=b", 1))
	a.order(t, "reload").is(t, "reload of other workers", 0, "own: env GEN changed; workers replaced: 2 of 2")
	await(t, "the old workers to be gone", func() bool {
		for pid := range programsOf(t, 64107) {
			if _, old := before[pid]; old {
				return false
			}
		}
		return true
	})
	who()
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	await(t, "the programs to be gone", func() bool { return len(programsOf(t, 64107)) == 0 })
}
