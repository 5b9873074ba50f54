package daemon

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/server"
)

// A pool is a configured pool at work: its server and its endpoints.
type pool struct {
	name    string
	started time.Time
	server  *server.Server
	slow    *slowReporter

	mu        sync.Mutex // guards the fields below
	cfg       config.Pool
	settings  server.Settings
	workers   *workerPool          // nil but in a pool of workers
	endpoints map[string]*endpoint // by address
	draining  bool

	serving sync.WaitGroup // a goroutine for each endpoint
}

// An endpoint is a listener that a pool serves, until stop is called.
type endpoint struct {
	*listen.Listener
	stop context.CancelFunc
}

// newPool returns a pool that serves nothing yet, and has no configuration.
func (d *daemon) newPool(name string) *pool {
	p := &pool{name: name, started: time.Now(), endpoints: make(map[string]*endpoint)}
	m := d.metrics.pool(name)
	p.slow = newSlowReporter(p, d.logs)
	p.server = server.New(server.Settings{}, server.Options{
		Log: d.logs.With(zap.String("pool", name)),
		Hooks: server.Hooks{
			ProtocolError: func(kind string) { m.protocol.WithLabelValues(kind).Inc() },
			Queued:        m.observeQueue,
			Slow: func(r server.RequestInfo) {
				m.slow.Inc()
				if !p.slow.report(r) {
					m.slowDropped.Inc()
				}
			},
			Done: func(r *server.Result) {
				m.done(r)
				d.logs.logAccess(name, r)
			},
		},
	})
	return p
}

// configurePool brings a pool to its configuration, but for its endpoints.
func (d *daemon) configurePool(p *pool, cfg config.Pool, global *config.Config) {
	run, maxReqs := d.runnerFor(p, &cfg)
	p.update(cfg, poolSettings(&cfg, global, run, maxReqs))
	if old := p.workers; old != nil && cfg.Worker == nil {
		p.setWorkers(nil)
		d.retiring.Go(func() {
			old.stop()
			d.forgetWorkers(p.name)
		})
	}
}

// poolSettings are what a pool's configuration means to its server. At most maxReqs
// requests run at once, unless it says another number.
func poolSettings(cfg *config.Pool, global *config.Config, run server.Runner, maxReqs int) server.Settings {
	l := cfg.Limits
	if l.MaxReqs == 0 {
		l.MaxReqs = maxReqs
	}
	var abandon time.Duration
	if cfg.Function != nil {
		abandon = time.Second // nothing can end a function that does not return
	}
	return server.Settings{
		Runner: run,
		Limits: server.Limits{
			MaxConns: l.MaxConns, MaxReqs: l.MaxReqs, Multiplex: l.Multiplex,
			Queue: l.Queue, QueueTimeout: l.QueueTimeout,
			Params: l.Params, Body: l.Body, BodyMemory: l.BodyMemory, EarlyResponse: l.EarlyResponse,
			ReadTimeout: l.ReadTimeout, WriteTimeout: l.WriteTimeout, IdleTimeout: l.IdleTimeout,
		},
		Timeout:     cfg.Timeout,
		SlowAfter:   cfg.Slow.After,
		InPlace:     cfg.Function != nil,
		WholeBody:   cfg.Worker != nil, // a slow upload is not to hold a worker
		IgnoreAbort: cfg.OnClientAbort == "ignore",
		Grace:       global.ShutdownTimeout,
		Abandon:     abandon,
	}
}

// runnerFor returns what does a pool's requests, and how many it does at once.
// Workers that the pool has already take over the configuration.
func (d *daemon) runnerFor(p *pool, cfg *config.Pool) (run server.Runner, maxReqs int) {
	switch {
	case cfg.Function != nil:
		return d.newFunction(cfg), 1024
	case cfg.Worker == nil:
		return d.newProcess(cfg), 4 * runtime.GOMAXPROCS(0)
	case p.workers == nil:
		p.setWorkers(d.startWorkers(cfg))
	default:
		p.workers.Update(d.workerOptions(cfg))
	}
	return p.workers, cfg.Worker.Max * cfg.Worker.Concurrency
}

// runnerKind is the key of a pool's configuration that says what it runs.
func runnerKind(cfg *config.Pool) string {
	switch {
	case cfg.Worker != nil:
		return "worker"
	case cfg.Function != nil:
		return "function"
	}
	return "process"
}

func (d *daemon) newProcess(cfg *config.Pool) *process.Runner {
	m := d.metrics.pool(cfg.Name)
	interpreters := make(map[string]string)
	for _, i := range cfg.Process.Interpreters {
		interpreters[i.Extension] = i.Path
	}
	return process.New(process.Options{
		Roots: cfg.Process.Root, Scripts: cfg.Process.Scripts, Extensions: cfg.Process.Extensions,
		Interpreters: interpreters, Dir: cfg.Process.Dir,
		PassEnv: cfg.PassEnv, Env: cfg.Env,
		KillGrace: cfg.Process.KillGrace, Stderr: cfg.Process.Stderr,
		Software: "fcgid/" + version,
		Log:      d.logs.ofPool(cfg.Name),
		Hooks:    process.Hooks{Started: m.started, Exited: m.exited},
		Spawner:  &d.programs,
	})
}

// serve begins to serve l. A listener that breaks ends the daemon: it would look
// alive and not be.
func (d *daemon) serve(p *pool, l *listen.Listener) {
	ctx, stop := context.WithCancel(context.Background())
	m := d.metrics.pool(p.name)
	log := d.logs.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewSamplerWithOptions(core, time.Minute, 10, 0) // whoever may not connect must not fill the log
	}))
	l.OnRefused = func(client string, reason error) {
		m.refused.Inc()
		log.Warn("connection refused", zap.String("pool", p.name), zap.String("client", client), zap.Error(reason))
	}
	p.mu.Lock()
	p.endpoints[l.Options().Address] = &endpoint{l, stop}
	p.mu.Unlock()
	d.logs.Info("listening", zap.String("pool", p.name), zap.String("address", l.Options().Address))
	p.serving.Go(func() {
		defer stop()
		err := p.server.Serve(ctx, l)
		switch {
		case err == nil:
		case errors.Is(err, server.ErrAbandoned):
			d.logs.Warn("pool stopped with functions that do not return", zap.String("pool", p.name), zap.Error(err))
		default:
			d.broken(errors.Join(errors.New("pool "+p.name+" cannot accept connections"), err))
		}
	})
}

// drop stops serving an address; what is in flight ends.
func (p *pool) drop(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.endpoints[address]; e != nil {
		e.stop()
		delete(p.endpoints, address)
	}
}

// stop stops serving all addresses.
func (p *pool) stop() {
	p.mu.Lock()
	p.draining = true
	addresses := slices.Collect(maps.Keys(p.endpoints))
	p.mu.Unlock()
	for _, a := range addresses {
		p.drop(a)
	}
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

func listenOptions(l config.Listen) listen.Options {
	return listen.Options{
		Address: l.Address, Mode: l.Mode, Owner: l.Owner, Group: l.Group,
		Backlog: l.Backlog, Allow: l.Allow, AllowUIDs: l.AllowUIDs,
	}
}
