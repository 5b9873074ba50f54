package pool

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/version"
)

// A workerPool is the workers of a pool while they are supervised, until stop.
type workerPool struct {
	*worker.Pool
	*generation
	end        context.CancelFunc
	release    uint64 // how many reloads have replaced workers of the same program
	supervised sync.WaitGroup
}

// startWorkers starts the workers of a pool.
func (s *Set) startWorkers(cfg *config.Pool) *workerPool {
	ctx, end := context.WithCancel(context.Background())
	w := &workerPool{Pool: worker.New(s.workerOptions(cfg, 0)), generation: newGeneration(), end: end}
	log := s.opt.Logs.With("pool", cfg.Name)
	w.supervised.Go(func() {
		if err := w.Supervise(ctx); err != nil {
			log.Error("workers are not supervised", "error", err)
		}
	})
	return w
}

// stop ends the workers once the last request that has begun with them has ended,
// and returns when they have. None must begin any more.
func (w *workerPool) stop() {
	w.retire()
	<-w.over
	w.end()
	w.supervised.Wait()
}

// updateWorkers brings workers to a pool's configuration.
func (s *Set) updateWorkers(w *workerPool, cfg *config.Pool) {
	if cfg.Worker.Reload == "always" {
		w.release++
	}
	w.Update(s.workerOptions(cfg, w.release))
}

func (s *Set) workerOptions(cfg *config.Pool, release uint64) worker.Options {
	c, m := cfg.Worker, s.opt.Metrics.Workers(cfg.Name)
	return worker.Options{
		Command: c.Command, Dir: c.Dir, WarmUp: c.WarmUp, Release: release, Roots: c.Root, Extensions: c.Extensions,
		Env: cfg.Env, PassEnv: cfg.PassEnv, PassParams: cfg.PassParams,
		SingleFields: cfg.Limits.SingleFields, Dropped: s.tellDropped(cfg.Name),
		Software: version.Software(),
		Scale:    c.Scale, Max: c.Max, Min: c.Min, MinSpare: c.MinSpare, MaxSpare: c.MaxSpare,
		Concurrency: c.Concurrency, SpawnRate: c.SpawnRate, Dispatch: c.Dispatch,
		IdleTimeout: c.IdleTimeout, MaxLifetime: c.MaxLifetime,
		MaxRequests: c.MaxRequests, MaxMemory: c.MaxMemory,
		StartTimeout: c.StartTimeout, StopSignal: c.StopSignal, StopGrace: c.StopGrace,
		Stderr: c.Stderr, LongParams: c.LongParams,
		RunDir:  runtimeFolder(),
		Log:     s.opt.Logs.With("pool", cfg.Name),
		Hooks:   worker.Hooks{Started: m.Started, Exited: m.Exited, Waited: m.Waited, Repeated: m.Repeated},
		Spawner: s.opt.Spawner,
	}
}

// runtimeFolder is where the folders of workers are made: the first of those that
// systemd names, see systemd.exec(5); "" is os.TempDir.
func runtimeFolder() string {
	first, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	return first
}

// checkRuntimeFolder tells whether a folder can be made there, if cfg has a pool
// of workers.
func checkRuntimeFolder(cfg *config.Config) error {
	for _, p := range cfg.Pools {
		if p.Worker == nil {
			continue
		}
		folder, err := os.MkdirTemp(runtimeFolder(), "fcgid-workers-")
		if err == nil {
			err = os.Remove(folder)
		}
		if err != nil {
			return fmt.Errorf("pool %s: folder for the workers' sockets ($RUNTIME_DIRECTORY or $TMPDIR): %w", p.Name, err)
		}
		return nil
	}
	return nil
}
