package spawn

import (
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
	case p.terminated || p.over:
	case p.HasExited():
		p.expireLocked(0)
	default:
		p.terminated = true
		p.program.Signal(p.ask, ToGroup)
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
	if p.terminated || p.over || p.HasExited() {
		return
	}
	if !p.leaving {
		p.leaving = true
		p.program.Signal(p.ask, ToLeader)
		p.wake = time.AfterFunc(wakeAfter, func() { p.program.Signal(0, ToSocket) })
	}
	p.killAfterLocked(grace, func() { p.killBy(ToServing) })
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

// Kill ends the program's tree. Output that somebody else has open is waited for no
// longer. A program that cannot be signalled is given up.
func (p *Process) Kill() { p.killBy(ToTree) }

func (p *Process) killBy(t Target) {
	p.mu.Lock()
	if !p.over {
		p.notePipesLocked()
	}
	p.mu.Unlock()
	p.program.Signal(unix.SIGKILL, t)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.killed = true
		p.expireLocked(lastWords)
	}
}

// EndServing ends what has the program's listening socket open when the program has
// exited: it is the program too, started by a script that did not exec it, or one of
// its processes. It is asked to end, and killed after grace.
func (p *Process) EndServing(grace time.Duration) {
	p.mu.Lock()
	ask := p.ask
	p.mu.Unlock()
	p.program.EndServing(ask, grace)
}
