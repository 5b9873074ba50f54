package spawn

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// wakeAfter is how long a program that is to leave may go on to accept.
const wakeAfter = time.Second

// AskWith changes the signal that asks the program to end. Without it that is TERM.
func (p *Process) AskWith(s unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ask = s
}

// Terminate asks the program's process group to end, and kills its tree after grace.
// When the program has exited by itself, what is left of that was meant to live on:
// only the waiting for output ends.
func (p *Process) Terminate(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.terminated || p.reaped:
	case p.HasExited():
		p.expireLocked(0)
	default:
		p.terminated = true
		p.rememberLocked() // who has another group is found while its parent is there
		p.signalGroupLocked(p.ask)
		p.signalGroupLocked(unix.SIGCONT) // a stopped one would not notice
		p.killAfterLocked(grace, p.Kill)
	}
}

// Leave asks the program itself to end, and nothing that it has started. After a
// second its listening socket is shut down, which ends an accept that waits; after
// grace it is killed, with what else has that socket open. It may be called again
// with less grace, and Terminate after it.
func (p *Process) Leave(grace time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminated || p.reaped || p.HasExited() {
		return
	}
	if !p.leaving {
		p.leaving = true
		p.rememberLocked()
		unix.Kill(p.PID, p.ask)
		unix.Kill(p.PID, unix.SIGCONT)
		p.wake = time.AfterFunc(wakeAfter, func() { p.shutdownSocket() })
	}
	p.killAfterLocked(grace, p.killServing)
}

// killAfterLocked has kill called after grace, unless something is to come sooner.
func (p *Process) killAfterLocked(grace time.Duration, kill func()) {
	at := time.Now().Add(grace)
	if p.kill != nil {
		if !p.terminated && p.killAt.Before(at) {
			return
		}
		p.kill.Stop()
	}
	p.kill, p.killAt = time.AfterFunc(grace, kill), at
}

// IsTerminated reports whether the program's process group was asked to end. What is
// left of it has its grace then, and is killed after it.
func (p *Process) IsTerminated() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.terminated
}

// expireLocked ends the moving of input and output after d, whoever holds the
// other ends.
func (p *Process) expireLocked(d time.Duration) {
	if p.Stdin != nil {
		p.Stdin.SetWriteDeadline(time.Now().Add(d))
	}
	for _, o := range []*Output{p.Stdout, p.Stderr} {
		if o != nil {
			o.Expire(d)
		}
	}
}

// signalGroupLocked signals a program that was not reaped, and its process group,
// which it may have left.
func (p *Process) signalGroupLocked(s unix.Signal) {
	unix.Kill(-p.PID, s)
	if group, err := unix.Getpgid(p.PID); err == nil && group != p.PID {
		unix.Kill(p.PID, s)
	}
}

// rememberLocked notes what descends from the program. That is little to do.
func (p *Process) rememberLocked() {
	l := &look{found: make(map[int]task)}
	l.descend(p.PID)
	delete(l.found, p.PID)
	p.kin = append(p.kin, l.sorted()...)
}

// lookLocked finds the program's tree: it and what descends from it, its process
// group, what is in a cgroup of its own, what was of the tree at an earlier look, and, of
// the orphans that have come to this process, what has a pipe or the socket of the program
// open. Without a cgroup, what has left all of these before the first look is not found.
func (p *Process) lookLocked() []task {
	l := &look{found: make(map[int]task)}
	l.descend(p.PID)
	l.members(p.group)
	sessions := map[int]bool{p.PID: true}
	for _, t := range p.kin {
		sessions[t.pid] = t.session == t.pid
		if t.isStill() {
			l.descend(t.pid)
		}
	}
	files := p.filesLocked()
	for _, t := range p.owner.orphans() {
		if t.group == p.PID || sessions[t.session] || t.holds(files) && !t.isForked() {
			l.descend(t.pid)
		}
	}
	tree := l.sorted()
	delete(l.found, p.PID)
	p.kin = l.sorted()
	return tree
}

