package spawn

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A task is a process as /proc shows it (proc(5)). Its pid and its start together
// are of no other process.
type task struct {
	pid, parent, group, session int
	isZombie                    bool
	start                       uint64
}

// readTask looks at a process. It is false of one that is gone.
func readTask(pid int) (task, bool) {
	fields, ok := readStat(pid)
	if !ok {
		return task{}, false
	}
	t := task{pid: pid, parent: fields.number(4), group: fields.number(5), session: fields.number(6)}
	t.isZombie = fields.text(3) == "Z" || fields.text(3) == "X"
	t.start = uint64(fields.number(22))
	return t, true
}

// isStill reports whether the process is there, and has not exited.
func (t *task) isStill() bool {
	now, ok := readTask(t.pid)
	return ok && now.start == t.start && !now.isZombie
}

// pidfdSendSignal is replaced by tests: not every sandbox has it.
var pidfdSendSignal = unix.PidfdSendSignal

// signal signals this very process: it has been looked at before, and another one may
// have its pid by now. It reports false if it is not permitted.
func (t *task) signal(s unix.Signal) bool {
	fd, err := unix.PidfdOpen(t.pid, 0)
	if err == unix.ESRCH {
		return true
	}
	if err == nil {
		defer unix.Close(fd)
	}
	if !t.isStill() {
		return true
	}
	if err == nil {
		if err = pidfdSendSignal(fd, s, nil, 0); err == nil || err == unix.ESRCH {
			return true
		}
	}
	return unix.Kill(t.pid, s) != unix.EPERM // by an old kernel or in a sandbox, or for want of descriptors
}

// A look finds processes of a tree.
type look struct {
	found map[int]task
	byPID map[int][]int // children of all processes; nil where the kernel tells those of one
}

// descend adds a process and what descends from it.
func (l *look) descend(pid int) {
	for todo := []int{pid}; len(todo) > 0; {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, known := l.found[next]; known {
			continue
		}
		if t, ok := readTask(next); ok {
			l.found[next] = t
			todo = append(todo, l.children(next)...)
		}
	}
}

// children are those of a process.
func (l *look) children(pid int) (pids []int) {
	if l.byPID != nil {
		return l.byPID[pid]
	}
	folder := fmt.Sprintf("/proc/%d/task", pid)
	threads, _ := os.ReadDir(folder)
	for _, thread := range threads {
		b, err := os.ReadFile(folder + "/" + thread.Name() + "/children")
		if errors.Is(err, os.ErrNotExist) && isThere(folder+"/"+thread.Name()+"/stat") {
			l.byPID = allChildren() // a kernel without CONFIG_PROC_CHILDREN
			return l.byPID[pid]
		}
		for _, field := range bytes.Fields(b) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

func isThere(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// allChildren are those of every process.
func allChildren() map[int][]int {
	all := make(map[int][]int)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if t, ok := readTask(pid); ok {
			all[t.parent] = append(all[t.parent], pid)
		}
	}
	return all
}

// holds reports whether the process has one of the files open, named as in
// /proc/PID/fd: "socket:[71]". Of another user's that is known to root alone.
func (t *task) holds(files []string) bool {
	return len(t.descriptorsOf(files)) > 0
}

// descriptorsOf are the descriptors that one of the files has in the process. They are its user's
// to see, and those of root that has CAP_SYS_PTRACE; without, root looks as that user.
func (t *task) descriptorsOf(files []string) (fds []int) {
	fds, err := t.lookFor(files)
	if !errors.Is(err, os.ErrPermission) || unix.Geteuid() != 0 {
		return fds
	}
	var stat unix.Stat_t
	if unix.Stat(fmt.Sprintf("/proc/%d", t.pid), &stat) != nil {
		return nil
	}
	owner := &Identity{UID: stat.Uid, GID: stat.Gid}
	_ = owner.Look(func() error {
		fds, err = t.lookFor(files)
		return err
	})
	return fds
}

func (t *task) lookFor(files []string) (fds []int, err error) {
	folder := fmt.Sprintf("/proc/%d/fd", t.pid)
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		target, linkErr := os.Readlink(folder + "/" + e.Name())
		if errors.Is(linkErr, os.ErrPermission) {
			return nil, linkErr
		}
		if linkErr != nil || !slices.Contains(files, target) {
			continue
		}
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds, err
}

// fileName is what a pipe or socket of ours is called in /proc/PID/fd.
func fileName(fd int) string {
	name, _ := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return name
}

// isForked reports whether the process is one that this process has forked, and that has
// executed nothing: it has all of our files open still. They are closed before the kernel
// knows the arguments of what is executed, so that who looks at the files after this was false
// sees those of the program alone. One that has none is most likely about to have them: it may
// be of a tree as well, and executes something else.
func (t *task) isForked() bool {
	ours, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		return true
	}
	for range executeTime / executeEvery {
		theirs, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", t.pid))
		switch {
		case err != nil || bytes.Equal(theirs, ours):
			return true
		case len(theirs) > 0 || !t.isStill():
			return false
		}
		time.Sleep(executeEvery)
	}
	return false // it has given its arguments up
}

const (
	executeTime  = 200 * time.Millisecond // far longer than it takes to execute something
	executeEvery = 500 * time.Microsecond
)

// sorted are the processes that were found, in the order of their pids.
func (l *look) sorted() []task {
	return slices.SortedFunc(maps.Values(l.found), func(a, b task) int { return a.pid - b.pid })
}

// A statLine has the fields of /proc/PID/stat from the third on.
type statLine []string

func readStat(pid int) (statLine, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return nil, false
	}
	// The second field is the program's name in brackets, which may hold any.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return fields, len(fields) >= 22
}

// text is a field, numbered as in proc(5).
func (s statLine) text(n int) string {
	if n-3 >= len(s) {
		return ""
	}
	return s[n-3]
}

func (s statLine) number(n int) int {
	v, _ := strconv.Atoi(s.text(n))
	return v
}
