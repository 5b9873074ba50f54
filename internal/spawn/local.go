package spawn

import (
	"context"
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
	mu     sync.Mutex // guards the fields below; a process's own mu may be taken under it
	all    map[*Process]struct{}
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

// Kill kills every program with its process group, at once, and from now on
// every one that is started.
func (l *Local) Kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.killed = true
	for p := range l.all {
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
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = make(map[*Process]struct{})
	}
	l.all[started] = struct{}{}
	if l.killed {
		started.Kill()
	}
}

// remove is for a process that was waited for.
func (l *Local) remove(reaped *Process) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, reaped)
}
