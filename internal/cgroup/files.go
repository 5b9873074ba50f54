package cgroup

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// files are the kernel's, or those of a test.
type files interface {
	mkdir(path string) error
	// rmdir removes a group without processes and groups in it; else it is EBUSY.
	rmdir(path string) error
	// write writes to a file of a group, at once.
	write(path, text string) error
	read(path string) (string, error)
	// text is what read returns, or nothing.
	text(path string) string
	// groups are the names of those in a group.
	groups(path string) []string
}

// kernel is the kernel's hierarchy.
type kernel struct{}

func (kernel) mkdir(path string) error {
	return ignoringEINTR(func() error { return unix.Mkdir(path, 0o755) })
}

func (kernel) rmdir(path string) error {
	return ignoringEINTR(func() error { return unix.Rmdir(path) })
}

func (kernel) write(path, text string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return ignoringEINTR(func() error {
		_, err := unix.Write(fd, []byte(text))
		return err
	})
}

func (kernel) read(path string) (string, error) {
	b, err := os.ReadFile(path)
	return string(b), err
}

func (k kernel) text(path string) string {
	s, _ := k.read(path)
	return s
}

func (kernel) groups(path string) (names []string) { return groupsIn(path) }

func groupsIn(path string) (names []string) {
	entries, _ := os.ReadDir(path)
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// ignoringEINTR calls a system call until no signal has interrupted it.
func ignoringEINTR(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// number is the one in a file; "max", and no file, is none.
func number(f files, path string) (int64, bool) {
	n, err := strconv.ParseInt(strings.TrimSpace(f.text(path)), 10, 64)
	return n, err == nil
}

// event is a number of a file of lines of names and numbers.
func event(f files, path, name string) int64 {
	for line := range strings.Lines(f.text(path)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && key == name {
			n, _ := strconv.ParseInt(value, 10, 64)
			return n
		}
	}
	return 0
}

// pids are those of the processes in a group. A process that is not of our pid
// namespace is left out.
func pids(f files, path string) (all []int) {
	for _, word := range strings.Fields(f.text(path + "/cgroup.procs")) {
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			all = append(all, pid)
		}
	}
	return all
}
