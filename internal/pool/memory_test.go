package pool

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/fcgid/fcgid/internal/config"
)

func TestMemoryLimit(t *testing.T) {
	if got := memoryLimit(&config.Config{Memory: 16 << 20}); got != 16<<20 {
		t.Errorf("16 MiB is %d", got)
	}
	if got := memoryLimit(&config.Config{}); got <= 0 || got > machineMemory()/4 {
		t.Errorf("a quarter of %d is %d", machineMemory(), got)
	}
}

func TestCgroupMemory(t *testing.T) {
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
	write("fs/memory.max", "max\n")
	write("fs/a.slice/memory.max", "1000\n")
	write("fs/a.slice/small/memory.max", "400\n")
	write("fs/a.slice/large/memory.max", "4000\n")
	write("fs/memory/docker/x/memory.limit_in_bytes", "700\n")
	for text, want := range map[string]int64{
		"0::/a.slice/small\n": 400,
		"0::/a.slice/large\n": 1000,
		"0::/a.slice\n":       1000,
		"0::/\n":              math.MaxInt64,
		"12:pids:/a.slice\n4:memory:/docker/x\n0::/\n": 700,
		"nonsense\n": math.MaxInt64,
	} {
		if got := cgroupMemory(write("cgroup", text), filepath.Join(root, "fs")); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
