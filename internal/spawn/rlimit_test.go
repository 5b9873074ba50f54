package spawn_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

var resources = map[string]int{
	"nofile": unix.RLIMIT_NOFILE, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "as": unix.RLIMIT_AS,
	"fsize": unix.RLIMIT_FSIZE, "nproc": unix.RLIMIT_NPROC, "stack": unix.RLIMIT_STACK, "memlock": unix.RLIMIT_MEMLOCK,
}

func limits(pairs ...any) *spawn.Sandbox {
	s := &spawn.Sandbox{}
	for i := 0; i < len(pairs); i += 2 {
		name := pairs[i].(string)
		s.Rlimits = append(s.Rlimits, spawn.Rlimit{Name: name, Resource: resources[name], Value: uint64(pairs[i+1].(int))})
	}
	return s
}

// burn uses up CPU time.
func burn() int {
	for i := 0; ; i++ {
		if i < 0 {
			return 1
		}
	}
}

// The first instruction is under the limits, and so is all that the program starts.
func TestLimits(t *testing.T) {
	var l spawn.Local
	s := limits("nofile", 64, "core", 0, "fsize", 1<<20, "stack", 4<<20, "memlock", 65536, "as", 1<<30)
	needFit(t, s, nil)
	got := says(t, &l, &spawn.Command{Sandbox: s, Identity: identity()}, "cat /proc/self/limits")
	for name, want := range map[string]string{
		"Max open files": "64", "Max core file size": "0", "Max file size": "1048576", "Max stack size": "4194304",
		"Max locked memory": "65536", "Max address space": "1073741824",
	} {
		var line string
		for text := range strings.Lines(got) {
			if rest, ok := strings.CutPrefix(text, name); ok {
				line = rest
			}
		}
		if fields := strings.Fields(line); len(fields) < 2 || fields[0] != want || fields[1] != want {
			t.Errorf("%s is %q, want %s", name, line, want)
		}
	}
	hostile := map[string]string{
		"raises the limit":    "ulimit -n 65; ulimit -Hn 65",
		"opens many files":    "for i in $(seq 3 100); do eval \"exec $i</dev/null\" || exit 1; done",
		"writes a large file": "head -c 2000000 /dev/zero >\"$TMP\"",
		"has much memory":     "head -c 2000000000 /dev/zero | tail -c 2000000000",
	}
	for what, script := range hostile {
		env := []string{"TMP=" + openFolder(t) + "/file"}
		text, err := output(t, &l, &spawn.Command{Sandbox: s, Env: env}, script+" 2>/dev/null || exit 1")
		if what == "has much memory" {
			text, err = output(t, &l, &spawn.Command{Sandbox: limits("as", 64<<20), Env: env}, "exec perl -e '$x = \"a\" x 500_000_000; print 1'")
		}
		if err == nil {
			t.Errorf("%s: %s", what, text)
		}
	}
	if os.Geteuid() == 0 {
		return // who may raise limits
	}
	if text, err := output(t, &l, &spawn.Command{Sandbox: s}, "ulimit -n 65"); err == nil {
		t.Errorf("an ordinary user's program raises the limit: %s", text)
	}
}

func TestCPULimit(t *testing.T) {
	var l spawn.Local
	s := limits("cpu", 1)
	needFit(t, s, nil)
	r := run(t, &l, &spawn.Command{Argv: []string{"/proc/self/exe"}, Env: []string{"HELPER=burn", "GORACE=atexit_sleep_ms=0"}, Sandbox: s})
	if e := r.wait(); e.Status.Signal() != unix.SIGXCPU && e.Status.Signal() != unix.SIGKILL {
		t.Errorf("ended with %v", e.Status)
	}
}

// A fork bomb of a user that nothing else runs as stays small.
func TestProcessLimit(t *testing.T) {
	needRoot(t)
	const most = 20
	var l spawn.Local
	s := limits("nproc", most)
	// Those of an earlier test need not have been reaped.
	uid := 100_000 + rand.Uint32N(1e9)
	id := &spawn.Identity{UID: uid, GID: uid}
	needFit(t, s, id)
	bomb := `my $n = 0; while ($n < 500) { my $pid = fork; last if !defined $pid; if (!$pid) { sleep 60; exit } $n++ } print "$n\n"; kill 9, -getpgrp`
	r := run(t, &l, &spawn.Command{Argv: []string{"/usr/bin/perl", "-e", "$|=1;" + bomb}, Identity: id, Sandbox: s})
	if got := r.line(); got != fmt.Sprint(most-1) {
		t.Errorf("it has started %s processes, with nproc=%d", got, most)
	}
	r.Kill()
	r.wait()
}

// Many programs with limits are started at once, and each is waited for as one without.
func TestLimitsAtOnce(t *testing.T) {
	var l spawn.Local
	s := limits("nofile", 64)
	needFit(t, s, nil)
	ended := make(chan error)
	const n = 50
	for range n {
		go func() {
			var out strings.Builder
			err := spawn.Run(t.Context(), &l, &spawn.Command{Argv: []string{"/bin/sh", "-c", "ulimit -n"}, Dir: "/", Env: []string{"PATH=/bin"}, Sandbox: s}, &out)
			if err == nil && out.String() != "64\n" {
				err = fmt.Errorf("said %q", out.String())
			}
			ended <- err
		}()
	}
	for range n {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if l.Len() != 0 {
		t.Errorf("%d programs are left", l.Len())
	}
	_, err := l.Start(t.Context(), &spawn.Command{Argv: []string{"/none"}, Dir: "/", Sandbox: s})
	if err == nil {
		t.Error("a program that is not there was started")
	}
	runnertest.Must(t, t.Context().Err())
}

// Where ptrace is refused, as by Yama or a container, the limits are the same, and so is
// what is said of a program that cannot be executed.
func TestLimitsWithoutTrace(t *testing.T) {
	s := limits("nofile", 64, "cpu", 7)
	needFit(t, s, nil)
	spawn.RefuseTrace(t)
	needFit(t, s, nil)
	var l spawn.Local
	if got := says(t, &l, &spawn.Command{Sandbox: s, Env: []string{"A=b"}}, `ulimit -n; ulimit -t; echo "$0 $A"`); got != "64\n7\n/bin/sh b" {
		t.Errorf("the program said %q", got)
	}
	dir := openFolder(t)
	runnertest.WriteFile(t, dir+"/text", "\xef\xbb\xbf#!/bin/sh\n", 0o755)
	runnertest.WriteFile(t, dir+"/lost", "#!/none\n", 0o755)
	runnertest.Must(t, os.Mkdir(dir+"/folder", 0o755))
	for name, want := range map[string]string{
		"text": "byte order mark", "lost": `its interpreter "/none"`, "none": "no such file", "folder": "permission denied",
	} {
		cmd := &spawn.Command{Argv: []string{dir + "/" + name}, Dir: "/", Sandbox: s}
		if _, err := l.Start(t.Context(), cmd); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	// The other means are not in its way.
	files := *s
	files.NoNewPrivs, files.NoNetwork, files.Read = true, true, append([]string{"/proc"}, system...)
	needFit(t, &files, nil)
	if got := says(t, &l, &spawn.Command{Sandbox: &files, Identity: identity()}, "ulimit -n; ls /proc/self/fd"); !strings.HasPrefix(got, "64\n0\n1\n2\n") {
		t.Errorf("the program said %q", got)
	}
	polltest.Until(t, "the end of the threads", func() bool { return threads(t) == 0 })
}
