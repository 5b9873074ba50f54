package pool

import (
	"fmt"
	"os"
	"reflect"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A sandbox is that of a pool's programs, held ready from Plan until another one is in
// force.
type sandbox struct {
	*spawn.Sandbox // nil: none
	lacks          []spawn.Lack
	release        func()
}

// sandboxOf is what a configuration says of how a pool's programs are confined, whatever
// the machine can do; nil is nothing that a daemon with that umask has to do.
func sandboxOf(cfg *config.Pool, umask uint32) *spawn.Sandbox {
	c := &cfg.Sandbox
	if cfg.Function != nil || !c.IsConfined() && uint32(c.Umask) == umask {
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

// confinedIdentity is who a sandbox takes the programs of a pool to run as; nil is who we
// are. Owners of scripts are many: the first that may be one stands for all, since none is
// root. The pool's user is who looks for the scripts.
func confinedIdentity(cfg *config.Pool) *spawn.Identity {
	if cfg.Sandbox.Owner {
		id := uint32(cfg.Sandbox.MinUID)
		return &spawn.Identity{UID: id, GID: id}
	}
	return identityOf(cfg)
}

// FitSandbox is what of a pool's sandbox can be done where its programs are started, nil
// if there is nothing to do, and what cannot. The error is that they must not run so.
func FitSandbox(by spawn.Spawner, cfg *config.Pool, umask uint32) (*spawn.Sandbox, []spawn.Lack, error) {
	wanted := sandboxOf(cfg, umask)
	if wanted == nil {
		return nil, nil, nil
	}
	fits, lacks := by.Fit(*wanted, confinedIdentity(cfg))
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

// prepareSandboxes holds those of all pools.
func (p *Plan) prepareSandboxes() error {
	spool := spoolDir(p.cfg)
	if spool == os.TempDir() {
		spool = "" // where others' files are, too
	}
	for i := range p.cfg.Pools {
		cfg := &p.cfg.Pools[i]
		s, err := p.set.prepareSandbox(cfg, spool)
		if err != nil {
			return err
		}
		p.sandboxes[cfg.Name] = s
		p.undos = append(p.undos, s.release)
	}
	return nil
}

func (s *Set) prepareSandbox(cfg *config.Pool, spool string) (*sandbox, error) {
	fits, lacks, err := FitSandbox(s.opt.Spawner, cfg, s.umask)
	if err != nil {
		return nil, err
	}
	if fits != nil && cfg.Process != nil && len(fits.Read) > 0 {
		fits.Spool = spool // a body in a file is descriptor 0
	}
	release, err := s.opt.Spawner.Hold(fits, confinedIdentity(cfg))
	if err != nil {
		return nil, fmt.Errorf("pool %s: %w", cfg.Name, err)
	}
	return &sandbox{fits, lacks, release}, nil
}

// commitSandboxes puts those of a plan in force, and returns the pools whose sandbox is
// another than before. What started under the old ones goes on.
func (s *Set) commitSandboxes(next map[string]*sandbox) (changed map[string]bool) {
	old := s.sandboxes
	s.sandboxes = next
	changed = make(map[string]bool)
	for pool, o := range old {
		n := next[pool]
		changed[pool] = n != nil && !reflect.DeepEqual(n.Sandbox, o.Sandbox)
		o.release()
	}
	return changed
}

// sandboxNow is the one in force of a pool; nil is none.
func (s *Set) sandboxNow(pool string) *spawn.Sandbox {
	if now := s.sandboxes[pool]; now != nil {
		return now.Sandbox
	}
	return nil
}

// warnOfSandbox tells what the machine lacks for the sandbox of a pool that was configured.
func (s *Set) warnOfSandbox(pool string) {
	if now := s.sandboxes[pool]; now != nil {
		for _, l := range now.lacks {
			s.opt.Logs.Warn("the programs of a pool run without a part of their sandbox", "pool", pool, "key", l.Key, "reason", l.Reason)
		}
	}
}
