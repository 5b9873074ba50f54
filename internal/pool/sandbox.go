package pool

import (
	"fmt"
	"os"
	"reflect"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A sandbox is that of a pool's programs, held ready from Plan until another one is in
// force.
type sandbox struct {
	*spawn.Sandbox // nil: none
	lacks          []spawn.Lack
	release        func()
}

// box is nil for no sandbox.
func (s *sandbox) box() *spawn.Sandbox {
	if s == nil {
		return nil
	}
	return s.Sandbox
}

// prepareSandboxes holds those of all pools.
func (p *Plan) prepareSandboxes() error {
	spool := launch.SpoolDir(p.cfg)
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
	fits, lacks, err := launch.FitSandbox(s.opt.Spawner, cfg, s.umask)
	if err != nil {
		return nil, err
	}
	if fits != nil && cfg.Process != nil && len(fits.Read) > 0 {
		fits.Spool = spool // a body in a file is descriptor 0
	}
	release, err := s.opt.Spawner.Hold(fits, launch.SandboxIdentity(cfg))
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
	return s.sandboxes[pool].box()
}

// warnOfSandbox tells what the machine lacks for the sandbox of a pool that was configured.
func (s *Set) warnOfSandbox(pool string) {
	if now := s.sandboxes[pool]; now != nil {
		for _, l := range now.lacks {
			s.opt.Logs.Warn("the programs of a pool run without a part of their sandbox", "pool", pool, "key", l.Key, "reason", l.Reason)
		}
	}
}
