package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A Group is where a program is: a group of its own, or its pool's for all that have
// none.
type Group struct {
	pool   *Pool
	path   string
	number int // 0 is shared
	dir    *os.File
}

func (g *Group) open() (err error) {
	g.dir, err = os.Open(g.path)
	return err
}

func (g *Group) close() { g.dir.Close() }

// FD is a descriptor of the group (CLONE_INTO_CGROUP), until Started.
func (g *Group) FD() int { return int(g.dir.Fd()) }

// IsLate reports whether the program is to move itself (OpenProcs), or to Enter, when it has
// been started: the system call by which it would be born in the group is not there. A filter may
// have taken it: systemd's RestrictNamespaces= does.
func (g *Group) IsLate() bool { return g.pool.IsLate() }

// IsLate is that of its groups.
func (p *Pool) IsLate() bool { return p.tree.late }

// Enter moves a process into the group. What it has started already stays where it is.
func (g *Group) Enter(pid int) error {
	err := g.pool.tree.files.write(g.path+"/cgroup.procs", strconv.Itoa(pid))
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("move process %d to cgroup %s: %w", pid, g.path, err)
	}
	return nil
}

// OpenProcs opens what moves the process that writes 0 to it into the group. It may be somebody
// else by then: the kernel asks for the rights of who has opened it (since CVE-2021-4197 was
// mended; before, it is EACCES).
func (g *Group) OpenProcs() (fd int, err error) {
	path := g.path + "/cgroup.procs"
	err = ignoringEINTR(func() error {
		fd, err = unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}

// IsOwn reports whether the group is of one program.
func (g *Group) IsOwn() bool { return g.number != 0 }

// IsThere reports whether nobody has removed the group.
func (g *Group) IsThere() bool { return isThere(g.path) }

// Started is called when a program was started in the group, or will not be.
func (g *Group) Started() {
	if g.IsOwn() {
		g.close()
	}
}

// Pids are the processes that are in a group of its own.
func (g *Group) Pids() []int {
	if !g.IsOwn() {
		return nil
	}
	return pids(g.pool.tree.files, g.path)
}

// Kill kills all that is in a group of its own, at once and whole: what is forked
// meanwhile too, and what this process could not signal. It is false for a shared one,
// and where the kernel has refused.
func (g *Group) Kill() bool {
	return g.IsOwn() && killAll(g.pool.tree.files, g.path) == nil
}

// Leave is called when the program was waited for. The group is removed when what the
// program has left in it has gone too.
func (g *Group) Leave() {
	if !g.IsOwn() {
		return
	}
	g.pool.mu.Lock()
	delete(g.pool.own, g.number)
	g.pool.mu.Unlock()
	if g.pool.tree.files.rmdir(g.path) != nil {
		g.pool.tree.sweeper.remove(g.path)
	}
}

// What had the kernel kill a program that has taken too much memory.
const (
	ByRequest = "sandbox.memory_request"
	ByPool    = "sandbox.memory"
	ByMachine = "machine" // or a group around the daemon's
)

// OutOfMemory is which limit had the kernel kill something of the program; "" is none.
// It is called once, before Leave. In a shared group, where it cannot be told whose a
// process was, that is so for one program for each kill: of those that failed.
func (g *Group) OutOfMemory(failed bool) string {
	f, p := g.pool.tree.files, g.pool
	if g.IsOwn() {
		events := filepath.Join(g.path, "memory.events")
		if _, err := f.read(events); err == nil {
			switch {
			case event(f, events, "oom_kill") == 0:
				return ""
			case event(f, filepath.Join(g.path, "memory.events.local"), "oom") > 0:
				return ByRequest
			}
			p.count()
			return p.limitReached()
		}
	}
	if failed && p.count() {
		return p.limitReached()
	}
	return ""
}

// count reports whether the kernel has killed one that nobody was told of, and tells.
func (p *Pool) count() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if event(p.tree.files, filepath.Join(p.path, "memory.events"), "oom_kill") <= p.told {
		return false
	}
	p.told++
	return true
}

// limitReached is the pool's own, if that ever was.
func (p *Pool) limitReached() string {
	if event(p.tree.files, filepath.Join(p.path, "memory.events.local"), "oom") > 0 {
		return ByPool
	}
	return ByMachine
}

// WasFull reports whether the program was refused a process or a thread for its limit.
func (g *Group) WasFull() bool {
	return g.IsOwn() && event(g.pool.tree.files, filepath.Join(g.path, "pids.events"), "max") > 0
}

// freezeTime is how long what is to be killed one by one may take to stand still.
const freezeTime = 200 * time.Millisecond

// killAll kills all that is in a group and in those below it. Kernels before 5.14 have
// no file for that: there the group is frozen, so that nothing forks and no pid gets to
// somebody else, and killed one by one.
func killAll(f files, path string) error {
	err := f.write(path+"/cgroup.kill", "1")
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := f.write(path+"/cgroup.freeze", "1"); err == nil {
		defer f.write(path+"/cgroup.freeze", "0")
		for end := time.Now().Add(freezeTime); event(f, path+"/cgroup.events", "frozen") == 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	for range 100 {
		found, denied := killOnce(f, path)
		if !found {
			return nil
		}
		if denied != nil {
			return denied
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("kill all in cgroup %s: there are always more", path)
}

// kill is replaced by tests.
var kill = unix.Kill

func killOnce(f files, path string) (found bool, denied error) {
	for _, pid := range pids(f, path) {
		found = true
		if err := kill(pid, unix.SIGKILL); err != nil && err != unix.ESRCH {
			denied = fmt.Errorf("kill process %d in cgroup %s: %w", pid, path, err)
		}
	}
	for _, name := range f.groups(path) {
		below, err := killOnce(f, filepath.Join(path, name))
		found, denied = found || below, errors.Join(denied, err)
	}
	return found, denied
}
