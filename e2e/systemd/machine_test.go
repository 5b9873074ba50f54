//go:build systemd

// Package systemd tries what make install puts on a machine, and what the documents
// say about it, on a real systemd: each test boots a Debian of its own.
// scripts/test-systemd runs it.
package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

func TestMain(m *testing.M) {
	if os.Getenv("FCGID_TEST_ROOT") == "" {
		fmt.Fprintln(os.Stderr, "run make test-systemd: it makes the Debian that the tests boot")
		os.Exit(1)
	}
	if out, err := exec.Command("make", "-C", "../..").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "make: %v\n%s", err, out)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// A machine is a Debian with fcgid installed by make install. What is written to it
// stays over a reboot, and is gone when the test has ended.
type machine struct {
	t      *testing.T
	root   string // its file system, before it boots
	cgroup string

	nspawn *exec.Cmd
	ended  chan struct{}   // closed when nspawn has been waited for
	out    *harness.Output // of the console
	init   int             // pid of its systemd
}

// newMachine makes a machine that has not booted yet. The layers are folders of the
// test's root that lie above its base: "postfix" has that in place of Exim.
func newMachine(t *testing.T, layers ...string) *machine {
	t.Helper()
	dir := t.TempDir()
	m := &machine{t: t, root: dir + "/root"}
	mount := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("mount %v: %v: %s", args, err, out)
		}
	}
	unmount := func(dir string) {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	}
	mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", dir)
	t.Cleanup(func() { unmount(dir) })
	for _, sub := range []string{"/root", "/upper", "/work"} {
		if err := os.Mkdir(dir+sub, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lower := ""
	for _, layer := range append(layers, "base") {
		lower += ":" + filepath.Join(os.Getenv("FCGID_TEST_ROOT"), layer)
	}
	mount("-t", "overlay", "-o", "lowerdir="+lower[1:]+",upperdir="+dir+"/upper,workdir="+dir+"/work", "overlay", m.root)
	t.Cleanup(func() { unmount(m.root) })

	// The umask of a careful root.
	install := exec.Command("sh", "-c", `umask 077; exec make -s -C "$0" install DESTDIR="$1"`, harness.Root(t), m.root)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	return m
}

// boot starts the machine and waits until all that is enabled has been started.
func (m *machine) boot() {
	m.t.Helper()
	m.inCgroup()
	m.out, m.ended, m.init = &harness.Output{}, make(chan struct{}), 0
	m.nspawn = exec.Command("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--private-network",
		"--console=pipe", "--directory="+m.root)
	m.nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	m.nspawn.Stdout, m.nspawn.Stderr = m.out, m.out
	fd, err := os.Open(m.cgroup)
	if err != nil {
		m.t.Fatal(err)
	}
	defer fd.Close()
	m.nspawn.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd())}
	if err := m.nspawn.Start(); err != nil {
		m.t.Fatalf("systemd-nspawn: %v", err)
	}
	go func() {
		defer close(m.ended)
		m.nspawn.Wait()
	}()
	m.t.Cleanup(m.powerOff)
	harness.Await(m.t, "its systemd to run", func() bool { return m.findInit() })
	harness.Await(m.t, "it to be up", func() bool {
		state, _ := m.try("systemctl is-system-running --wait")
		return state == "running" || state == "degraded"
	})
}

// inCgroup makes the control group that the machine has for itself: systemd-nspawn
// uses the one that it is in.
func (m *machine) inCgroup() {
	m.t.Helper()
	if m.cgroup != "" {
		return
	}
	dir, err := os.MkdirTemp(os.Getenv("FCGID_TEST_CGROUPS"), "fcgid-test-")
	if err != nil {
		m.t.Fatal(err)
	}
	m.cgroup = dir
	m.t.Cleanup(func() {
		harness.Await(m.t, "its control groups to be empty", func() bool {
			var dirs []string
			filepath.WalkDir(dir, func(path string, entry os.DirEntry, _ error) error {
				if entry != nil && entry.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
			for i := range dirs {
				syscall.Rmdir(dirs[len(dirs)-1-i])
			}
			_, err := os.Stat(dir)
			return os.IsNotExist(err)
		})
	})
}

// findInit looks for the machine's first process: nspawn's child, when it is systemd.
func (m *machine) findInit() bool {
	pid := m.nspawn.Process.Pid
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	for child := range strings.FieldsSeq(string(text)) {
		if comm, _ := os.ReadFile("/proc/" + child + "/comm"); string(comm) == "systemd\n" {
			m.init, _ = strconv.Atoi(child)
			return true
		}
	}
	return false
}

// powerOff ends the machine at once.
func (m *machine) powerOff() {
	select {
	case <-m.ended:
	default:
		if m.init != 0 {
			syscall.Kill(m.init, syscall.SIGKILL) // and the kernel all else in its pid namespace
		} else {
			m.nspawn.Process.Kill()
		}
		<-m.ended
	}
	if m.t.Failed() {
		m.t.Logf("console:\n%s", m.out)
	}
}

// reboot restarts the machine as its operator does. It is up when this returns.
func (m *machine) reboot() {
	m.t.Helper()
	m.try("systemctl reboot")
	<-m.ended // with a status that asks to start it again, because of --keep-unit
	m.boot()
}

// try runs a shell script on the machine, as root. sudo is there, and does nothing.
func (m *machine) try(script string) (out string, err error) {
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(m.init), "--all",
		"env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8",
		"sh", "-euc", "sudo() { \"$@\"; }\n"+script)
	b, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(b)), err
}

// sh is try, for what has to succeed.
func (m *machine) sh(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err != nil {
		m.t.Fatalf("%v\n$ %s\n%s\njournal:\n%s", err, script, out, m.journal())
	}
	return out
}

// fails is try, for what must not succeed.
func (m *machine) fails(script string) string {
	m.t.Helper()
	out, err := m.try(script)
	if err == nil {
		m.t.Fatalf("no error:\n$ %s\n%s", script, out)
	}
	return out
}

func (m *machine) journal() string {
	out, _ := m.try("journalctl --no-pager --output=cat --lines=40 --unit='fcgid*'")
	return out
}

// property is one of systemd's of a unit.
func (m *machine) property(unit, name string) string {
	m.t.Helper()
	return m.sh("systemctl show --property=" + name + " --value " + unit)
}

// daemon is the pid of the process of fcgid.service that clients speak to: MAINPID has started it.
func (m *machine) daemon() string {
	m.t.Helper()
	return m.sh("pgrep -u fcgid -P " + m.property("fcgid", "MainPID"))
}

// path is where the host sees a file of the running machine, sockets included.
func (m *machine) path(name string) string {
	return filepath.Join("/proc", strconv.Itoa(m.init), "root", name)
}

// write makes a file, and the folders above it, that everybody may read.
func (m *machine) write(name, text string) {
	m.t.Helper()
	m.writeMode(name, text, 0o644)
}

// program makes a shell script that everybody may run.
func (m *machine) program(name, text string) {
	m.t.Helper()
	m.writeMode(name, "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n"+text, 0o755)
}

func (m *machine) writeMode(name, text string, mode os.FileMode) {
	m.t.Helper()
	file := m.root + name
	if m.init != 0 {
		file = m.path(name)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := harness.Create(file, text, mode); err != nil {
		m.t.Fatal(err)
	}
}
