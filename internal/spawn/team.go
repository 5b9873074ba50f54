package spawn

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A team is threads that fork, each with a locked goroutine of its own. They give what
// they have done to themselves to the programs that they start: that is how a Sandbox
// comes to a program before its first instruction.
//
// No thread ends before its last child: a program dies with the thread that has forked
// it (PR_SET_PDEATHSIG in prctl(2)), which is also why other goroutines' threads do not
// fork unless they are our own (OwnThreads). There are as many as can run at once, since each
// waits until its program is executed, but of a sandbox's few: there may be many sandboxes; and
// one with Landlock.
type team struct {
	sandbox *Sandbox // nil: the threads are as all others
	kind    teamKind
	queue   chan *launch
	begin   func() error   // starts the threads, once; it may take a while
	threads sync.WaitGroup // their goroutines
	files   []knownFile    // of Landlock; written by begin
	tmp     *privateTmp    // nil: that of all
	limiter int            // what executes its programs, written by begin; -1: nothing

	users int // programs, and who is about to start one; guarded by Local.mu
}

// mostOfSandbox is how many threads a sandbox has at most.
const mostOfSandbox = 4

func newTeam(s *Sandbox, kind teamKind) *team {
	t := &team{sandbox: s, kind: kind, queue: make(chan *launch), limiter: -1}
	size := runtime.GOMAXPROCS(0)
	switch {
	case s == nil:
	case s.isPrivileged():
		// Programs are in the Landlock domain of their thread, and those of two domains
		// cannot signal or trace one another, or meet at abstract sockets.
		size = 1
	default:
		size = min(size, mostOfSandbox)
	}
	t.begin = sync.OnceValue(func() error { return t.start(size) })
	return t
}

// prepare makes what is not a thread's.
func (t *team) prepare() (err error) {
	switch {
	case !t.kind.isLimited:
		return nil
	case t.sandbox.Chroot != "":
		return errors.New("sandbox.rlimits: with a chroot they need ptrace and CAP_SYS_RESOURCE")
	}
	if t.limiter, err = newLimiter(t.sandbox.Rlimits); err != nil {
		return fmt.Errorf("sandbox.rlimits: %w", err)
	}
	return nil
}

// plainTeam is the threads of all programs that need no others. They never end.
var plainTeam = sync.OnceValue(func() *team {
	t := newTeam(nil, teamKind{})
	t.begin()
	return t
})

// start starts the threads. If one cannot be what the sandbox says, there are none.
func (t *team) start(size int) (err error) {
	if err := t.prepare(); err != nil {
		return err
	}
	for range size {
		ready := make(chan error)
		t.threads.Add(1)
		go onThread(func() {
			defer t.threads.Done()
			var err error
			if t.sandbox != nil {
				var files []knownFile
				if files, err = t.sandbox.confine(t.tmp, t.kind.isRoot); t.files == nil {
					t.files = files
				}
			}
			ready <- err
			if err != nil {
				return
			}
			if t.sandbox == nil {
				launchAll(t)
			}
			t.serve()
		})
		if err = <-ready; err != nil {
			close(t.queue)
			break
		}
	}
	return err
}

// launchAll is serve of the team that never ends.
func launchAll(t *team) { t.serve() }

func (t *team) serve() {
	for l := range t.queue {
		l.run(t)
		l.done <- struct{}{}
	}
}

// errOutdated is that of a team which would restrict a program to files that were replaced.
var errOutdated = errors.New("files of the sandbox have been replaced")

// isOutdated reports whether files were replaced that the sandbox names, as by a
// deployment. It is asked on a thread of the team, which sees them as its programs do.
func (t *team) isOutdated() bool {
	return slices.ContainsFunc(t.files, func(k knownFile) bool { return k.hasChanged() })
}

