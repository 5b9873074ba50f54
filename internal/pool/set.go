package pool

import (
	"cmp"
	"context"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/logs"
	"github.com/fcgid/fcgid/internal/metrics"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/spawn"
)

// Options are what a Set has for life.
type Options struct {
	Functions Functions
	Logs      *logs.Logs
	Metrics   *metrics.Metrics // made with Kinds
	Spawner   spawn.Spawner    // of all programs
	// Launchers, if not nil, starts them in place of Spawner, under their sandboxes and in
	// their cgroups, which are its business alone, and slow.command.
	Launchers Launchers
	// Binder, if not nil, makes the sockets in place of this process.
	Binder listen.Binder
	Ended  func(*server.Result) // told of each request, if not nil
	Broken func(error)          // called when a listener has failed for good
	// Cgroups opens what the daemon has of the cgroup hierarchy. Each Plan that has a use
	// for it calls it, until there is one; nil is that there is none.
	Cgroups func() (*cgroup.Tree, error)
}

// Launchers start the programs of pools, and tell of params that are kept from these. What
// it returns is of the configuration that is being planned or committed.
type Launchers interface {
	Scripts(pool string, dropped func(name, why string)) process.Launcher
	Workers(pool string, dropped func(name, why string)) worker.Launcher
	// Cgroup is where a pool's is in the file system, by the configuration in force; "" is
	// that it has none.
	Cgroup(pool string) (path string)
	// Trace runs slow.command for a program of a pool, as spawn.Run does.
	Trace(ctx context.Context, pool string, pid int, out io.Writer) error
}

// A Set is all pools of the daemon: those of the configuration in force, and those
// that drain. Plan, the methods of a Plan, Stop and EndWorkers are called by one
// goroutine; the others by any.
type Set struct {
	opt      Options
	retiring sync.WaitGroup
	memory   *server.Memory // of all pools; its limit follows the configuration
	spoolDir string         // that was looked at last; owned by who plans

	_       cpu.CacheLinePad
	serials atomic.Uint64 // of the last request of all pools; each adds to it
	_       cpu.CacheLinePad

	removeDead sync.Once
	cgroups    cgroups             // owned by who plans
	sandboxes  map[string]*sandbox // by pool; owned by who plans
	umask      uint32              // of the daemon

	mu    sync.Mutex // guards the fields below
	cfg   *config.Config
	pools map[string]*pool

	stderrLimits map[string]*stderrLimit // by pool

	draining []*pool
	passOn   map[int]func(net.Conn) bool // see Replace; by what Adopt knows the sockets by
}

// NewSet returns a Set without pools: a Plan brings them.
func NewSet(o Options) *Set {
	return &Set{opt: o, cgroups: cgroups{open: o.Cgroups}, umask: spawn.Umask(), memory: server.NewMemory(0), cfg: new(config.Config), pools: make(map[string]*pool), stderrLimits: make(map[string]*stderrLimit)}
}

// Kinds are the values of labels that pools count with.
func Kinds() metrics.Kinds {
	var outcomes []string
	for _, o := range []server.Outcome{server.OK, server.Failed, server.TimedOut, server.Aborted, server.Overloaded, server.Rejected} {
		outcomes = append(outcomes, string(o))
	}
	return metrics.Kinds{
		Outcomes: outcomes, ProtocolErrors: server.ProtocolErrorKinds,
		ProcessExits: process.ExitReasons, WorkerExits: worker.ExitReasons, Lanes: server.Lanes(),
	}
}

// Stop ends all pools gracefully and returns when nothing of them is left.
func (s *Set) Stop() {
	for _, p := range s.running() {
		s.retire(p)
	}
	s.retiring.Wait()
	s.commitSandboxes(nil)
	s.cgroups.close()
}

// StopTime is how long Stop may take, by the keys of the pools that it ends and of
// those that drain already.
func (s *Set) StopTime() (longest time.Duration) {
	for _, p := range s.withDraining() {
		longest = max(longest, p.stopTime())
	}
	return longest
}

// EndWorkers has the workers of pools that drain end without regard to the requests
// that their pools still have, and none is started any more.
func (s *Set) EndWorkers() {
	s.mu.Lock()
	draining := slices.Clone(s.draining)
	s.mu.Unlock()
	for _, p := range draining {
		p.endWorkers()
	}
}

