package pool

import (
	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/server"
)

// runnerFor returns what does a pool's requests. Workers that the pool has already take
// over the configuration, else those that are ready are started.
func (s *Set) runnerFor(p *pool, cfg *config.Pool, ready *workerPool) server.Runner {
	switch cfg.Runner() {
	case "function":
		return s.newFunction(cfg)
	case "process":
		return s.newProcess(cfg, p.groupOf(cfg))
	}
	if p.workers == nil {
		p.setWorkers(ready)
		ready.start(s.opt.Logs.With("pool", cfg.Name))
	} else {
		s.updateWorkers(p, cfg)
	}
	return p.workers
}

func (s *Set) newProcess(cfg *config.Pool, group *cgroup.Pool) *process.Runner {
	m := s.opt.Metrics.Pool(cfg.Name)
	opt := launch.Scripts(cfg, s.sandboxNow(cfg.Name), group)
	opt.Dropped = s.tellDropped(cfg.Name)
	opt.KillGrace, opt.Linger, opt.Stderr = cfg.Process.KillGrace, cfg.Process.Linger, cfg.Process.Stderr
	opt.Admit = s.stderrLimit(cfg.Name).Admit
	opt.Log = s.opt.Logs.With("pool", cfg.Name)
	opt.Hooks = process.Hooks{Started: m.Started, Exited: m.Exited}
	opt.Spawner = s.opt.Spawner
	if s.opt.Launchers != nil {
		opt.Launcher = s.opt.Launchers.Scripts(cfg.Name, opt.Dropped)
	}
	return process.New(opt)
}

// tellDropped is what says that a param does not reach a pool's programs.
func (s *Set) tellDropped(pool string) func(name, why string) {
	log := s.opt.Logs.With("pool", pool)
	return func(name, why string) {
		log.Warn("param dropped", "param", name, "reason", why, "keys", "env, pass_params")
	}
}
