package spawn

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgroup"
)

// A Child is a Program that this process has started, the leader of its own process
// group. It is waited for through a pidfd, so that waiting takes no thread.
type Child struct {
	PID int

	// Immutable.
	owner  *Local        // who knows of it until it is reaped
	group  *cgroup.Group // that it was born in; nil is ours
	team   *team         // whose thread has forked it
	socket string        // that it listens on, as /proc/PID/fd has it; "" is none
	shared bool          // others have that too
	own    *Process      // that it is of; nil where another process has that

	mu      sync.Mutex // guards the fields below
	pipes   [2]uint64  // inodes of its STDOUT and STDERR; 0 is none
	pidfd   *os.File   // from AwaitExit on; nil where the kernel gives none
	killed  bool
	givenUp bool   // it cannot be signalled, and nobody waits for it
	reaped  bool   // its pid may belong to somebody else
	kin     []task // its tree at the last look, without itself
}

// HasExited is that of Program.
func (c *Child) HasExited() bool {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, c.PID, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err != nil || info.Signo != 0
		}
	}
}

// ExpectExit is that of Program: the kernel tells at once.
func (c *Child) ExpectExit() bool { return true }

// AwaitExit is that of Program.
func (c *Child) AwaitExit() bool {
	if f := c.watch(); f != nil {
		rc, err := f.SyscallConn()
		waited := false
		hasExited := func(uintptr) bool {
			if waited {
				return true // a pidfd is ready for nothing else
			}
			waited = true
			return c.HasExited()
		}
		if err == nil && rc.Read(hasExited) == nil {
			return true
		}
	}
	if c.isGivenUp() {
		return c.HasExited()
	}
	// Without a pidfd that can be waited for, this takes a thread.
	var info unix.Siginfo
	for unix.Waitid(unix.P_PID, c.PID, &info, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	return true
}

// watch puts a pidfd into the runtime's poller, nil if there can be none. Few programs need one:
// most have exited when somebody asks.
func (c *Child) watch() *os.File {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return nil // its pid may be somebody else's
	}
	fd, err := pidfdOpen(c.PID, unix.PIDFD_NONBLOCK)
	if err == unix.EINVAL { // before Linux 5.10
		if fd, err = pidfdOpen(c.PID, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}
	if err != nil {
		return nil
	}
	c.pidfd = os.NewFile(uintptr(fd), "pidfd")
	if c.givenUp {
		c.pidfd.SetReadDeadline(time.Unix(1, 0))
	}
	return c.pidfd
}

// pidfdOpen is replaced by tests: not every kernel, or sandbox, has it.
var pidfdOpen = unix.PidfdOpen

func (c *Child) isGivenUp() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.givenUp
}

// Reap is that of Program.
func (c *Child) Reap(terminated bool) (*Exit, error) {
	e := &Exit{Terminated: terminated}
	defer c.owner.remove(c)
	defer e.leaveGroup(c.group)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.givenUp && !c.HasExited() {
		e.GivenUp = true
		c.reapedLocked()
		c.owner.keep(c.PID, c.team)
		return e, nil
	}
	_, err := c.wait(e, 0)
	c.reapedLocked()
	return e, err
}

// TryReap is that of Program.
func (c *Child) TryReap() (*Exit, bool, error) {
	e := new(Exit)
	c.mu.Lock()
	isReaped, err := c.wait(e, unix.WNOHANG)
	if isReaped {
		c.reapedLocked()
	}
	c.mu.Unlock()
	if isReaped {
		e.leaveGroup(c.group)
		c.owner.remove(c)
	}
	return e, isReaped, err
}

// wait takes the exit status. It reports false if there is none yet, which it waits for unless
// told not to.
func (c *Child) wait(e *Exit, options int) (isThere bool, err error) {
	for {
		pid, err := syscall.Wait4(c.PID, &e.Status, options, &e.Usage)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return true, fmt.Errorf("wait for pid %d: %w", c.PID, err)
		default:
			return pid != 0, nil
		}
	}
}

// reapedLocked has nothing done to the pid any more.
func (c *Child) reapedLocked() {
	c.reaped = true
	if c.pidfd != nil {
		c.pidfd.Close()
	}
}

// Signal is that of Program.
func (c *Child) Signal(s unix.Signal, to Target) {
	switch to {
	case ToLeader:
		c.askLeader(s)
	case ToGroup:
		c.ask(s, c.signalGroupLocked)
	case ToServing:
		c.killServing()
	case ToTree:
		c.Kill()
	case ToSocket:
		c.shutdownSocket()
	}
}

// ask signals what is to end in its own way. Who has another group by then is found
// while its parent is there, so that is noted before.
func (c *Child) ask(s unix.Signal, signal func(unix.Signal)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return
	}
	c.rememberLocked()
	signal(s)
	signal(unix.SIGCONT) // a stopped one would not notice
}

func (c *Child) signalLeaderLocked(s unix.Signal) { unix.Kill(c.PID, s) }

// signalGroupLocked signals the program and its process group, which it may have left.
func (c *Child) signalGroupLocked(s unix.Signal) {
	unix.Kill(-c.PID, s)
	if group, err := unix.Getpgid(c.PID); err == nil && group != c.PID {
		unix.Kill(c.PID, s)
	}
}

// rememberLocked notes what descends from the program. That is little to do.
func (c *Child) rememberLocked() {
	l := &look{found: make(map[int]task)}
	l.descend(c.PID)
	delete(l.found, c.PID)
	c.kin = append(c.kin, l.sorted()...)
}

