package spawn

import (
	"time"

	"golang.org/x/sys/unix"
)

// A Program is one that runs, for the Process which keeps its times: what can be done to
// it by the process that has started it. That is this one, or another with more rights.
// Its methods may be called by many goroutines.
type Program interface {
	// HasExited reports whether it has exited. It is not reaped by this: its pid stays
	// its own, so its process group can be signalled.
	HasExited() bool
	// ExpectExit is for one that has closed its output, and so is about to exit: where it takes a
	// moment to hear of that, it waits for that long. It reports false if nothing was heard.
	ExpectExit() bool
	// TryReap is Reap of one that has exited and was not asked to end. It reports false if it has
	// not exited, or that takes more, and does not wait.
	TryReap() (e *Exit, isReaped bool, err error)
	// AwaitExit returns when it has exited. It returns false when it has not, and cannot
	// be signalled. It is called once.
	AwaitExit() bool
	// Signal signals what is meant, and returns without an error: what cannot be
	// signalled is logged. After Reap it does nothing.
	Signal(s unix.Signal, to Target)
	// EndServing ends what has the program's listening socket open when the program has
	// exited. It is asked to end by a signal, and killed after grace.
	EndServing(ask unix.Signal, grace time.Duration)
	// Reap takes the exit status of a program that has exited, or cannot be signalled,
	// and forgets it. It is told whether it was asked to end, and called once, unless TryReap has.
	Reap(terminated bool) (*Exit, error)
}

// A Target is what a signal is for.
type Target uint8

const (
	// ToLeader is the program itself. A stopped one goes on, and notices.
	ToLeader Target = iota
	// ToGroup is its process group, and it, should it have left that. Likewise.
	ToGroup
	// ToServing is the program and what else has its listening socket open; the signal is
	// KILL.
	ToServing
	// ToTree is the program with all that it has started; the signal is KILL.
	ToTree
	// ToSocket is the program's listening socket, which is shut down: who waits in an
	// accept is told (EINVAL). The signal does not matter.
	ToSocket
	targets // how many there are
)

// IsValid reports whether there is such a target, and it takes that signal.
func (t Target) IsValid(s unix.Signal) bool {
	switch t {
	case ToLeader, ToGroup:
		return s > 0 && s < 65
	case ToServing, ToTree:
		return s == unix.SIGKILL
	}
	return t < targets
}
