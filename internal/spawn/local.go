package spawn

import (
	"context"
	"errors"
	"fmt"
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
	// Hold makes a sandbox, which may be nil, ready for programs that run as somebody, nil
	// being ourselves, and keeps it so until release is called. The error says what of it
	// cannot be done, and names the key.
	Hold(s *Sandbox, id *Identity) (release func(), err error)
	// Fit is what of a sandbox can be done where the programs are started, and what cannot.
	Fit(s Sandbox, id *Identity) (fits Sandbox, lacks []Lack)
}

// Local starts programs as children of this process, and knows of those that it
// has not waited for. The zero value is ready.
type Local struct {
	// Log tells of what cannot be ended; nil logs nothing.
	Log *slog.Logger

	mu     sync.Mutex // guards the fields below; nothing else is locked or called under it
	all    map[int]*Child
	kept   map[int]*team // pids of those that were given up and not waited for, and who has forked them
	spared map[int]bool  // pids that are no programs': of a Self and of a Successor
	killed bool
	kills  map[*Child]context.CancelCauseFunc // of those that are being executed, and may hang in that
	teams  map[string]*team                   // that start the programs of sandboxes, by teamKind.key
	holds  map[string]int                     // how often such a team was asked to stay
	tmps   map[string]*privateTmp             // of the teams, by Sandbox.Name
}

// Start starts a program with descriptors 0, 1 and 2 and no others, default
// signal dispositions, and a process group of its own, under its Sandbox. If this
// process dies, the program is killed.
func (l *Local) Start(ctx context.Context, cmd *Command) (*Process, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return cmd.start(ctx, l)
}

// Execute is Start for another process that has the pipes, whose inodes are those: of STDOUT and
// STDERR. IO does not matter, but for a Socket, which says that files[0] is one that the program
// listens on. The files stay the caller's.
func (l *Local) Execute(ctx context.Context, cmd *Command, files [3]int, pipes [2]uint64) (*Child, error) {
	c := &Child{pipes: pipes}
	if err := l.launch(ctx, cmd, c, []uintptr{uintptr(files[0]), uintptr(files[1]), uintptr(files[2])}); err != nil {
		return nil, err
	}
	l.add(c)
	return c, nil
}

// mostLaunches is how often a program is tried to be executed.
const mostLaunches = 4

// launch executes the program of a command with these descriptors; add is called next.
func (l *Local) launch(ctx context.Context, cmd *Command, c *Child, files []uintptr) (err error) {
	for range mostLaunches {
		err = l.launchOnce(ctx, cmd, c, files)
		switch {
		case err == nil:
			c.owner = l
			return nil
		case errors.Is(err, errNoStarter):
			alone := *cmd
			alone.alone = true
			cmd = &alone
		case !errors.Is(err, errOutdated):
			return err
		}
	}
	return err
}

func (l *Local) launchOnce(ctx context.Context, cmd *Command, c *Child, files []uintptr) error {
	t, err := l.joinTeam(cmd.Sandbox, cmd.Identity)
	if err != nil {
		return fmt.Errorf("start %s: %w", cmd.Argv[0], err)
	}
	if cmd.limiterOf(t, cmd.Cgroup != nil && cmd.Cgroup.IsLate()) >= 0 {
		var done func()
		ctx, done = l.untilKilled(ctx, c)
		defer done()
	}
	if err = cmd.execute(ctx, c, t, files); err != nil {
		if errors.Is(err, errOutdated) {
			l.dismiss(t)
		}
		l.leaveTeam(t)
	}
	return err
}

var errKilled = errors.New("all programs are being ended")

// untilKilled is ctx until done is called, and ends when Kill is: a program that hangs while it is
// executed, as who owns it can have it do, is none that could be killed otherwise.
func (l *Local) untilKilled(ctx context.Context, c *Child) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.killed {
		cancel(errKilled)
	}
	if l.kills == nil {
		l.kills = make(map[*Child]context.CancelCauseFunc)
	}
	l.kills[c] = cancel
	return ctx, func() {
		l.mu.Lock()
		delete(l.kills, c)
		l.mu.Unlock()
		cancel(nil)
	}
}

// Kill kills every program with its tree, at once, and from now on every one that
// is started.
func (l *Local) Kill() {
	l.mu.Lock()
	l.killed = true
	all := slices.Collect(maps.Values(l.all))
	for _, kill := range l.kills {
		kill(errKilled) // which waits for nothing
	}
	l.mu.Unlock()
	for _, c := range all {
		c.killWhole()
	}
}

// Len is how many programs there are.
func (l *Local) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.all)
}

func (l *Local) add(started *Child) {
	l.mu.Lock()
	if l.all == nil {
		l.all = make(map[int]*Child)
	}
	l.all[started.PID] = started
	before := l.kept[started.PID] // it has gone, or its pid would not be free
	delete(l.kept, started.PID)
	killed := l.killed
	l.mu.Unlock()
	l.leaveTeam(before)
	if killed {
		started.killWhole()
	}
}

// remove is for a program that was waited for. Another one may have its pid by now.
func (l *Local) remove(reaped *Child) {
	l.mu.Lock()
	if l.all[reaped.PID] == reaped {
		delete(l.all, reaped.PID)
	}
	_, isKept := l.kept[reaped.PID]
	l.mu.Unlock()
	if !isKept {
		l.leaveTeam(reaped.team)
	}
}

// keep is for one that was given up: its exit is waited for by Reap.
func (l *Local) keep(pid int, t *team) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kept == nil {
		l.kept = make(map[int]*team)
	}
	l.kept[pid] = t
}

func (l *Local) forget(pid int) {
	l.mu.Lock()
	t := l.kept[pid]
	delete(l.kept, pid)
	l.mu.Unlock()
	l.leaveTeam(t)
}

// has reports whether there is a program of that pid, or it is spared.
func (l *Local) has(pid int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[pid] != nil || l.spared[pid]
}

func (l *Local) log() *slog.Logger {
	if l.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l.Log
}
