// Package worker keeps FastCGI programs running and gives them the requests:
// docs/workers.md says how. It knows a request, never the connection that it came
// from.
package worker

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

// How the number of workers follows demand.
const (
	ScaleStatic   = "static"   // always Max
	ScaleDynamic  = "dynamic"  // with spares, between Min and Max
	ScaleOnDemand = "ondemand" // none without requests
)

// Which one of several free workers gets a request.
const (
	DispatchLIFO = "lifo" // the one used last: few workers, warm caches
	DispatchFIFO = "fifo" // the one used the longest time ago
)

// Options say which program the workers run, how many there are and how
// long they live. A zero duration or number is no bound where nothing else is said.
type Options struct {
	// Command is the program with its arguments. It accepts FastCGI connections
	// on descriptor 0; its STDOUT and its STDERR are logged.
	Command []string
	Dir     string // working directory; "" is the daemon's

	Env          []string // as in cgi.Options, as are the next four
	PassEnv      []string
	PassParams   []string
	SingleFields []string
	Dropped      func(name, why string)

	// Roots are the folders that a script must lie in, and Extensions those that it
	// must have. With either, workers are asked for a script that was found to be so,
	// and told of no other file; without, they look for it themselves.
	Roots, Extensions []string

	// WarmUp, NAME=value, are the params of a request that a new worker must
	// answer, with a status below 500, before it gets others. Without them it is
	// ready when the program has been executed.
	WarmUp []string
	// Release tells two of the same program apart that are to be taken for different
	// ones, since the program has read files that have changed.
	Release  uint64
	Software string // SERVER_SOFTWARE when the web server sent none

	Scale       string // ScaleDynamic (also when empty), ScaleStatic or ScaleOnDemand
	Max         int    // workers at most, but for those that are ending; at least 1
	Min         int    // ScaleDynamic: workers at least
	MinSpare    int    // ScaleDynamic: idle or starting ones at least
	MaxSpare    int    // ScaleDynamic: idle ones at most, but for a moment
	Concurrency int    // requests that one takes at once, each on its own connection; at least 1
	SpawnRate   int    // starts a second, and at once after a quiet second
	Dispatch    string // DispatchLIFO (also when empty) or DispatchFIFO

	IdleTimeout  time.Duration // an idle worker above Min and MinSpare ends
	MaxLifetime  time.Duration // replaced then; ±10 %
	MaxRequests  int           // replaced then; ±10 %
	MaxMemory    int64         // bytes, with descendants, after a request: replaced
	StartTimeout time.Duration // from start to ready; 0 is 10 s
	StopSignal   syscall.Signal
	StopGrace    time.Duration // from StopSignal, 0 is TERM, to KILL

	Admit  func(bytes int) bool // whether an entry of STDERR is to be logged; nil: each is
	Stderr string               // where FCGI_STDERR of requests goes: cgi.StderrLog (also when empty), cgi.StderrClient or cgi.StderrBoth
	// LongParams has params passed on that are longer than a FastCGI record, for
	// programs that put records together. Without it they are refused with 431.
	LongParams bool
	// Sandbox is that of the programs; nil is none. With a chroot Command and Dir are
	// paths there, and Roots are not.
	Sandbox *spawn.Sandbox
	// Direct says that all workers have one listening socket, as docs/workers.md says: Socket
	// returns a descriptor of it, which is the caller's and blocks, and Run is not called. Scale
	// has to be ScaleStatic then, with no WarmUp and no bound that requests are counted for.
	Direct  bool
	Socket  func() (fd int, err error)
	RunDir  string       // where a folder for the workers' sockets is made; "" is os.TempDir
	Log     *slog.Logger // nil logs nothing
	Hooks   Hooks
	Spawner spawn.Spawner // what starts them; nil: a spawn.Local of its own
	// Launcher starts them in place of Spawner, if it is not nil: it knows better than what
	// is said here what is started, and for which script a worker may be asked.
	Launcher Launcher
	// Identity is who the programs run as; nil is who we are. Scripts are looked for with
	// that user's rights.
	Identity *spawn.Identity
	Cgroup   *cgroup.Pool // where, each in a group of its own; nil: in the daemon's
}

