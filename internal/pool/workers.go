package pool

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/privsep"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A workerPool is the workers of a pool while they are supervised, until stop.
type workerPool struct {
	*worker.Pool
	*generation
	end        context.CancelFunc
	recycled   uint64 // how often workers of the same program were to be replaced
	replaces   int    // workers that the last update was to replace; owned by who plans
	supervised sync.WaitGroup
	socket     func() (fd int, err error) // of direct workers, else nil
}

// prepareWorkers makes the workers of a pool ready to be started: start or Discard
// is called next. Direct ones have the pool's listener.
func (s *Set) prepareWorkers(cfg *config.Pool, group *cgroup.Pool, box *spawn.Sandbox, opened map[string]*listen.Listener) (*workerPool, error) {
	w := &workerPool{generation: newGeneration()}
	for _, l := range opened {
		if cfg.IsDirect() {
			w.socket = l.Socket
		}
	}
	opt := s.workerOptions(cfg, group, w)
	opt.Sandbox = box // which is not in force yet
	w.Pool = worker.New(opt)
	if err := w.Prepare(); err != nil {
		return nil, fmt.Errorf("pool %s: %w ($RUNTIME_DIRECTORY or $TMPDIR says where)", cfg.Name, err)
	}
	return w, nil
}

// start starts the workers.
func (w *workerPool) start(log *slog.Logger) {
	ctx, end := context.WithCancel(context.Background())
	w.end = end
	w.supervised.Go(func() {
		if err := w.Supervise(ctx); err != nil {
			log.Error("workers are not supervised", "error", err)
		}
	})
}

// stop ends the workers once the last request that has begun with them has ended,
// and returns when they have. None must begin any more.
func (w *workerPool) stop() {
	w.retire()
	<-w.over
	w.end()
	w.supervised.Wait()
}

// updateWorkers brings a pool's workers to a pool's configuration, and replaces all of them if
// recycled has grown.
func (s *Set) updateWorkers(p *pool, cfg *config.Pool) {
	p.workers.replaces = p.workers.Update(s.workerOptions(cfg, p.groupOf(cfg), p.workers))
}

func (s *Set) workerOptions(cfg *config.Pool, group *cgroup.Pool, w *workerPool) worker.Options {
	c, m := cfg.Worker, s.opt.Metrics.Workers(cfg.Name)
	opt := launch.Workers(cfg, s.sandboxNow(cfg.Name), group)
	opt.WarmUp, opt.Release, opt.Socket = c.WarmUp, w.recycled, w.socket
	opt.Dropped = s.tellDropped(cfg.Name)
	opt.Scale, opt.Max, opt.Min, opt.MinSpare, opt.MaxSpare = c.Scale, c.Max, c.Min, c.MinSpare, c.MaxSpare
	opt.Concurrency, opt.SpawnRate, opt.Dispatch = c.Concurrency, c.SpawnRate, c.Dispatch
	opt.IdleTimeout, opt.MaxLifetime, opt.MaxRequests, opt.MaxMemory = c.IdleTimeout, c.MaxLifetime, c.MaxRequests, c.MaxMemory
	opt.StartTimeout, opt.StopSignal, opt.StopGrace = c.StartTimeout, c.StopSignal, c.StopGrace
	if opt.Direct {
		opt.StartTimeout = directSettled
	}
	opt.Stderr, opt.Admit, opt.LongParams = c.Stderr, s.stderrLimit(cfg.Name).Admit, c.LongParams
	opt.RunDir = privsep.SocketFolder()
	opt.Log = s.opt.Logs.With("pool", cfg.Name)
	opt.Hooks = worker.Hooks{Started: m.Started, Exited: m.Exited, Used: m.Used, Waited: m.Waited, Repeated: m.Repeated}
	opt.Spawner = s.opt.Spawner
	if s.opt.Launchers != nil {
		opt.Launcher = s.opt.Launchers.Workers(cfg.Name, opt.Dropped)
	}
	return opt
}

// removeDeadFolders removes what daemons that were killed have left.
func (s *Set) removeDeadFolders() {
	removed, err := worker.RemoveDead(privsep.SocketFolder())
	for _, folder := range removed {
		s.opt.Logs.Info("removed the folder of workers of a daemon that is gone", "folder", folder)
	}
	if err != nil {
		s.opt.Logs.Warn("cannot look for what daemons that are gone have left", "error", err)
	}
}
