package spawn

import (
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgroup"
)

// A launch is a program to be executed by a thread of a team.
type launch struct {
	argv    []string
	attr    syscall.ProcAttr
	sys     syscall.SysProcAttr
	cred    syscall.Credential
	sandbox *Sandbox      // nil: none
	done    chan struct{} // has room for one

	// Written before done is sent to.
	pid, pidfd int
	err        error
}

var launches = sync.Pool{New: func() any { return &launch{done: make(chan struct{}, 1)} }}

// forkExec has a thread of the team execute the command with those descriptors, in that
// group if it is not nil.
func (c *Command) forkExec(t *team, files []uintptr, g *cgroup.Group) (pid, pidfd int, err error) {
	l := launches.Get().(*launch)
	defer launches.Put(l)
	l.argv, l.pidfd, l.sandbox = c.Argv, -1, c.Sandbox
	l.sys = syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, PidFD: &l.pidfd}
	if g != nil {
		l.sys.UseCgroupFD, l.sys.CgroupFD = true, g.FD()
	}
	if c.Identity.isOther() {
		l.cred = syscall.Credential{Uid: c.Identity.UID, Gid: c.Identity.GID, Groups: c.Identity.Groups}
		l.sys.Credential = &l.cred
	}
	l.attr = syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Files: files, Sys: &l.sys}
	t.queue <- l
	<-l.done
	l.argv, l.attr, l.cred, l.sandbox = nil, syscall.ProcAttr{}, syscall.Credential{}, nil
	return l.pid, l.pidfd, l.err
}

// isOther reports whether a program has to become somebody. Who is root already takes
// the groups, too.
func (i *Identity) isOther() bool {
	return i != nil && (unix.Geteuid() == 0 || int(i.UID) != unix.Geteuid() || int(i.GID) != unix.Getegid())
}

// run is called on a thread of the team.
func (l *launch) run() {
	l.pid, l.err = syscall.ForkExec(l.argv[0], l.argv, &l.attr)
	if l.err != nil || l.sandbox == nil {
		return
	}
	if l.err = l.sandbox.settle(l.pid); l.err != nil {
		unix.Kill(l.pid, unix.SIGKILL)
		for {
			if _, err := syscall.Wait4(l.pid, nil, 0, nil); err != syscall.EINTR {
				break
			}
		}
		if l.pidfd >= 0 {
			unix.Close(l.pidfd)
		}
	}
}
