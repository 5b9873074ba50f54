package pool

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
)

// memoryLimit is what requests may hold in memory: the key memory, or a quarter of what
// there is.
func memoryLimit(cfg *config.Config) int64 {
	if cfg.Memory != 0 {
		return cfg.Memory
	}
	return min(machineMemory(), addressSpace(), cgroupMemory("/proc/self/cgroup", "/sys/fs/cgroup")) / 4
}

// runtimeRoom is for all of the daemon's heap that is not the memory of requests, with
// its garbage.
const runtimeRoom = 64 << 20

// limitRuntime has the Go runtime collect garbage in time, so that the daemon is no
// larger than twice what requests may hold and some more. A program that has functions of
// its own may need much more, for good, and is left alone, and so is who has set GOMEMLIMIT.
func (s *Set) limitRuntime(limit int64) {
	if s.opt.Functions.added == nil && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(2*limit + runtimeRoom)
	}
}

func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return math.MaxInt64
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit))
}

// addressSpace is what RLIMIT_AS leaves beside what a Go program reserves of it when it
// starts, more than a GiB.
func addressSpace() int64 {
	const reserved, least = 3 << 29, 64 << 20
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_AS, &limit) != nil || limit.Cur > math.MaxInt64 {
		return math.MaxInt64
	}
	return max(int64(limit.Cur)-reserved, least)
}

// cgroupMemory is the least memory.max of the cgroup (v2) that file names and of those
// around it, or memory.limit_in_bytes of one of v1.
func cgroupMemory(file, root string) int64 {
	most := int64(math.MaxInt64)
	text, err := os.ReadFile(file)
	if err != nil {
		return most
	}
	for line := range strings.Lines(string(text)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		top, name := root, "memory.max"
		switch {
		case !ok:
			continue
		case controllers == "memory":
			top, name = filepath.Join(root, "memory"), "memory.limit_in_bytes"
		case controllers != "":
			continue
		}
		for dir := filepath.Join(top, path); strings.HasPrefix(dir, top); dir = filepath.Dir(dir) {
			if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
					most = min(most, n)
				}
			}
		}
	}
	return most
}