// Hooks report what happens. Each may be nil; all are called from many
// goroutines, with no lock held.
type Hooks struct {
	// Started is called for each worker that is ready, with the time from its start.
	Started func(took time.Duration)
	// Exited is called for each worker that has ended, with one of
	// ExitReasons.
	Exited func(reason string)
	// Used is called with CPU time that workers and their children have used, each part
	// once: when Measure has found it, and the rest when a worker has ended.
	Used func(cpu time.Duration)
	// Waited is called once for each request that a worker was there to take, with the
	// time it waited for that.
	Waited func(time.Duration)
	// Repeated is called for each request that is given to another worker
	// because its first one died.
	Repeated func()
}

// ExitReasons are all that Hooks.Exited is called with.
var ExitReasons = []string{
	exitMaxRequests, exitLifetime, exitIdle, exitMemory, exitScale, exitReload, exitStop,
	exitCrash, exitOOM, exitSelf, exitStart, exitTimeout, exitAbort, exitProtocol,
}

const (
	exitMaxRequests = "max_requests"
	exitLifetime    = "lifetime" // MaxLifetime
	exitIdle        = "idle"     // IdleTimeout
	exitMemory      = "memory"   // MaxMemory
	exitScale       = "scale"    // more than Max or MaxSpare
	exitReload      = "reload"   // Update with another program
	exitStop        = "stop"     // the end of Supervise
	exitCrash       = "crash"    // a signal that was not ours, or an exit status that is not 0
	exitOOM         = "oom"      // killed by the kernel, for want of memory
	exitSelf        = "exit"     // by itself, with exit status 0; or it hung up on a request
	exitStart       = "start"    // not executed, not ready in time, or dead before it read a request
	exitTimeout     = "timeout"  // a request ran longer than its timeout
	exitAbort       = "abort"    // a request that nobody wants did not end
	exitProtocol    = "protocol" // it wrote what is not FastCGI
)

// A Pool has persistent FastCGI programs that answer requests. It satisfies
// server.Runner, and may be used by many goroutines at once.
type Pool struct {
	// Immutable.
	launch  func(program *program, id int) (process, error)
	measure func(pid int) (cpu time.Duration, rss int64) // of a process and its descendants
	hooks   Hooks
	spawner spawn.Spawner
	runDir  string

	wg      sync.WaitGroup          // a goroutine for each worker
	telling atomic.Pointer[telling] // of the options in force; written with mu

	mu         sync.Mutex // guards the fields below
	opt        Options
	program    *program
	folder     *folder     // of the sockets; nil before Prepare
	timer      *time.Timer // of Supervise
	phase      phase
	supervised bool      // Supervise was called
	all        []*worker // that are not gone
	ranks      ranks     // the same, counted
	size       int       // workers that there are to be; see resizeLocked
	rolling    bool      // there were outdated workers when that was last looked at
	settled    bool      // a worker of the program has settled, or has answered
	expiry     time.Time // when the first worker is to be replaced; the zero time is never
	wake       time.Time // what timer is set to
	waiting    list.List // of *waiter

	mostWaiting int // since the start

	lastID     int
	lastUse    uint64
	starts     uint64
	exits      map[string]uint64
	spawns     bucket
	health     health
	saturation saturation
	missing    sampler  // of what is logged of scripts that were not found
	later      []func() // what is to be done when mu is free; see unlock
}

// A telling is what each request is told by, and needs no lock for.
type telling struct {
	programs *Programs
	launcher Launcher
	long     bool // Options.LongParams
}

type phase uint8

const (
	phaseNew phase = iota
	phaseRunning
	phaseEnding // no worker is started any more
)

// A program is what is executed, and with what.
type program struct {
	release uint64
	argv    []string
	dir     string
	env     []string
	warmUp  []string
	user    *spawn.Identity
	sandbox *spawn.Sandbox

	launcher Launcher // guarded by Pool.mu
}

