package spawn

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// SpareThreads is how many threads a process that starts programs makes at start: twice what
// the daemon was seen to have under load. The runtime takes them when it needs one, and dies
// when it needs one that the kernel does not give, since somebody forks without end.
const SpareThreads = 24

// ReserveThreads makes the spare threads as far as there is room for them, and returns how
// many.
func ReserveThreads() int { return reserveThreads(SpareThreads, threadRoom()) }

// reserveThreads makes threads, n unless that would take more than half of what there
// is room for, and returns how many. The runtime ends none of them.
func reserveThreads(n, room int) int {
	n = min(n, room/2)
	var made, gone sync.WaitGroup
	release := make(chan struct{})
	made.Add(max(n, 0))
	for range n {
		gone.Go(func() {
			runtime.LockOSThread() // so that each has one of its own
			made.Done()
			<-release
			runtime.UnlockOSThread()
		})
	}
	made.Wait()
	close(release)
	gone.Wait()
	return n
}

// threadRoom is how many more tasks the kernel lets this process start, as far as that
// can be told.
func threadRoom() int {
	return min(userRoom("/proc"), cgroupRoom("/proc/self/cgroup", "/sys/fs/cgroup"))
}

// userRoom is what RLIMIT_NPROC leaves of the tasks of this user.
func userRoom(proc string) int {
	const plenty = 4096 // is not worth counting
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &limit) != nil || limit.Cur >= plenty || os.Geteuid() == 0 {
		return math.MaxInt
	}
	files, err := filepath.Glob(proc + "/[0-9]*/status")
	if err != nil {
		return math.MaxInt
	}
	room := int(limit.Cur)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if uid, threads := tasksOf(text); uid == os.Getuid() {
			room -= threads
		}
	}
	return max(room, 0)
}

// tasksOf reads the real user and the number of threads in the text of
// /proc/PID/status.
func tasksOf(status []byte) (uid, threads int) {
	uid = -1
	for lines := bufio.NewScanner(bytes.NewReader(status)); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) > 1 && words[0] == "Uid:":
			uid, _ = strconv.Atoi(words[1])
		case len(words) > 1 && words[0] == "Threads:":
			threads, _ = strconv.Atoi(words[1])
		}
	}
	return uid, threads
}

// cgroupRoom is what pids.max leaves in the cgroup (v2) that file names, and in those
// around it.
func cgroupRoom(file, root string) int {
	room := math.MaxInt
	text, err := os.ReadFile(file)
	if err != nil {
		return room
	}
	for line := range strings.Lines(string(text)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for dir := filepath.Join(root, path); strings.HasPrefix(dir, root); dir = filepath.Dir(dir) {
			most, err := readNumber(dir + "/pids.max")
			now, nowErr := readNumber(dir + "/pids.current")
			if err == nil && nowErr == nil {
				room = min(room, max(most-now, 0))
			}
		}
	}
	return room
}

// readNumber reads a file that holds one number; "max" is none.
func readNumber(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}
