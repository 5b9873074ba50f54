package launch

import (
	"fmt"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/spawn"
)

// sandboxOf is what a configuration says of how a pool's programs are confined, whatever
// the machine can do; nil is nothing that a daemon with that umask has to do.
func sandboxOf(cfg *config.Pool, umask uint32) *spawn.Sandbox {
	c := &cfg.Sandbox
	if !cfg.StartsPrograms() || !c.IsConfined() && uint32(c.Umask) == umask {
		return nil
	}
	own := uint32(c.Umask)
	s := &spawn.Sandbox{Umask: &own}
	if !c.IsConfined() {
		return s // which all such pools share
	}
	s.Name, s.Nice, s.OOMScoreAdj, s.NoNewPrivs = cfg.Name, int(c.Nice), int(c.OOMScoreAdj), c.NoNewPrivs
	s.Capabilities, s.LimitCapabilities = c.KeepsCapabilities()
	s.Chroot, s.Read, s.Write, s.NoNetwork, s.PrivateTmp = c.Chroot, c.Read, c.Write, !c.Network, c.PrivateTmp
	for _, l := range c.Rlimits {
		s.Rlimits = append(s.Rlimits, spawn.Rlimit{Name: l.Name, Resource: l.Resource, Value: l.Value})
	}
	return s
}

// SandboxIdentity is who a sandbox takes the programs of a pool to run as; nil is who we
// are. Owners of scripts are many: the first that may be one stands for all, since none is
// root. The pool's user is who looks for the scripts.
func SandboxIdentity(cfg *config.Pool) *spawn.Identity {
	if cfg.Sandbox.Owner {
		id := uint32(cfg.Sandbox.MinUID)
		return &spawn.Identity{UID: id, GID: id}
	}
	return Identity(cfg)
}

// FitSandbox is what of a pool's sandbox can be done where its programs are started, nil
// if there is nothing to do, and what cannot. The error is that they must not run so.
func FitSandbox(by spawn.Spawner, cfg *config.Pool, umask uint32) (*spawn.Sandbox, []spawn.Lack, error) {
	wanted := sandboxOf(cfg, umask)
	if wanted == nil {
		return nil, nil, nil
	}
	fits, lacks := by.Fit(*wanted, SandboxIdentity(cfg))
	for _, l := range lacks {
		switch {
		case l.Fatal:
			return nil, nil, fmt.Errorf("pool %s: %s", cfg.Name, l)
		case cfg.Sandbox.Required:
			return nil, nil, fmt.Errorf("pool %s: %s (sandbox.required)", cfg.Name, l)
		}
	}
	return &fits, lacks, nil
}
