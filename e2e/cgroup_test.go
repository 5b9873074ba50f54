//go:build e2e

package e2e

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// Limits need controllers, which few machines have that run tests: see make test-vm.
// These tests have groups alone.

// needCgroups skips a test where the daemon says that it has none, and why. It says whether it has.
func (d *daemon) needCgroups(t testing.TB) {
	t.Helper()
	for line := range strings.Lines(d.out.String()) {
		switch {
		case strings.Contains(line, `"msg":"programs have cgroups"`):
			return
		case strings.Contains(line, `"msg":"programs have no cgroups`):
			t.Skip("the daemon has no cgroups here: ", line)
		}
	}
	t.Fatalf("nothing is said of cgroups: %s", d.out.String())
}

// runaway is a shell script's beginning that leaves a process that shares nothing with the one that has started it, neither
// parent, session, process group nor files, and writes its pid to a file.
func runaway(file string) string {
	return "#!/bin/sh\ntest -e " + file + " || setsid sh -c 'setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $! >" + file + "'\n"
}

func (s *site) pidIn(file string) (pid int) {
	s.t.Helper()
	pid = awaitPID(s.t, file)
	s.t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

// groupOf is the cgroup v2 of a process.
func groupOf(pid int) string {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return name
		}
	}
	return ""
}

// What must end ends whole, and alone.
func TestCgroupEndsTree(t *testing.T) {
	t.Parallel()
	for name, pool := range map[string]string{
		"process": "timeout: 2s, sandbox: {pids: 1000}, process: {root: [DIR/cgi], kill_grace: 100ms}",
		"worker":  "worker: {command: [START], scale: static, max: 1, start_timeout: 500ms, stop_grace: 100ms}",
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			// A worker that never answers.
			start := harness.Script(t, dir+"/start", runaway(dir+"/worker.pid")+"exec sleep 600")
			s := newSite(t, "unix", strings.ReplaceAll(pool, "START", start))
			s.needCgroups(t)
			stays := s.script("stays", runaway(s.dir+"/stays.pid")+plainHeader)
			hangs := s.script("hangs", runaway(s.dir+"/hangs.pid")+"sleep 600")
			var neighbour int
			if name == "process" {
				s.ask(stays, nil)
				neighbour = s.pidIn(s.dir + "/stays.pid")
			}
			later, file := s.askLater(t.Context(), hangs), s.dir+"/hangs.pid"
			if name == "worker" {
				file = dir + "/worker.pid"
			}
			pid := s.pidIn(file)
			if group := groupOf(pid); !strings.Contains(group, "/pool-cgi/own-") {
				t.Errorf("what runs away is in cgroup %q", group)
			}
			if name == "process" {
				if a := wait(t, "the end", later); a.AppStatus != 408 {
					t.Errorf("got %+v", a)
				}
			}
			awaitGone(t, []int{pid})
			if neighbour != 0 && !alive(neighbour) {
				t.Error("what another request has left behind on purpose is gone")
			}
		})
	}
}

// What a daemon that was killed has left is ended by the next one.
func TestCgroupKilledDaemon(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple)
	s.needCgroups(t)
	path := s.script("stays", runaway(s.dir+"/stays.pid")+plainHeader)
	s.ask(path, nil)
	pid := s.pidIn(s.dir + "/stays.pid")
	group := groupOf(pid)
	s.signal(syscall.SIGKILL)
	wait(t, "the daemon", s.done)
	s.daemon = serve(t, s.dir, s.pool("cgi", simple))
	awaitGone(t, []int{pid})

	// One that stops in order leaves it alone, and so does the next.
	os.Remove(s.dir + "/stays.pid")
	s.ask(path, nil)
	pid = s.pidIn(s.dir + "/stays.pid")
	if again := groupOf(pid); again == group {
		t.Errorf("both daemons have put programs into %s", group)
	}
	s.signal(syscall.SIGTERM)
	s.exitCode()
	s.daemon = serve(t, s.dir, s.pool("cgi", simple))
	if !alive(pid) {
		t.Error("what a program has left behind on purpose is gone")
	}
}

// The document's pool, with what it leaves out.
func TestDocumentedCgroup(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	text := harness.Documented(t, "docs/cgroups.md", "cgroup-limits", "    sandbox:", "    listen: unix:"+dir+"/s\n    process: {root: ["+dir+"]}\n    sandbox:")
	file := write(t, dir+"/fcgid.yaml", text)
	if code, stdout, stderr := fcgid(t, "/", nil, "check", "-c", file, "--dump"); code != 0 || !strings.Contains(stdout, "memory_request: 256MiB") {
		t.Errorf("exit status %d: %s%s", code, stdout, stderr)
	}
}

func TestCgroupRequired(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	// Nobody has a group for a million processors.
	refused(t, "admin: {listen: ''}\npools:\n- {name: www, listen: 'unix:"+dir+"/s', sandbox: {cgroup: required, cpu: 8192}, process: {root: ["+dir+"]}}\n",
		"pool www: sandbox.cgroup is required: ")
}
