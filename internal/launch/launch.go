// Package launch is what a pool's configuration means to who starts its programs: as whom,
// with what, how they are confined. That is the daemon, or a process with more rights.
package launch

import (
	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/spawn"
	"github.com/fcgid/fcgid/internal/version"
)

// Scripts are the options of a pool of CGI programs that process.NewScripts takes, but for
// Dropped.
func Scripts(cfg *config.Pool, box *spawn.Sandbox, group *cgroup.Pool) process.Options {
	interpreters := make(map[string]string)
	for _, i := range cfg.Process.Interpreters {
		interpreters[i.Extension] = i.Path
	}
	return process.Options{
		Roots: cfg.Process.Root, Scripts: cfg.Process.Scripts, Extensions: cfg.Process.Extensions,
		Interpreters: interpreters, Dir: cfg.Process.Dir,
		Env: cfg.Env, PassEnv: cfg.PassEnv, PassParams: cfg.PassParams, SingleFields: cfg.Limits.SingleFields,
		Software: version.Software(),
		Identity: Identity(cfg), Owner: Owner(cfg), Cgroup: group, Sandbox: box,
	}
}

// Workers are the options of a pool of workers that worker.NewPrograms takes, but for Dropped.
func Workers(cfg *config.Pool, box *spawn.Sandbox, group *cgroup.Pool) worker.Options {
	c := cfg.Worker
	return worker.Options{
		Command: c.Command, Dir: c.Dir, Roots: c.Root, Extensions: c.Extensions,
		Env: cfg.Env, PassEnv: cfg.PassEnv, PassParams: cfg.PassParams, SingleFields: cfg.Limits.SingleFields,
		Software: version.Software(), Direct: cfg.IsDirect(),
		Identity: Identity(cfg), Cgroup: group, Sandbox: box,
	}
}

// Identity is who the programs of a pool run as; nil is who we are.
func Identity(cfg *config.Pool) *spawn.Identity {
	if cfg.RunsAs == nil {
		return nil
	}
	return &spawn.Identity{UID: cfg.RunsAs.UID, GID: cfg.RunsAs.GID, Groups: cfg.RunsAs.Groups}
}

// Owner says that the scripts of a pool run as who owns them; nil: they do not.
func Owner(cfg *config.Pool) *process.Owner {
	if !cfg.Sandbox.Owner {
		return nil
	}
	return &process.Owner{MinID: uint32(cfg.Sandbox.MinUID)}
}
