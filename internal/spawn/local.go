package spawn

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// A Spawner starts programs.
type Spawner interface {
	// Start starts a program and returns when it has been executed. The end of ctx
	// later on does not end it. The error is that of the kernel, in words, or the
	// cause of ctx.
	Start(ctx context.Context, cmd *Command) (*Process, error)
}

// Local starts programs as children of this process, and knows of those that it
// has not waited for. The zero value is ready.
type Local struct {
	// Log tells of what cannot be ended; nil logs nothing.
	Log *slog.Logger

	mu     sync.Mutex // guards the fields below; nothing else is locked or called under it
	all    map[int]*Process
	kept   map[int]bool // pids of those that were given up and not waited for
	killed bool
}

// Start starts a program with descriptors 0, 1 and 2 and no others, default
// signal dispositions, and a process group of its own. If this process dies, the
// program is killed.
func (l *Local) Start(ctx context.Context, cmd *Command) (*Process, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	p, err := cmd.start()
	if err != nil {
		return nil, err
	}
	p.owner = l
	l.add(p)
	return p, nil
}

// Kill kills every program with its tree, at once, and from now on every one that
// is started.
func (l *Local) Kill() {
	l.mu.Lock()
	l.killed = true
	all := slices.Collect(maps.Values(l.all))
	l.mu.Unlock()
	for _, p := range all {
		p.Kill()
	}
}

// Len is how many programs there are.
func (l *Local) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

func (l *Local) add(started *Process) {
	l.mu.Lock()
	if l.all == nil {
		l.all = make(map[int]*Process)
	}
	l.all[started.PID] = started
	delete(l.kept, started.PID)
	killed := l.killed
	l.mu.Unlock()
	if killed {
		started.Kill()
	}
}

// remove is for a process that was waited for. Another one may have its pid by now.
func (l *Local) remove(reaped *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all[reaped.PID] == reaped {
		delete(l.all, reaped.PID)
	}
}

// keep is for one that was given up: its exit is waited for by Reap.
func (l *Local) keep(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept == nil {
		l.kept = make(map[int]bool)
	}
	l.kept[pid] = true
}

func (l *Local) forget(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.kept, pid)
}

// has reports whether there is a program of that pid.
func (l *Local) has(pid int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[pid] != nil
}

func (l *Local) log() *slog.Logger {
	if l.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l.Log
}
