package spawn

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Threads that were made stay, but no more than half of what there is room for are.
func TestReserveThreads(t *testing.T) {
	const inside = "FCGID_TEST_RESERVE_THREADS"
	if os.Getenv(inside) == "" { // in a process that has none yet
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReserveThreads$")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	count := func() int {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(tasks)
	}
	if n := reserveThreads(30, 0); n != 0 {
		t.Errorf("%d where there is no room", n)
	}
	if n := reserveThreads(30, 50); n != 25 || count() < 25 {
		t.Errorf("%d, and there are %d", n, count())
	}
	if n := reserveThreads(30, math.MaxInt); n != 30 || count() < 30 {
		t.Errorf("%d, and there are %d", n, count())
	}
}

func TestCgroupRoom(t *testing.T) {
	root := t.TempDir()
	write := func(path, text string) string {
		t.Helper()
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("fs/pids.current", "900\n")
	write("fs/system.slice/pids.max", "100\n")
	write("fs/system.slice/pids.current", "60\n")
	write("fs/system.slice/fcgid.service/pids.max", "max\n")
	write("fs/system.slice/fcgid.service/pids.current", "10\n")
	for text, want := range map[string]int{
		"0::/system.slice/fcgid.service\n":                        40,
		"12:pids:/x\n1:name=systemd:/y\n0::/system.slice/other\n": 40,
		"0::/\n":           math.MaxInt,
		"3:pids:/docker\n": math.MaxInt,
	} {
		if got := cgroupRoom(write("cgroup", text), filepath.Join(root, "fs")); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
	write("fs/system.slice/pids.current", "200\n")
	if got := cgroupRoom(write("cgroup", "0::/system.slice\n"), filepath.Join(root, "fs")); got != 0 {
		t.Errorf("beyond the limit: %d", got)
	}
	if got := cgroupRoom(root+"/none", root); got != math.MaxInt {
		t.Errorf("without cgroups: %d", got)
	}
}

func TestTasksOf(t *testing.T) {
	uid, threads := tasksOf([]byte("Name:\tphp-cgi\nUmask:\t0022\nUid:\t33\t0\t33\t33\nGid:\t1\t1\t1\t1\nThreads:\t4\n"))
	if uid != 33 || threads != 4 {
		t.Errorf("uid %d, %d threads", uid, threads)
	}
}