// lookLocked finds the program's tree: it and what descends from it, its process
// group, what is in a cgroup of its own, what was of the tree at an earlier look, and, of
// the orphans that have come to this process, what has a pipe or the socket of the program
// open. Without a cgroup, what has left all of these before the first look is not found.
func (c *Child) lookLocked() []task {
	l := &look{found: make(map[int]task)}
	l.descend(c.PID)
	l.members(c.group)
	sessions := map[int]bool{c.PID: true}
	for _, t := range c.kin {
		sessions[t.pid] = t.session == t.pid
		if t.isStill() {
			l.descend(t.pid)
		}
	}
	files := c.files()
	for _, t := range c.owner.orphans() {
		if t.group == c.PID || sessions[t.session] || !t.isForked() && t.holds(files) {
			l.descend(t.pid)
		}
	}
	tree := l.sorted()
	delete(l.found, c.PID)
	c.kin = l.sorted()
	return tree
}

// servingLocked is the part of the tree that is the program: it, and what has its
// listening socket open.
func (c *Child) servingLocked() (serving []task) {
	for _, t := range c.lookLocked() {
		if t.pid == c.PID || c.socket != "" && t.holds([]string{c.socket}) {
			serving = append(serving, t)
		}
	}
	return serving
}

// files are the program's files that are of nobody else.
func (c *Child) files() (files []string) {
	if c.socket != "" && !c.shared {
		files = append(files, c.socket)
	}
	for _, inode := range c.pipes {
		if inode != 0 {
			files = append(files, "pipe:["+strconv.FormatUint(inode, 10)+"]")
		}
	}
	return files
}

// Kill ends the program's tree. A program that cannot be signalled is given up.
func (c *Child) Kill() { c.tell(c.killAll((*Child).lookLocked, -c.PID)) }

// killWhole is Kill of the Process, if it is ours.
func (c *Child) killWhole() {
	if c.own != nil {
		c.own.Kill()
		return
	}
	c.Kill()
}

// killServing ends the part of the tree that is the program.
func (c *Child) killServing() { c.tell(c.killAll((*Child).servingLocked, c.PID)) }

// tell logs what cannot be killed.
func (c *Child) tell(pids []int) {
	for _, pid := range pids {
		c.owner.log().Warn("process cannot be signalled, and is given up",
			"pid", pid, "program", c.PID, "reason", unix.EPERM)
	}
}

// killAll stops what find finds until there is nothing new, so that nothing is
// started meanwhile, and kills it then, with target (see kill(2)), whether or not it was
// found: to look takes descriptors. The whole tree's cgroup, if it has one of its own, is
// killed first, which needs none of that. It returns, once, what it is not permitted to
// kill.
func (c *Child) killAll(find func(*Child) []task, target int) (denied []int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return nil
	}
	gone := target < 0 && c.group != nil && c.group.Kill() // but for what has left the group
	stopped := make(map[int]task)
	for round := range 10 {
		before := len(stopped)
		for _, t := range find(c) {
			if _, known := stopped[t.pid]; !known && !t.isZombie {
				stopped[t.pid] = t
				t.signal(unix.SIGSTOP)
			}
		}
		// What the kernel tells of a process's children may lack some while others exit.
		if round > 0 && len(stopped) == before {
			break
		}
	}
	delete(stopped, c.PID)
	for pid, t := range stopped {
		if !t.signal(unix.SIGKILL) && !gone {
			denied = append(denied, pid)
		}
	}
	unix.Kill(target, unix.SIGKILL)
	if err := unix.Kill(c.PID, unix.SIGKILL); err == unix.EPERM && !gone && !c.HasExited() {
		denied = append(denied, c.PID)
		c.giveUpLocked()
	}
	if c.killed {
		denied = nil
	}
	c.killed = true
	return denied
}

// giveUpLocked has nobody wait for the program any more.
func (c *Child) giveUpLocked() {
	c.givenUp = true
	if c.pidfd != nil {
		c.pidfd.SetReadDeadline(time.Unix(1, 0))
	}
}

// EndServing is that of Program.
func (c *Child) EndServing(ask unix.Signal, grace time.Duration) {
	const pause = 20 * time.Millisecond
	kill := time.Now().Add(grace)
	asked := make(map[int]bool)
	for round := 0; ; round++ {
		left := 0
		for _, t := range c.serving() {
			if t.pid == c.PID || t.isZombie {
				continue
			}
			left++
			if round > 0 && !asked[t.pid] { // else it may be about to exec something else
				asked[t.pid] = true
				t.signal(ask)
				t.signal(unix.SIGCONT)
			}
		}
		switch now := time.Now(); {
		case left == 0:
			return
		case round == 1:
			c.shutdownSocket()
		case now.After(kill.Add(time.Second)):
			return // it was told of
		case now.After(kill):
			c.killServing()
		}
		time.Sleep(pause)
	}
}

func (c *Child) serving() []task {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reaped {
		return nil
	}
	return c.servingLocked()
}

// shutdownSocket shuts the program's listening socket down: who waits in an accept
// is told (EINVAL).
func (c *Child) shutdownSocket() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == "" || c.shared || c.reaped {
		return nil
	}
	err := errors.New("nobody has it open")
	for _, t := range c.lookLocked() {
		for _, fd := range t.descriptorsOf([]string{c.socket}) {
			if err = t.shutdown(fd); err == nil {
				return nil
			}
		}
	}
	return err
}

// shutdown shuts down a socket of the process.
func (t *task) shutdown(theirs int) error {
	pidfd, err := unix.PidfdOpen(t.pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	ours, err := unix.PidfdGetfd(pidfd, theirs, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ours)
	return unix.Shutdown(ours, unix.SHUT_RDWR)
}

// inodeOf is the number of a descriptor's file.
func inodeOf(fd uintptr) uint64 {
	var st unix.Stat_t
	if unix.Fstat(int(fd), &st) != nil {
		return 0
	}
	return st.Ino
}

var _ Program = (*Child)(nil)
