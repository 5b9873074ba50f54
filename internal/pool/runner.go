package pool

import (
	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/spawn"
	"github.com/fcgid/fcgid/internal/version"
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
	interpreters := make(map[string]string)
	for _, i := range cfg.Process.Interpreters {
		interpreters[i.Extension] = i.Path
	}
	return process.New(process.Options{
		Roots: cfg.Process.Root, Scripts: cfg.Process.Scripts, Extensions: cfg.Process.Extensions,
		Interpreters: interpreters, Dir: cfg.Process.Dir,
		Env: cfg.Env, PassEnv: cfg.PassEnv, PassParams: cfg.PassParams,
		SingleFields: cfg.Limits.SingleFields, Dropped: s.tellDropped(cfg.Name),
		KillGrace: cfg.Process.KillGrace, Linger: cfg.Process.Linger, Stderr: cfg.Process.Stderr,
		Admit:    s.stderrLimit(cfg.Name).Admit,
		Software: version.Software(),
		Log:      s.opt.Logs.With("pool", cfg.Name),
		Hooks:    process.Hooks{Started: m.Started, Exited: m.Exited},
		Spawner:  s.opt.Spawner,
		Identity: identityOf(cfg),
		Owner:    ownerOf(cfg),
		Cgroup:   group,
		Sandbox:  s.sandboxNow(cfg.Name),
	})
}

// identityOf is who the programs of a pool run as; nil is who we are.
func identityOf(cfg *config.Pool) *spawn.Identity {
	if cfg.RunsAs == nil {
		return nil
	}
	return &spawn.Identity{UID: cfg.RunsAs.UID, GID: cfg.RunsAs.GID, Groups: cfg.RunsAs.Groups}
}

// ownerOf says that the scripts of a pool run as who owns them; nil: they do not.
func ownerOf(cfg *config.Pool) *process.Owner {
	if !cfg.Sandbox.Owner {
		return nil
	}
	return &process.Owner{MinID: uint32(cfg.Sandbox.MinUID)}
}

// tellDropped is what says that a param does not reach a pool's programs.
func (s *Set) tellDropped(pool string) func(name, why string) {
	log := s.opt.Logs.With("pool", pool)
	return func(name, why string) {
		log.Warn("param dropped", "param", name, "reason", why, "keys", "env, pass_params")
	}
}
