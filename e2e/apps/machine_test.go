//go:build apps

package apps

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// A machine is a mount namespace, which a process keeps: what runs there has an /etc of its own,
// a copy in memory, so that it can be given accounts and configured at the paths that the documents
// have; and a /run, a /srv and a /var/log that nobody else sees. It ends with that process.
type machine struct {
	t      *testing.T
	dir    string // of its /run and /srv
	keeper *harness.Program
}

// newMachine makes one. Where we are not root, or the kernel does not let us, the test is skipped.
func newMachine(t *testing.T) *machine {
	t.Helper()
	unshare := harness.Need(t, "unshare")
	if out, err := exec.Command(unshare, "--mount", "true").CombinedOutput(); err != nil {
		t.Skipf("this machine lets us make no mount namespaces: %v: %s", err, out)
	}
	m := &machine{t: t, dir: harness.Folder(t)}
	var namespace string
	t.Cleanup(func() { // when all that was started here has been ended
		var left []string
		harness.Await(t, "the machine to be empty", func() bool {
			left = processesIn(namespace)
			return len(left) == 0
		})
	})
	m.keeper = harness.Start(t, exec.Command(unshare, "--mount", "--propagation", "private", "sh", "-euc", `
		cd "$1"
		mkdir etc run run/fcgid srv
		mount -t tmpfs -o mode=0755 tmpfs etc
		cp -a /etc/. etc
		mount --bind etc /etc
		mount --bind run /run
		mount --bind srv /srv
		mount -t tmpfs -o mode=0755 tmpfs /var/log
		cd /
		echo up
		exec sleep infinity`, "sh", m.dir))
	harness.Await(t, "the machine", func() bool {
		if m.keeper.Exited() {
			t.Fatalf("the machine: %v: %s", m.keeper.Err, m.keeper.Out)
		}
		return strings.Contains(m.keeper.Out.String(), "up")
	})
	namespace, _ = os.Readlink(m.proc("ns/mnt"))
	return m
}

// processesIn are the pids of those that are in a mount namespace, with their commands.
func processesIn(namespace string) (found []string) {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/mnt")
	for _, link := range links {
		if is, err := os.Readlink(link); err == nil && is == namespace {
			pid := filepath.Base(filepath.Dir(filepath.Dir(link)))
			command, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			found = append(found, pid+" "+strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return found
}

func (m *machine) proc(name string) string {
	return fmt.Sprintf("/proc/%d/%s", m.keeper.Process.Pid, name)
}

// path is where a file of the machine is found from outside.
func (m *machine) path(name string) string { return m.proc("root" + name) }

// enter lets a command run on the machine, as root.
func (m *machine) enter(cmd *exec.Cmd) {
	cmd.Args = append([]string{"nsenter", "--mount=" + m.proc("ns/mnt"), "--", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = harness.Need(m.t, "nsenter")
	// fcgid is in the PATH, as when it is installed, and its admin server in nobody's way.
	cmd.Env = append(cmd.Environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "GORACE=atexit_sleep_ms=10",
		"RUNTIME_DIRECTORY=/run/fcgid", "FCGID_ADMIN_LISTEN=unix:/run/fcgid/admin.sock")
}

// sh is a shell's command on the machine.
func (m *machine) sh(script string) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-euc", script)
	m.enter(cmd)
	return cmd
}

// run has a shell run a script on the machine, and returns what it printed.
func (m *machine) run(script string) string {
	m.t.Helper()
	return harness.Run(m.t, m.sh(script))
}

// credential is the user and the group of an account of the machine.
func (m *machine) credential(name string) *syscall.Credential {
	m.t.Helper()
	return credential(m.t, strings.TrimSpace(m.run("id -u "+name)), strings.TrimSpace(m.run("id -g "+name)))
}

// owner is the number of the user whom a file of the machine belongs to.
func (m *machine) owner(name string) uint32 {
	m.t.Helper()
	info, err := os.Lstat(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Uid
}