// retire stops a pool; its requests end in the background.
func (s *Set) retire(p *pool) {
	s.mu.Lock()
	s.draining = append(s.draining, p)
	s.mu.Unlock()
	p.stop()
	s.retiring.Go(func() {
		if err := p.server.Drain(); err != nil {
			s.opt.Logs.With("pool", p.name).Warn("pool stopped with functions that do not return", "error", err)
		}
		p.serving.Wait()
		if w := p.workersNow(); w != nil {
			w.stop()
		}
		p.slow.close()
		if g := p.cgroupNow(); g != nil {
			g.Close()
		}
		s.stderrLimit(p.name).tell()
		s.retired(p)
		s.opt.Logs.Info("pool stopped", "pool", p.name)
	})
}

func (s *Set) retired(p *pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = slices.DeleteFunc(s.draining, func(q *pool) bool { return q == p })
	if !slices.ContainsFunc(s.cfg.Pools, func(c config.Pool) bool { return c.Name == p.name }) {
		s.opt.Metrics.Forget(p.name)
		delete(s.stderrLimits, p.name)
	}
}

// forgetWorkers drops the series of workers that a pool has no more.
func (s *Set) forgetWorkers(pool string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.ContainsFunc(s.cfg.Pools, func(c config.Pool) bool { return c.Name == pool && c.Worker != nil }) {
		s.opt.Metrics.ForgetWorkers(pool)
	}
}

func (s *Set) setConfig(cfg *config.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg = cfg
}

func (s *Set) setPools(pools map[string]*pool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools = pools
}

// running returns the pools by name.
func (s *Set) running() map[string]*pool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pools
}

// list returns the pools in the order of their names.
func (s *Set) list() []*pool { return byName(s.running()) }

func byName(pools map[string]*pool) []*pool {
	return slices.SortedFunc(maps.Values(pools), func(a, b *pool) int { return cmp.Compare(a.name, b.name) })
}

// withDraining are the pools in the order of their names, and then those that drain.
func (s *Set) withDraining() []*pool {
	s.mu.Lock()
	pools, draining := s.pools, slices.Clone(s.draining)
	s.mu.Unlock()
	all := byName(pools)
	for _, p := range draining {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

func (s *Set) endpoint(pool, address string) *endpoint {
	p := s.running()[pool]
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endpoints[address]
}

// Listeners are those of all pools that run.
func (s *Set) Listeners() (all []*listen.Listener) {
	for _, p := range s.list() {
		p.mu.Lock()
		for _, e := range p.endpoints {
			all = append(all, e.Listener)
		}
		p.mu.Unlock()
	}
	return all
}

// Names are those of the pools that run, in order.
func (s *Set) Names() (names []string) {
	for _, p := range s.list() {
		names = append(names, p.name)
	}
	return names
}

// ShutdownTime is how long requests have after a stop, by the configuration in force.
func (s *Set) ShutdownTime() time.Duration { return s.global().ShutdownTimeout }

// Replace prepares for a Stop that ends the daemon since another one serves now: requests
// have upgrade_timeout for it, and connections of the listeners that give knows are given away
// when they are idle. give reports whether they were. It gets those as well that Adopt is called
// with from then on.
func (s *Set) Replace(give map[*listen.Listener]func(net.Conn) bool) {
	grace := s.global().UpgradeTimeout
	passOn := make(map[int]func(net.Conn) bool)
	for l, to := range give {
		if place, ok := l.Place(); ok {
			passOn[place] = to
		}
	}
	s.mu.Lock()
	s.passOn = passOn
	s.mu.Unlock()
	for _, p := range s.running() {
		p.mu.Lock()
		cfg, settings := p.cfg, p.settings
		for _, e := range p.endpoints {
			if to := give[e.Listener]; to != nil {
				e.address.HandOver(to)
			}
		}
		p.mu.Unlock()
		settings.Grace = grace
		p.update(cfg, settings)
	}
}

// Adopt serves a connection of the daemon before this one, which that has accepted at the
// socket of a place. After Replace it gives the connection to whom this daemon's own go. What
// belongs to no address any more it closes, and is false.
func (s *Set) Adopt(place int, conn net.Conn) bool {
	for _, p := range s.running() {
		if e := p.handed(place); e != nil && e.address.Adopt(conn) {
			return true
		}
	}
	defer conn.Close()
	s.mu.Lock()
	give := s.passOn[place]
	s.mu.Unlock()
	return give != nil && give(conn)
}

// Force ends the requests of pools that drain.
func (s *Set) Force() {
	for _, p := range s.withDraining() {
		p.server.Force()
	}
}
