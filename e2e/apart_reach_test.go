//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/fcgi"
)

// hasLandlock reports whether this kernel bounds a daemon to its folders.
func hasLandlock() bool {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	return errno == 0 && abi > 0
}

// The daemon writes to the folders of its logs and spool files, and where a reload has it write
// elsewhere, that is refused before anything changes, whatever the folder's mode; files beside those that
// it has are fine, and so are files that a rotation has moved away. An upgrade takes what a reload
// does not.
func TestApartWritesToItsOwn(t *testing.T) {
	t.Parallel()
	needRoot(t)
	u := newUpgradable(t, true, "- {name: fn, listen: 'unix:DIR/s', function: {}, slow: {after: 10s, log: DIR/a.log}}\n")
	elsewhere := folder(t)
	if err := errors.Join(os.Chown(elsewhere, 65534, 65534), os.Chmod(elsewhere, 0o777)); err != nil {
		t.Fatal(err)
	}
	pools := func(log, spool string) string {
		return fmt.Sprintf("- {name: fn, listen: 'unix:%s/s', function: {}, slow: {after: 10s, log: %s}}\nspool_dir: %q\n", u.dir, log, spool)
	}
	order := func(args ...string) output {
		code, stdout, stderr := fcgid(t, "/", nil, append(args, "-c", u.file, "--control", u.dir+"/control")...)
		return output{code, stdout, stderr}
	}
	u.configure(pools(u.dir+"/b.log", u.dir))
	order("reload").is(t, "a log beside the other", 0, "reloaded")
	if err := os.Rename(u.dir+"/b.log", u.dir+"/old.log"); err != nil {
		t.Fatal(err)
	}
	u.daemon.signal(syscall.SIGUSR1)
	await(t, "the log to be opened anew", func() bool { _, err := os.Stat(u.dir + "/b.log"); return err == nil })
	old := u.running()
	if !hasLandlock() {
		t.Log("this kernel has no Landlock: reloads are not refused")
	} else {
		for key, file := range map[string]string{"pools[0].slow.log": pools(elsewhere+"/c.log", ""), "spool_dir": pools(u.dir+"/b.log", elsewhere)} {
			u.configure(file)
			for _, verb := range []string{"check --diff", "reload"} {
				order(strings.Fields(verb)...).is(t, verb+": "+key, 1, key+": "+elsewhere, "cannot be given another folder", "restart it, or fcgid upgrade")
			}
			if entries, err := os.ReadDir(elsewhere); err != nil || len(entries) > 0 || u.running() != old {
				t.Errorf("%s: %v, %v", key, entries, err)
			}
		}
	}
	u.configure(pools(elsewhere+"/c.log", elsewhere))
	u.upgrade().is(t, "an upgrade", 0)
	if _, err := os.Stat(elsewhere + "/c.log"); err != nil {
		t.Error(err)
	}
	order("reload").is(t, "a reload of the new daemon", 0, "reloaded")
}

// What a daemon is refused it is refused in all of its threads, by a filter of its own.
func TestApartFilter(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	a.ping(t)
	filters := func(pid string) int {
		n, _ := strconv.Atoi(procFields(t, pid)["Seccomp_filters"])
		return n
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", a.served))
	if err != nil {
		t.Fatal(err)
	}
	outside := filters(strconv.Itoa(a.Process.Pid))
	for _, task := range tasks {
		pid := fmt.Sprintf("%d/task/%s", a.served, task.Name())
		status := procFields(t, pid)
		if status["Seccomp"] != "2" || filters(pid) != outside+1 || status["NoNewPrivs"] != "1" || status["CapBnd"] != "0000000000000000" {
			t.Errorf("thread %s: seccomp %s by %d filters, the spawner has %d; no_new_privs %s", task.Name(), status["Seccomp"], filters(pid), outside, status["NoNewPrivs"])
		}
	}
}

// Functions of one's own run in a daemon that is another user, and do what that user may.
func TestApartFunctions(t *testing.T) {
	t.Parallel()
	program, err := misbehaving()
	if err != nil {
		t.Fatal(err)
	}
	a := serveApart(t, func(cmd *exec.Cmd) { cmd.Path = program })
	elsewhere := folder(t)
	if err := os.Chmod(elsewhere, 0o777); err != nil {
		t.Fatal(err)
	}
	a.configure(strings.Replace(a.pools(""), "fcgid.ping,", "fcgid.ping, acts,", 1))
	a.order(t, "reload").is(t, "reload", 0, "reloaded")
	res, out := ask(t, "tcp", a.address, &fcgi.Request{Close: true, Params: params("acts", "QUERY_STRING", elsewhere+"/file")})
	if res.AppStatus != 0 || !strings.HasSuffix(out, "written by 65534\n") {
		t.Errorf("%+v %q", res, out)
	}
	if status := procStatus(t, a.served); status["Seccomp"] != "2" || status["NoNewPrivs"] != "1" {
		t.Errorf("seccomp %s, no_new_privs %s", status["Seccomp"], status["NoNewPrivs"])
	}
}
