package spawn

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgroup"
)

// A launch is a program to be executed by a thread of a team.
type launch struct {
	path   string
	argv   []string
	faults [2]int // a pipe, if there is a limiter
	procs  int    // by which that goes to the program's group; -1: there is none
	attr   syscall.ProcAttr
	sys    syscall.SysProcAttr
	cred   syscall.Credential
	enter  *cgroup.Group // that a traced program is moved to; nil: none
	done   chan struct{} // has room for one
	sets   bool          // its limits are set from outside
	settle chan error    // what a traced program waits for; an error is its end

	// Written before done is sent to.
	pid int
	err error
}

var launches = sync.Pool{New: func() any { return &launch{done: make(chan struct{}, 1), settle: make(chan error, 1)} }}

// forkExec has a thread of the team execute the command with those descriptors, in that
// group if it is not nil.
//
// A program with limits is stopped at its first instruction, by ptrace(2), until it has them:
// what a thread has of its own are no limits. A limiter is stopped to be adjusted alone. That
// takes from a set-user-ID program its rights, so it is done for nothing else unless it has none
// anyway; but also for a program that cannot be born in its group, where no limiter can be
// executed: in another root, and on other architectures.
func (c *Command) forkExec(ctx context.Context, t *team, files []uintptr, g *cgroup.Group) (pid int, err error) {
	l := launches.Get().(*launch)
	defer launches.Put(l)
	l.path, l.argv = c.Argv[0], c.Argv
	l.sys = syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, AmbientCaps: c.ambient()}
	switch {
	case g == nil:
	case g.IsLate():
		l.enter = g
	default:
		l.sys.UseCgroupFD, l.sys.CgroupFD = true, g.FD()
	}
	if c.Identity.isOther() {
		l.cred = syscall.Credential{Uid: c.Identity.UID, Gid: c.Identity.GID, Groups: c.Identity.Groups}
		l.sys.Credential = &l.cred
	}
	l.sets = t.limiter < 0 && c.Sandbox != nil && len(c.Sandbox.Rlimits) > 0
	l.attr = syscall.ProcAttr{Dir: c.Dir, Env: c.Env, Files: files, Sys: &l.sys}
	c.launch(ctx, l, t)
	l.argv, l.enter, l.attr, l.sys, l.cred = nil, nil, syscall.ProcAttr{}, syscall.SysProcAttr{}, syscall.Credential{}
	return l.pid, l.err
}

func (c *Command) launch(ctx context.Context, l *launch, t *team) {
	limiter := c.limiterOf(t, l.enter != nil)
	if limiter >= 0 {
		if l.err = l.limit(limiter); l.err != nil {
			return
		}
		defer l.report(ctx)
	}
	if l.enter != nil && canTrace() != nil {
		l.err = fmt.Errorf("%w: ptrace: %v", errNotMoved, canTrace())
		return
	}
	l.sys.Ptrace = l.sets || l.enter != nil || c.Sandbox.isAdjustedFirst()
	if t.sandbox == nil && !l.sys.Ptrace && ownThreads.Load() {
		l.runHere()
	} else {
		t.queue <- l
		<-l.done
	}
	if limiter != t.limiter && l.err == syscall.EACCES { // of the starter, which was not executed
		l.err = errNoStarter
	}
	if l.err == nil && (c.Sandbox != nil && c.Sandbox.isSettled() || l.enter != nil) {
		c.settle(l)
	}
}

// settle has the sandbox settle a program, moves it to its cgroup, and ends it if that
// cannot be.
func (c *Command) settle(l *launch) {
	var err error
	if c.Sandbox != nil {
		err = c.Sandbox.settle(l.pid, l.sets)
	}
	if err == nil && l.enter != nil {
		if enterErr := l.enter.Enter(l.pid); enterErr != nil {
			err = fmt.Errorf("%w: %v", errNotMoved, enterErr)
		}
	}
	if l.sys.Ptrace {
		l.settle <- err
		<-l.done
		return
	}
	if err != nil {
		l.abandon(err)
	}
}

// run is called on a thread of the team, which alone may let go of what it traces.
func (l *launch) run(t *team) {
	if t.isOutdated() {
		l.err = errOutdated
		return
	}
	forking <- struct{}{}
	l.fork()
	<-forking
	if l.err != nil || !l.sys.Ptrace {
		return
	}
	if err := awaitExec(l.pid); err != nil {
		l.abandon(err)
		return
	}
	l.done <- struct{}{}
	err := <-l.settle
	if err == nil {
		err = syscall.PtraceDetach(l.pid)
	}
	if err != nil {
		l.abandon(err)
	}
}

// errNoStarter is that of a starter which is not executed.
var errNoStarter = errors.New("no program of our own can be executed here")

// abandon kills a program that cannot be what it was to be, with what it may have forked by
// then, and reaps it.
func (l *launch) abandon(err error) {
	l.err = err
	if err != errReaped {
		unix.Kill(-l.pid, unix.SIGKILL)
		unix.Kill(l.pid, unix.SIGKILL)
		for {
			_, err := syscall.Wait4(l.pid, nil, 0, nil)
			if err != syscall.EINTR {
				break
			}
		}
	}
}
