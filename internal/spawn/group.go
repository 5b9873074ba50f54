package spawn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgroup"
)

// TryCgroup returns why no program can be started in the cgroup of a descriptor
// (CLONE_INTO_CGROUP), or nil. On v1 and on old kernels every fork would fail.
func TryCgroup(fd int) error {
	attr := &syscall.ProcAttr{
		Files: []uintptr{}, Env: []string{},
		Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd},
	}
	// What is executed is nothing, and says so: then there was a process to do that.
	pid, err := syscall.ForkExec(os.DevNull+"/nothing", []string{"nothing"}, attr)
	switch {
	case err == nil:
		syscall.Wait4(pid, nil, 0, nil)
		return nil
	case errors.Is(err, unix.ENOTDIR):
		return nil
	case errors.Is(err, unix.ENOSYS) && starter() < 0 && canTrace() != nil:
		return errors.New("neither clone3(2) nor ptrace(2) is permitted") // so none could be moved in time
	}
	return err
}

// joinGroup returns the group that the program is to be born in, or nil.
func (c *Command) joinGroup() (*cgroup.Group, error) {
	if c.Cgroup == nil {
		return nil, nil
	}
	g, err := c.Cgroup.Join(c.OwnCgroup)
	if err != nil && !c.Cgroup.IsRequired() {
		c.Cgroup.Tell(err)
		return nil, nil
	}
	return g, err
}

// notIntoGroup are the errors of a clone into a cgroup that takes nobody. Those that
// execve has too are not among them.
var notIntoGroup = []error{unix.ENODEV, unix.EBUSY, unix.EBADF, unix.EOPNOTSUPP, errNotMoved}

// errNotMoved is of a program that was to be moved to its group.
var errNotMoved = errors.New("cannot be moved to its cgroup")

// isRefused reports whether it is for its group that a program was not started.
func isRefused(g *cgroup.Group, err error) bool {
	return !g.IsThere() || slices.ContainsFunc(notIntoGroup, func(e error) bool { return errors.Is(err, e) })
}

// startInGroup executes the program in its group. Where there can be none it runs without
// unless a limit is required.
func (c *Command) startInGroup(ctx context.Context, t *team, files []uintptr) (pid int, g *cgroup.Group, err error) {
	if g, err = c.joinGroup(); err != nil {
		return 0, nil, err
	}
	pid, err = c.forkExec(ctx, t, files, g)
	if g == nil {
		return pid, nil, err
	}
	g.Started()
	if err == nil {
		return pid, g, nil
	}
	refused := isRefused(g, err)
	g.Leave()
	if refused && c.Cgroup.IsRequired() {
		return 0, nil, fmt.Errorf("sandbox.cgroup: %v", err) // nobody is to think that the program is missing
	}
	if refused {
		c.Cgroup.Tell(err)
		pid, err = c.forkExec(ctx, t, files, nil)
	}
	return pid, nil, err
}

// members are the processes of the program's own cgroup, wherever they have gone.
func (l *look) members(g *cgroup.Group) {
	if g == nil {
		return
	}
	for _, pid := range g.Pids() {
		l.descend(pid)
	}
}

// leaveGroup is called when the program was waited for: it tells what its group knows.
func (e *Exit) leaveGroup(g *cgroup.Group) {
	if g == nil {
		return
	}
	if !e.GivenUp {
		e.OutOfMemory = g.OutOfMemory(!e.Terminated && e.Code() != 0)
		e.Full = g.WasFull()
	}
	g.Leave()
}
