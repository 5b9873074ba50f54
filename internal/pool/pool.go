// Package pool is a configured pool at work, and the set of all of them: which
// Runner does the requests, what a changed configuration means to what runs, and
// how one is taken over as a whole or not at all. It knows no signal and no flag.
package pool

import (
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/metrics"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/status"
)

// A pool is a configured pool at work: its server and its endpoints.
type pool struct {
	name    string
	started time.Time
	server  *server.Server
	slow    *slowReporter
	slowed  atomic.Int64                   // requests that have run for longer than slow.after
	queued  atomic.Int64                   // that have waited at once, as far as a status page has seen
	failed  atomic.Pointer[status.Failure] // the last one, or nil
	metrics *metrics.Pool

	launchers Launchers // nil: this process starts the programs

	mu        sync.Mutex // guards the fields below
	cfg       config.Pool
	settings  server.Settings
	cgroup    *cgroup.Pool         // nil if there is none
	workers   *workerPool          // nil but in a pool of workers
	replaced  []*workerPool        // that requests of an old configuration still need
	endpoints map[string]*endpoint // by address
	draining  bool

	serving sync.WaitGroup // the goroutine of each endpoint that it has or had last
}

// newPool returns a pool that serves nothing yet, and has no configuration.
func (s *Set) newPool(name string) *pool {
	p := &pool{name: name, started: time.Now(), launchers: s.opt.Launchers, endpoints: make(map[string]*endpoint)}
	m := s.opt.Metrics.Pool(name)
	p.metrics = m
	p.slow = s.newSlowReporter(p)
	p.server = server.New(server.Settings{}, server.Options{
		Log:    s.opt.Logs.With("pool", name),
		Memory: s.memory, Serials: &s.serials,
		Hooks: server.Hooks{
			ProtocolError: m.ProtocolError,
			Queued:        m.Queued,
			Slow: func(r server.RequestInfo) {
				p.slowed.Add(1)
				m.Slow(p.slow.report(r))
			},
			Done: func(r *server.Result) {
				if s.opt.Ended != nil {
					s.opt.Ended(r)
				}
				if r.IsOwn {
					m.Own()
					return
				}
				m.Done(r.Conn, string(r.Outcome), r.HTTPStatus, r.Queue+r.Run)
				switch r.Outcome {
				case server.Failed, server.TimedOut, server.Overloaded:
					p.failed.Store(describeFailure(r))
				}
			},
			Accounts: s.opt.Logs.HasAccess,
			Account: func(r *server.Result) {
				if s.opt.Logs.HasAccess() {
					logAccess(s.opt.Logs, name, r)
				}
			},
		},
	})
	return p
}

// configurePool brings all of a pool but its endpoints to a configuration. If it has no
// workers yet and is to have some, those are the ready ones. If it had some and is to have
// none, they stay until the requests that have begun with them have ended.
func (s *Set) configurePool(p *pool, cfg config.Pool, global *config.Config, ready *workerPool) {
	settings := poolSettings(&cfg, global, s.runnerFor(p, &cfg, ready))
	if cfg.Worker != nil {
		settings.Hold = p.workers.hold
	}
	settings.Own = p.ownPages(&cfg)
	s.stderrLimit(p.name).set(cfg.Limits.StderrRate)
	p.update(cfg, settings)
	if old := p.workers; old != nil && cfg.Worker == nil {
		p.replaceWorkers(old)
		s.retiring.Go(func() {
			old.stop()
			p.forgetReplaced(old)
			s.forgetWorkers(p.name)
			s.opt.Logs.Info("the workers of the old configuration have ended", "pool", p.name)
		})
	}
}