// disband ends the threads of a team. They must not be needed any more.
func (l *Local) disband(t *team) {
	if t.begin() == nil {
		close(t.queue)
	}
	t.threads.Wait()
	if t.limiter >= 0 {
		unix.Close(t.limiter)
	}
	if t.tmp != nil {
		l.leaveTmp(t.sandbox.Name, t.tmp)
	}
}

// A teamKind says which sandboxes are of one team.
type teamKind struct {
	key       string // "" is that of all programs
	isLimited bool   // by a limiter
	isRoot    bool   // its programs are, where that makes a difference
}

func kindOf(s *Sandbox, id *Identity) (k teamKind) {
	if s == nil {
		return k
	}
	k.isLimited = len(s.Rlimits) > 0 && needsLimiter(id)
	if !k.isLimited && !s.isInherited() {
		return k
	}
	k.isRoot = s.LimitCapabilities && id.isRoot()
	k.key = fmt.Sprint(s.key(), k.isRoot)
	if k.isLimited {
		k.key += fmt.Sprint(s.Rlimits)
	}
	return k
}

// joinTeam returns the team that starts a sandbox's programs as somebody, and counts the
// caller among its users: leaveTeam is called next.
func (l *Local) joinTeam(s *Sandbox, id *Identity) (*team, error) {
	kind := kindOf(s, id)
	if kind.key == "" {
		return plainTeam(), nil
	}
	l.mu.Lock()
	t := l.teams[kind.key]
	if t == nil {
		t = l.addTeamLocked(*s, kind)
	}
	t.users++
	l.mu.Unlock()
	if err := t.begin(); err != nil {
		l.dismiss(t)
		l.leaveTeam(t)
		return nil, err
	}
	return t, nil
}

func (l *Local) addTeamLocked(s Sandbox, kind teamKind) *team {
	t := newTeam(&s, kind)
	if s.PrivateTmp {
		t.tmp = l.tmpLocked(s.Name)
	}
	if l.teams == nil {
		l.teams = make(map[string]*team)
	}
	l.teams[kind.key] = t
	return t
}

// dismiss has no new program started by a team.
func (l *Local) dismiss(t *team) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.teams[t.kind.key] == t {
		delete(l.teams, t.kind.key)
	}
}

// leaveTeam undoes joinTeam. A team that nobody needs any more ends.
func (l *Local) leaveTeam(t *team) {
	if t == nil || t.sandbox == nil {
		return
	}
	l.mu.Lock()
	t.users--
	over := l.dropLocked(t)
	l.mu.Unlock()
	if over {
		l.disband(t)
	}
}

// dropLocked takes a team away that nobody needs any more, and reports whether it has: then
// disband is next.
func (l *Local) dropLocked(t *team) bool {
	isCurrent := l.teams[t.kind.key] == t
	if t.users > 0 || isCurrent && l.holds[t.kind.key] > 0 {
		return false
	}
	if isCurrent {
		delete(l.teams, t.kind.key)
	}
	return true
}

// Hold makes a sandbox, which may be nil, ready for programs that run as somebody, and
// keeps it so until release is called: then its threads end when the last program under it
// has. Without it a sandbox is made for the programs that are there at once. The error
// says what cannot be done.
func (l *Local) Hold(s *Sandbox, id *Identity) (release func(), err error) {
	key := kindOf(s, id).key
	if key == "" {
		return func() {}, nil
	}
	l.mu.Lock()
	if l.holds == nil {
		l.holds = make(map[string]int)
	}
	l.holds[key]++
	l.mu.Unlock()
	release = sync.OnceFunc(func() { l.release(key) })
	t, err := l.joinTeam(s, id)
	if err != nil {
		release()
		return nil, err
	}
	l.leaveTeam(t)
	return release, nil
}

func (l *Local) release(key string) {
	l.mu.Lock()
	if l.holds[key]--; l.holds[key] == 0 {
		delete(l.holds, key)
	}
	t := l.teams[key]
	over := t != nil && l.dropLocked(t)
	l.mu.Unlock()
	if over {
		l.disband(t)
	}
}