// New returns a Pool that has not started any: Supervise does.
func New(o Options) *Pool {
	p := &Pool{hooks: o.Hooks, spawner: o.Spawner, runDir: o.RunDir, exits: make(map[string]uint64)}
	if p.spawner == nil {
		p.spawner = new(spawn.Local)
	}
	p.launch, p.measure = p.launchProgram, p.usage
	p.setOptions(o, NewPrograms(o))
	p.program = p.newProgramLocked()
	return p
}

func (p *Pool) newProgramLocked() *program {
	now := p.telling.Load()
	return &program{
		release: p.opt.Release, argv: p.opt.Command, dir: p.opt.Dir, env: now.programs.env, warmUp: p.opt.WarmUp,
		user: p.opt.Identity, sandbox: p.opt.Sandbox, launcher: now.launcher,
	}
}

// isSame reports whether two programs do the same.
func (p *program) isSame(other *program) bool {
	return p.release == other.release && p.dir == other.dir && slices.Equal(p.argv, other.argv) &&
		slices.Equal(p.env, other.env) && slices.Equal(p.warmUp, other.warmUp) && reflect.DeepEqual(p.user, other.user) &&
		reflect.DeepEqual(p.sandbox, other.sandbox)
}

// laterLocked has f called once mu is free: f tells what has happened, or does what
// may take a while.
func (p *Pool) laterLocked(f func()) { p.later = append(p.later, f) }

// unlock frees mu and does what was to be done then.
func (p *Pool) unlock() {
	later := p.later
	p.later = nil
	p.mu.Unlock()
	for _, f := range later {
		f()
	}
}

// logLocked logs when mu is free.
func (p *Pool) logLocked(level slog.Level, message string, fields ...any) {
	log := p.opt.Log
	p.laterLocked(func() { log.Log(context.Background(), level, message, fields...) })
}

// A sampler permits so many entries of a kind a minute, so that nobody fills the log
// with them.
type sampler struct {
	since time.Time
	n     int
}

const perMinute = 10

func (s *sampler) permits(now time.Time) bool {
	if now.Sub(s.since) >= time.Minute {
		s.since, s.n = now, 0
	}
	s.n++
	return s.n <= perMinute
}

// setOptions takes options with what is missing filled in, and the programs that they say.
func (p *Pool) setOptions(o Options, programs *Programs) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Max, o.Concurrency = max(o.Max, 1), max(o.Concurrency, 1)
	o.StartTimeout = cmp.Or(o.StartTimeout, 10*time.Second)
	o.StopSignal = cmp.Or(o.StopSignal, syscall.SIGTERM)
	o.Scale, o.Stderr = cmp.Or(o.Scale, ScaleDynamic), cmp.Or(o.Stderr, cgi.StderrLog)
	switch o.Scale {
	case ScaleStatic:
		o.Min, o.MinSpare, o.MaxSpare = o.Max, 0, o.Max
	case ScaleOnDemand:
		o.Min, o.MinSpare, o.MaxSpare = 0, 0, o.Max
	default:
		o.Min = min(o.Min, o.Max)
		o.MaxSpare = max(o.MaxSpare, o.MinSpare, o.Min, 1)
	}
	p.opt = o
	now := &telling{programs, o.Launcher, o.LongParams}
	if now.launcher == nil {
		now.launcher = &local{programs, p.spawner}
	}
	p.telling.Store(now)
}

// Prepare does what may fail before workers can be started: it makes a folder for their
// sockets. Supervise or Discard is called next.
func (p *Pool) Prepare() error {
	p.mu.Lock()
	isDirect := p.opt.Direct
	p.unlock()
	if isDirect {
		return nil
	}
	folder, err := makeFolder(p.runDir)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.unlock()
	p.folder = folder
	return nil
}

// Discard undoes Prepare.
func (p *Pool) Discard() error {
	p.mu.Lock()
	defer p.unlock()
	if p.folder == nil {
		return nil
	}
	if err := p.folder.remove(); err != nil {
		return fmt.Errorf("remove the folder of workers' sockets: %w", err)
	}
	return nil
}