// poolSettings are what a pool's configuration means to its server.
func poolSettings(cfg *config.Pool, global *config.Config, run server.Runner) server.Settings {
	l := cfg.Limits
	var abandon time.Duration
	if cfg.Function != nil {
		abandon = time.Second // nothing can end a function that does not return
	}
	return server.Settings{
		Runner:  run,
		InPlace: cfg.Function != nil || cfg.Worker != nil,
		Limits: server.Limits{
			MaxConns: l.MaxConns, MaxReqs: cfg.Places(), MaxReqsKey: cfg.PlacesKey(), Multiplex: l.Multiplex,
			Queue: l.Queue, QueueTimeout: l.QueueTimeout,
			Params: l.Params, Body: l.Body, BodyMemory: l.BodyMemory, RequestBuffering: l.RequestBuffering,
			AnswerSpool: l.AnswerSpool, Spool: l.Spool,
			ReadTimeout: l.ReadTimeout, WriteTimeout: l.WriteTimeout, IdleTimeout: l.IdleTimeout,
		},
		Timeout:   cfg.Timeout,
		Silence:   cfg.Silence,
		SlowAfter: cfg.Slow.After,
		OnAbort:   onAbort(cfg),
		SpoolDir:  launch.SpoolDir(global),
		Grace:     global.ShutdownTimeout,
		Abandon:   abandon,
	}
}

// onAbort is what becomes of the pool's programs when their clients leave.
func onAbort(cfg *config.Pool) server.OnAbort {
	switch cfg.OnClientAbort {
	case "close":
		return server.AbortClose
	case "ignore":
		return server.AbortIgnore
	case "":
		if cfg.Worker != nil {
			return server.AbortClose
		}
	}
	return server.AbortKill
}

// stop stops serving all addresses.
func (p *pool) stop() {
	p.mu.Lock()
	p.draining = true
	addresses := slices.Collect(maps.Keys(p.endpoints))
	p.mu.Unlock()
	for _, a := range addresses {
		p.remove(a).stop()
	}
}

func (p *pool) isDraining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining
}

// stopTime is how long the pool may take to end: its requests have shutdown_timeout,
// then the programs that still run have their grace. So have workers then that have
// become idle.
func (p *pool) stopTime() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.cfg.Process != nil:
		return p.settings.Grace + p.cfg.Process.KillGrace
	case p.cfg.Worker != nil:
		return p.settings.Grace + 2*p.cfg.Worker.StopGrace
	}
	return p.settings.Grace + p.settings.Abandon
}

func (p *pool) setWorkers(w *workerPool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers = w
}

func (p *pool) workersNow() *workerPool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers
}

// replaceWorkers takes note that old ones are used by the requests alone that have them.
func (p *pool) replaceWorkers(old *workerPool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.workers = nil
	p.replaced = append(p.replaced, old)
}

func (p *pool) forgetReplaced(old *workerPool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replaced = slices.DeleteFunc(p.replaced, func(w *workerPool) bool { return w == old })
}

// endWorkers has all workers end without regard to requests.
func (p *pool) endWorkers() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.replaced {
		w.end()
	}
	if p.workers != nil {
		p.workers.end()
	}
}

func (p *pool) slowCommand() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cfg.Slow.Command
}

// isOpen tells whether a request has not ended.
func (p *pool) isOpen(serial uint64) bool {
	return slices.ContainsFunc(p.server.Requests(), func(r server.RequestInfo) bool { return r.Serial == serial })
}

// update takes over a changed configuration.
func (p *pool) update(cfg config.Pool, settings server.Settings) {
	p.mu.Lock()
	p.cfg, p.settings = cfg, settings
	p.mu.Unlock()
	p.server.Update(settings)
}

// acceptQueues tells how many connections wait at each address, where the
// kernel says so.
func (p *pool) acceptQueues() map[string]uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := make(map[string]uint32, len(p.endpoints))
	for address, e := range p.endpoints {
		if n, err := e.AcceptQueue(); err == nil {
			waiting[address] = n
		}
	}
	return waiting
}

// addresses yields those that the pool serves.
func (p *pool) addresses() iter.Seq[string] {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Values(slices.Collect(maps.Keys(p.endpoints)))
}
