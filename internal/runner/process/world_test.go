package process_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// helpers are the programs that the test binary can be, by the value of HELPER.
var helpers = map[string]func() int{
	"world":  printWorld,
	"daemon": beDaemon,
	"scarce": runWithFewDescriptors,
}

// A world is what a program finds when it is started.
type world struct {
	FDs              map[string]string
	SigBlk, SigIgn   string
	OwnGroup, Parent bool
	NonBlocking      []int
	Dir              string
	Args             []string
}

func printWorld() int {
	w := world{FDs: map[string]string{}, Args: os.Args}
	w.Dir, _ = os.Getwd()
	w.OwnGroup = syscall.Getpgrp() == os.Getpid()
	w.Parent = fmt.Sprint(os.Getppid()) == os.Getenv("PARENT")
	for fd := range 1000 { // without a descriptor for the folder
		if target, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && !isRuntimes(target) {
			w.FDs[fmt.Sprint(fd)], _, _ = strings.Cut(target, ":")
			if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); flags&unix.O_NONBLOCK != 0 {
				w.NonBlocking = append(w.NonBlocking, fd)
			}
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 1
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		switch name, value, _ := strings.Cut(line, ":\t"); name {
		case "SigBlk":
			w.SigBlk = value
		case "SigIgn":
			w.SigIgn = withoutLibcSignals(value)
		}
	}
	json.NewEncoder(os.Stdout).Encode(&w)
	return 0
}

// isRuntimes reports whether the Go runtime has opened this by itself.
func isRuntimes(target string) bool {
	return strings.HasPrefix(target, "anon_inode:[event") || strings.HasPrefix(target, "/sys/fs/cgroup")
}

// What the daemon has open, blocked or handled is not the program's.
func TestWorld(t *testing.T) {
	own, err := os.Open("/proc/self/status")
	mustDo(t, err)
	defer own.Close()
	none := strings.Repeat("0", 16)
	dir := tempDir(t)
	for _, set := range []string{"", dir} {
		p := helperProgram(t, func(o *options) { o.Dir = set })
		for _, stdin := range []io.Reader{nil, strings.NewReader("")} {
			want := world{
				FDs:    map[string]string{"0": "/dev/null", "1": "pipe", "2": "pipe"},
				SigBlk: none, SigIgn: none, OwnGroup: true, Parent: true,
				Dir: filepath.Dir(p.path), Args: []string{p.path},
			}
			if stdin != nil {
				want.FDs["0"] = "pipe"
			}
			if set != "" {
				want.Dir = set
			}
			c := p.call("HELPER", "world", "PARENT", fmt.Sprint(os.Getpid()), "QUERY_STRING", "-s+--version")
			c.Stdin = stdin
			c.run(t, p)
			var got world
			if err := json.Unmarshal([]byte(c.out.String()), &got); err != nil {
				t.Fatalf("%v: %d %v %s %s", err, c.status, c.err, c.out.String(), c.errs.String())
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("dir %q (-want +got):\n%s", set, diff)
			}
		}
	}
}

// The program is told apart, and its name is that of the request.
func TestStartedIsCalled(t *testing.T) {
	p := shell(t, `printf %s $$`)
	c := p.call("SCRIPT_FILENAME", p.path+"/x")
	var pid int
	var script string
	c.Started = func(n int, s string) { pid, script = n, s }
	c.run(t, p).want(t, 0, fmt.Sprint(pid))
	if script != p.path {
		t.Errorf("script is %q", script)
	}
}

// withoutLibcSignals clears signals 32 and 33 in a mask of /proc: they belong to
// the C library, and GNU make leaves them ignored in what it starts.
func withoutLibcSignals(mask string) string {
	n, err := strconv.ParseUint(mask, 16, 64)
	if err != nil {
		return mask
	}
	return fmt.Sprintf("%016x", n&^(3<<31))
}