// Supervise starts workers and replaces them until ctx ends, lets those that are
// busy end their requests, and returns when all have been waited for. It prepares the
// Pool, unless that has been done. It is to be called once.
func (p *Pool) Supervise(ctx context.Context) error {
	timer, err := p.begin()
	if err != nil {
		return err
	}
	for {
		select {
		case <-timer.C:
			p.mu.Lock()
			p.wake = time.Time{}
			p.adjustLocked()
			p.unlock()
			continue
		case <-ctx.Done():
		}
		break
	}
	p.finish()
	p.wg.Wait()
	timer.Stop()
	return p.Discard()
}

func (p *Pool) begin() (*time.Timer, error) {
	p.mu.Lock()
	again, isPrepared := p.supervised, p.folder != nil
	p.supervised = true
	p.unlock()
	if again {
		return nil, errors.New("supervise workers: called twice")
	}
	var err error
	if !isPrepared {
		err = p.Prepare()
	}
	p.mu.Lock()
	defer p.unlock()
	if err != nil {
		p.phase = phaseEnding
		p.refuseWaitingLocked()
		return nil, err
	}
	if p.phase == phaseNew {
		p.phase = phaseRunning
	}
	p.timer = time.NewTimer(0)
	p.spawns.fill(time.Now(), p.opt.SpawnRate)
	p.adjustLocked()
	return p.timer, nil
}

// Exhaust has no worker started any more: direct ones that find nothing more to accept may
// exit. It returns how many there are. Supervise still waits for its context.
func (p *Pool) Exhaust() (left int) {
	p.mu.Lock()
	defer p.unlock()
	p.phase = phaseEnding
	return p.ranks.serving()
}

// finish asks all workers to end.
func (p *Pool) finish() {
	p.mu.Lock()
	defer p.unlock()
	p.phase = phaseEnding
	p.refuseWaitingLocked()
	for _, w := range p.all {
		w.retire(exitStop)
		if w.state == stateStopping && w.inFlight == 0 {
			w.stop() // it has less time now
		}
	}
	p.adjustLocked()
}

// longestLeave is how long a worker without a request may take to end when the pool
// does.
const longestLeave = 3 * time.Second

// leaveGraceLocked is how long a worker without a request may take to end. A direct one may
// have one that nobody knows of.
func (p *Pool) leaveGraceLocked() time.Duration {
	if p.phase == phaseEnding && !p.opt.Direct {
		return min(p.opt.StopGrace, longestLeave)
	}
	return p.opt.StopGrace
}

// Update changes the options, also for the workers that there are; RunDir, Hooks and
// Spawner stay. If Command, Dir, Env, PassEnv, WarmUp, Identity, Sandbox or Release differ, the workers are
// replaced. Each one stays until a new one has taken its place, and for good if the new
// program cannot be started. It is asked to end by its own signal, not by the new
// program's. Update returns how many workers are to be replaced; Progress tells how many
// are left.
func (p *Pool) Update(o Options) (replaces int) {
	programs := NewPrograms(o)
	p.mu.Lock()
	defer p.unlock()
	p.setOptions(o, programs)
	next := p.newProgramLocked()
	isOther := !next.isSame(p.program)
	p.program.launcher = next.launcher
	if isOther {
		p.program, p.settled = next, false
		p.health.hurry()
	}
	now := time.Now()
	p.expiry = time.Time{}
	for _, w := range p.all {
		p.ranks.remove(w)
		if w.outdated = !w.program.isSame(p.program); !w.outdated {
			w.setStopSignal(p.opt.StopSignal)
		}
		p.limitLocked(w)
		w.tired = w.tiredness(now)
		p.ranks.add(w)
	}
	if n := p.ranks.outdated; n > 0 && p.phase == phaseRunning {
		p.logLocked(slog.LevelInfo, "workers are being replaced", "outdated", n)
	}
	if isOther {
		replaces = p.ranks.outdated
	}
	p.adjustLocked()
	return replaces
}

var errEnding = &protocol.Refusal{HTTPStatus: 503, AppStatus: 503, Reason: errors.New("the workers are shutting down")}
