package spawn

import (
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// A team is threads that fork, each with a locked goroutine of its own. They give what
// they have done to themselves to the programs that they start: that is how a Sandbox
// comes to a program before its first instruction.
//
// No thread ends before its last child: a program dies with the thread that has forked
// it (PR_SET_PDEATHSIG in prctl(2)), which is also why other goroutines' threads do not
// fork. There are as many as can run at once, since each waits until its program is
// executed, but of a sandbox's few: there may be many sandboxes.
type team struct {
	sandbox *Sandbox // nil: the threads are as all others
	key     string   // of the sandbox
	queue   chan *launch
	begin   func() error   // starts the threads, once; it may take a while
	threads sync.WaitGroup // their goroutines

	users int // programs, and who is about to start one; guarded by Local.mu
}

// mostOfSandbox is how many threads a sandbox has at most.
const mostOfSandbox = 4

func newTeam(s *Sandbox) *team {
	t := &team{sandbox: s, queue: make(chan *launch)}
	size := runtime.GOMAXPROCS(0)
	if s != nil {
		t.key, size = s.key(), min(size, mostOfSandbox)
	}
	t.begin = sync.OnceValue(func() error { return t.start(size) })
	return t
}

// plainTeam is the threads of all programs that need no others. They never end.
var plainTeam = sync.OnceValue(func() *team {
	t := newTeam(nil)
	t.begin()
	return t
})

// start starts the threads. If one cannot be what the sandbox says, there are none.
func (t *team) start(size int) (err error) {
	for range size {
		ready := make(chan error)
		t.threads.Add(1)
		go onThread(func() {
			defer t.threads.Done()
			err := t.sandbox.confine()
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
		l.run()
		l.done <- struct{}{}
	}
}

// end ends the threads. They must not be needed any more.
func (t *team) end() {
	if t.begin() == nil {
		close(t.queue)
	}
	t.threads.Wait()
}

// onThread calls f on a thread that nothing else runs on, before and after, and that ends
// with f. The first thread of a process cannot end: it is left to others.
func onThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return // with a goroutine that is locked to it, a thread ends
	}
	other := make(chan struct{})
	go func() {
		runtime.LockOSThread() // to another one, since this is taken
		close(other)
		f()
	}()
	<-other
	runtime.UnlockOSThread()
}

// join returns the team that starts a sandbox's programs, and counts the caller among
// its users: leave is called next.
func (l *Local) join(s *Sandbox) (*team, error) {
	if s == nil || !s.isInherited() {
		return plainTeam(), nil
	}
	key := s.key()
	l.mu.Lock()
	t := l.teams[key]
	if t == nil {
		own := *s
		t = newTeam(&own)
		if l.teams == nil {
			l.teams = make(map[string]*team)
		}
		l.teams[key] = t
	}
	t.users++
	l.mu.Unlock()
	if err := t.begin(); err != nil {
		l.dismiss(t)
		l.leave(t)
		return nil, err
	}
	return t, nil
}

// dismiss has no new program started by a team.
func (l *Local) dismiss(t *team) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.teams[t.key] == t {
		delete(l.teams, t.key)
	}
}

// leave undoes join. A team that nobody needs any more ends.
func (l *Local) leave(t *team) {
	if t == nil || t.sandbox == nil {
		return
	}
	l.mu.Lock()
	t.users--
	over := t.users == 0 && (l.teams[t.key] != t || l.holds[t.key] == 0)
	if over && l.teams[t.key] == t {
		delete(l.teams, t.key)
	}
	l.mu.Unlock()
	if over {
		t.end()
	}
}

// Hold makes a sandbox ready, which may be nil, and keeps it so until release is called:
// then its threads end when the last program under it has. Without it a sandbox is made
// for the programs that are there at once. The error says what cannot be done.
func (l *Local) Hold(s *Sandbox) (release func(), err error) {
	if s == nil || !s.isInherited() {
		return func() {}, nil
	}
	key := s.key()
	l.mu.Lock()
	if l.holds == nil {
		l.holds = make(map[string]int)
	}
	l.holds[key]++
	l.mu.Unlock()
	release = sync.OnceFunc(func() { l.release(key) })
	t, err := l.join(s)
	if err != nil {
		release()
		return nil, err
	}
	l.leave(t)
	return release, nil
}

func (l *Local) release(key string) {
	l.mu.Lock()
	l.holds[key]--
	t := l.teams[key]
	if l.holds[key] == 0 {
		delete(l.holds, key)
	}
	over := t != nil && t.users == 0 && l.holds[key] == 0
	if over {
		delete(l.teams, key)
	}
	l.mu.Unlock()
	if over {
		t.end()
	}
}
