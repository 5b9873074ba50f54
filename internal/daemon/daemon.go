package daemon

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A daemon is all that `fcgid serve` keeps: the pools, the logs, the metrics
// and the admin server. Its methods but status are called by one goroutine.
type daemon struct {
	file      string
	functions functions
	started   time.Time
	logs      *logs
	metrics   *metrics
	programs  spawn.Local
	admin     *adminServer
	failed    chan error // a listener broke

	retiring sync.WaitGroup

	mu         sync.Mutex // guards the fields below
	cfg        *config.Config
	pools      map[string]*pool
	draining   []*pool
	stopping   bool
	lastReload reloadStatus
}

// reloadStatus is how the last (re)load went.
type reloadStatus struct {
	Time  time.Time `json:"time"`
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"`
}

func newDaemon(file string, functions functions, cfg *config.Config) (*daemon, error) {
	logs, err := newLogs(cfg)
	if err != nil {
		return nil, err
	}
	d := &daemon{
		file: file, functions: functions, started: time.Now(), logs: logs, metrics: newMetrics(),
		pools: make(map[string]*pool), failed: make(chan error, 1),
	}
	d.metrics.registry.MustRegister(poolCollector{d.list})
	d.admin = newAdminServer(d)
	return d, nil
}

// configure makes cfg the configuration in force, or changes nothing.
func (d *daemon) configure(ctx context.Context, cfg *config.Config) (err error) {
	defer func() { d.noteReload(err) }()
	commitLogs, undoLogs, err := d.logs.prepare(cfg)
	if err != nil {
		return err
	}
	admin, err := d.admin.listen(ctx, cfg.Admin.Listen)
	if err != nil {
		undoLogs()
		return fmt.Errorf("admin: %w", err)
	}
	p, err := d.prepare(ctx, cfg)
	if err != nil {
		admin.undo()
		undoLogs()
		return err
	}
	commitLogs()
	p.commit()
	admin.commit()
	return nil
}

// reload reads the file again. A bad one changes nothing.
func (d *daemon) reload(ctx context.Context, load func() (*config.Config, error)) {
	cfg, err := load()
	if err != nil {
		d.noteReload(err)
	} else {
		err = d.configure(ctx, cfg)
	}
	if err != nil {
		d.logs.Error("reload refused: the old configuration stays", zap.String("file", d.file), zap.Error(err))
		return
	}
	d.logs.Info("reloaded", zap.String("file", d.file), zap.Int("pools", len(cfg.Pools)))
}

func (d *daemon) noteReload(err error) {
	d.metrics.reloaded(err)
	status := reloadStatus{Time: time.Now(), OK: err == nil}
	if err != nil {
		status.Error = err.Error()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastReload = status
}

// stop ends all pools gracefully and returns when nothing of them is left.
func (d *daemon) stop() {
	d.mu.Lock()
	d.stopping = true
	pools := d.pools
	d.mu.Unlock()
	for _, p := range pools {
		d.retire(p)
	}
	d.retiring.Wait()
	d.admin.close()
}

// kill ends all programs at once, and lets none be started.
func (d *daemon) kill() {
	d.mu.Lock()
	draining := slices.Clone(d.draining)
	d.mu.Unlock()
	for _, p := range draining {
		if w := p.workersNow(); w != nil {
			w.end()
		}
	}
	d.programs.Kill()
}

// retire stops a pool; its requests end in the background.
func (d *daemon) retire(p *pool) {
	d.mu.Lock()
	d.draining = append(d.draining, p)
	d.mu.Unlock()
	p.stop()
	d.retiring.Go(func() {
		p.serving.Wait()
		if p.workers != nil {
			p.workers.stop()
		}
		p.slow.close()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.draining = slices.DeleteFunc(d.draining, func(q *pool) bool { return q == p })
		if !slices.ContainsFunc(d.cfg.Pools, func(c config.Pool) bool { return c.Name == p.name }) {
			d.metrics.forget(p.name)
		}
		d.logs.Info("pool stopped", zap.String("pool", p.name))
	})
}

// forgetWorkers drops the series of workers that a pool has no more.
func (d *daemon) forgetWorkers(pool string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.ContainsFunc(d.cfg.Pools, func(c config.Pool) bool { return c.Name == pool && c.Worker != nil }) {
		d.metrics.forgetWorkers(pool)
	}
}

// broken is called when a listener has failed for good.
func (d *daemon) broken(err error) {
	select {
	case d.failed <- err:
	default:
	}
}

func (d *daemon) setConfig(cfg *config.Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cfg = cfg
}

func (d *daemon) setPools(pools map[string]*pool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pools = pools
}

// running returns the pools by name.
func (d *daemon) running() map[string]*pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pools
}

// list returns the pools in the order of their names.
func (d *daemon) list() []*pool {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := slices.Collect(maps.Values(d.pools))
	slices.SortFunc(all, func(a, b *pool) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return all
}

func (d *daemon) endpoint(pool, address string) *endpoint {
	p := d.running()[pool]
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endpoints[address]
}

// addresses yields those that the pool serves.
func (p *pool) addresses() iter.Seq[string] {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Values(slices.Collect(maps.Keys(p.endpoints)))
}
