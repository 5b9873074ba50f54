//go:build vm

// Package vm tries what needs a kernel of its own: the controllers of cgroup v2. The test
// binary is the first process of a machine that scripts/test-vm boots, and its only
// system: there are fcgid, busybox and nothing else.
package vm

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

const cgroups = "/sys/fs/cgroup"

func TestMain(m *testing.M) {
	if name := os.Getenv("VM_HELPER"); name != "" {
		helpers[name]()
		return
	}
	if os.Getpid() == 1 {
		boot()
	}
	os.Exit(m.Run())
}

// boot is what the first process does: it runs the tests and turns the machine off.
func boot() {
	fmt.Println("fcgid-vm: begin")
	status := 1
	if err := mountAll(); err != nil {
		fmt.Println(err)
	} else if status = runTests("/tests/spawn", "-test.run=Group"); status == 0 {
		status = runTests("/init")
	}
	fmt.Println("fcgid-vm: exit status", status)
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func mountAll() error {
	for _, m := range []struct{ kind, path string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"cgroup2", cgroups}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
	} {
		if err := os.MkdirAll(m.path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.path, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	os.Setenv("PATH", "/bin")
	return os.Chmod("/tmp", 0o1777)
}

// runTests runs a test binary, and reaps what comes to the first process meanwhile.
func runTests(binary string, args ...string) int {
	flags, _ := os.ReadFile("/tests/flags")
	args = append(append([]string{binary, "-test.timeout=8m"}, strings.Fields(string(flags))...), args...)
	p, err := os.StartProcess(binary, args, &os.ProcAttr{
		Dir: "/tmp", Env: os.Environ(), Files: []*os.File{nil, os.Stdout, os.Stdout},
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if err != nil && err != syscall.EINTR {
			fmt.Println("wait:", err)
			return 1
		}
		if pid == p.Pid {
			return status.ExitStatus()
		}
	}
}

// A site is a daemon with the pool www, and others.
type site struct {
	*harness.Program
	t   *testing.T
	dir string
}

// newSite starts the daemon with these keys of its pool, whose scripts are in dir/cgi.
func newSite(t *testing.T, keys string) *site {
	t.Helper()
	s := &site{t: t, dir: folder(t)}
	if err := os.Mkdir(s.dir+"/cgi", 0o755); err != nil {
		t.Fatal(err)
	}
	s.configure(keys)
	s.start(exec.Command("/fcgid"))
	return s
}

// folder is one that every user can reach.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vm-")
	if err == nil {
		err = os.Chmod(dir, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func (s *site) start(cmd *exec.Cmd) {
	s.t.Helper()
	cmd.Args = append(cmd.Args, "serve", "-c", s.dir+"/fcgid.yaml")
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+s.dir)
	s.Program = harness.Start(s.t, cmd)
	s.Listening(s.t, "unix", s.dir+"/www")
	s.Listening(s.t, "unix", s.dir+"/other")
}

// configure writes the file. DIR is the site's folder. The pool other is without limits.
func (s *site) configure(keys string) {
	s.t.Helper()
	text := "log: {level: debug}\nadmin: {listen: 'unix:DIR/admin'}\npools:\n" +
		"- {name: www, listen: {address: 'unix:DIR/www', mode: '0666'}, " + keys + "}\n" +
		"- {name: other, listen: {address: 'unix:DIR/other', mode: '0666'}, process: {root: [DIR/cgi]}}\n"
	harness.Write(s.t, s.dir+"/fcgid.yaml", strings.ReplaceAll(text, "DIR", s.dir))
}

// script writes a program for both pools, whose header is written already if it has one.
func (s *site) script(name, text string) string {
	s.t.Helper()
	return harness.Script(s.t, filepath.Join(s.dir, "cgi", name), "#!/bin/sh\n"+text)
}

const header = "printf 'Content-Type: text/plain\\n\\n'\n"

// An answer is one, or why there is none.
type answer struct {
	fcgi.Result
	body string
	err  error
}

func (s *site) later(pool, script string) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
		defer cancel()
		client, err := fcgi.Dial(ctx, "unix:"+s.dir+"/"+pool)
		if err != nil {
			c <- answer{err: err}
			return
		}
		defer client.Close()
		var out bytes.Buffer
		res, err := client.Do(ctx, &fcgi.Request{
			Params: fcgi.Params{{Name: "SCRIPT_FILENAME", Value: script}, {Name: "REQUEST_METHOD", Value: "GET"}},
			Stdout: &out,
		})
		c <- answer{res, out.String(), err}
	}()
	return c
}

func (s *site) ask(pool, script string) answer {
	s.t.Helper()
	a := <-s.later(pool, script)
	if a.err != nil {
		s.t.Fatalf("%s: %v", script, a.err)
	}
	return a
}

// await waits for a line of the log.
func (s *site) await(text string) {
	s.t.Helper()
	harness.Await(s.t, text, func() bool { return strings.Contains(s.Out.String(), text) })
}

// metric is the value of a series.
func (s *site) metric(series string) string {
	s.t.Helper()
	c, err := net.Dial("unix", s.dir+"/admin")
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
	var page bytes.Buffer
	page.ReadFrom(c)
	for line := range strings.Lines(page.String()) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// pid waits for a file that a program writes its pid to.
func (s *site) pid(name string) int {
	s.t.Helper()
	return harness.AwaitPID(s.t, filepath.Join(s.dir, name))
}

// groupOf is the group of a process, as a folder.
func groupOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return cgroups + strings.TrimPrefix(strings.TrimSpace(string(text)), "0::")
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