// servingLocked is the part of the tree that is the program: it, and what has its
// listening socket open.
func (p *Process) servingLocked() (serving []task) {
	for _, t := range p.lookLocked() {
		if t.pid == p.PID || p.socket != "" && t.holds([]string{p.socket}) {
			serving = append(serving, t)
		}
	}
	return serving
}

// filesLocked are the program's files that are of nobody else.
func (p *Process) filesLocked() (files []string) {
	if p.socket != "" {
		files = append(files, p.socket)
	}
	for _, o := range []*Output{p.Stdout, p.Stderr} {
		if o != nil && o.name() != "" {
			files = append(files, o.name())
		}
	}
	return files
}

// Kill ends the program's tree. Output that somebody else has open is waited for no
// longer. A program that cannot be signalled is given up.
func (p *Process) Kill() {
	p.tell(p.killAll((*Process).lookLocked, -p.PID))
}

// killServing ends the part of the tree that is the program.
func (p *Process) killServing() {
	p.tell(p.killAll((*Process).servingLocked, p.PID))
}

// tell logs what cannot be killed.
func (p *Process) tell(pids []int) {
	for _, pid := range pids {
		p.owner.log().Warn("process cannot be signalled, and is given up",
			"pid", pid, "program", p.PID, "reason", unix.EPERM)
	}
}

// killAll stops what find finds until there is nothing new, so that nothing is
// started meanwhile, and kills it then, with target (see kill(2)), whether or not it was
// found: to look takes descriptors. The whole tree's cgroup, if it has one of its own, is
// killed first, which needs none of that. It returns, once, what it is not permitted to
// kill.
func (p *Process) killAll(find func(*Process) []task, target int) (denied []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return nil
	}
	gone := target < 0 && p.group != nil && p.group.Kill() // but for what has left the group
	stopped := make(map[int]task)
	for round := range 10 {
		before := len(stopped)
		for _, t := range find(p) {
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
	delete(stopped, p.PID)
	for pid, t := range stopped {
		if !t.signal(unix.SIGKILL) && !gone {
			denied = append(denied, pid)
		}
	}
	unix.Kill(target, unix.SIGKILL)
	if err := unix.Kill(p.PID, unix.SIGKILL); err == unix.EPERM && !gone && !p.HasExited() {
		denied = append(denied, p.PID)
		p.giveUpLocked()
	}
	p.expireLocked(lastWords)
	if p.killed {
		denied = nil
	}
	p.killed = true
	return denied
}

// giveUpLocked has nobody wait for the program any more.
func (p *Process) giveUpLocked() {
	p.givenUp = true
	if p.pidfd != nil {
		p.pidfd.SetReadDeadline(time.Unix(1, 0))
	}
}

// EndServing ends what has the program's listening socket open when the program has
// exited: it is the program too, started by a script that did not exec it, or one of
// its processes. It is asked to end, and killed after grace.
func (p *Process) EndServing(grace time.Duration) {
	const pause = 20 * time.Millisecond
	kill := time.Now().Add(grace)
	asked := make(map[int]bool)
	for round := 0; ; round++ {
		p.mu.Lock()
		serving, ask := p.servingLocked(), p.ask
		p.mu.Unlock()
		left := 0
		for _, t := range serving {
			if t.pid == p.PID || t.isZombie {
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
			p.shutdownSocket()
		case now.After(kill.Add(time.Second)):
			return // it was told of
		case now.After(kill):
			p.killServing()
		}
		time.Sleep(pause)
	}
}

// shutdownSocket shuts the program's listening socket down: who waits in an accept
// is told (EINVAL).
func (p *Process) shutdownSocket() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.socket == "" || p.reaped {
		return nil
	}
	err := errors.New("nobody has it open")
	for _, t := range p.lookLocked() {
		for _, fd := range t.descriptorsOf([]string{p.socket}) {
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
