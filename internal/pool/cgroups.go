package pool

import (
	"errors"
	"fmt"
	"slices"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/status"
)

// cgroups are those of the pools. They are for the goroutine that plans.
type cgroups struct {
	open func() (*cgroup.Tree, error) // nil: there are none
	tree *cgroup.Tree                 // nil while there is none
	why  error                        // there is none
}

// look opens the tree, or looks again for what that was refused. It is called once for a
// Plan that has a use for it.
func (c *cgroups) look() {
	switch {
	case c.tree != nil:
		c.tree.LookAgain()
	case c.open == nil:
		c.why = errors.New("the daemon starts no programs itself")
	default:
		c.tree, c.why = c.open()
	}
}

func (c *cgroups) close() {
	if c.tree != nil {
		c.tree.Close()
	}
}

// prepareCgroups makes those that pools are to have and do not, and finds out what of
// their limits cannot be had: an error if it is required.
func (p *Plan) prepareCgroups() error {
	running := p.set.running()
	if slices.ContainsFunc(p.cfg.Pools, func(cfg config.Pool) bool { return launch.UsesCgroup(&cfg) }) {
		p.set.cgroups.look()
	}
	for i := range p.cfg.Pools {
		cfg := &p.cfg.Pools[i]
		if !launch.UsesCgroup(cfg) {
			continue
		}
		group, unmet, err := p.prepareCgroup(cfg, running[cfg.Name])
		if err == nil {
			err = unmet
		}
		if key := launch.RequiredBy(&cfg.Sandbox); err != nil && key != "" {
			return fmt.Errorf("pool %s: %s: %w", cfg.Name, key, err)
		}
		p.groups[cfg.Name] = group
		if err != nil && cfg.Sandbox.IsLimited() {
			p.set.opt.Logs.Warn("limits of a pool do not hold", "pool", cfg.Name, "error", err)
		}
	}
	return nil
}

// prepareCgroup returns a pool's cgroup, and why not all of its limits can be had.
func (p *Plan) prepareCgroup(cfg *config.Pool, now *pool) (group *cgroup.Pool, unmet, err error) {
	tree := p.set.cgroups.tree
	if tree == nil {
		return nil, nil, p.set.cgroups.why
	}
	limits := launch.CgroupLimits(&cfg.Sandbox)
	unmet = launch.UnmetError(tree.Unmet(&limits))
	if now != nil && now.cgroup != nil {
		return now.cgroup, unmet, nil
	}
	if group, err = tree.Pool(cfg.Name, limits); err != nil {
		return nil, nil, err
	}
	p.undos = append(p.undos, group.Close)
	return group, unmet, nil
}

// commitCgroup gives a pool its cgroup, and that its limits. One that it has already it
// keeps, without limits if it is to have none: programs are in it. It reports whether the
// pool has come to have one.
func (s *Set) commitCgroup(p *pool, cfg *config.Pool, group *cgroup.Pool) (came bool) {
	limits := launch.CgroupLimits(&cfg.Sandbox)
	p.mu.Lock()
	before := p.cgroup
	if group != nil {
		p.cgroup = group
	}
	p.mu.Unlock()
	if before == nil {
		return group != nil // which has been made with them
	}
	if group == nil {
		limits = cgroup.Limits{}
	}
	if err := before.Set(limits); err != nil {
		s.opt.Logs.Warn("limits of a pool do not hold", "pool", p.name, "error", err)
	}
	return false
}

// groupOf is where the programs of a pool are started.
func (p *pool) groupOf(cfg *config.Pool) *cgroup.Pool {
	if !launch.UsesCgroup(cfg) {
		return nil
	}
	return p.cgroupNow()
}

// describeCgroup is what is told of a pool's, also where another process has made it.
func (p *pool) describeCgroup() *status.Cgroup {
	var path string
	var u cgroup.Usage
	if g := p.cgroupNow(); g != nil {
		path, u = g.Path(), g.Usage()
	} else if p.launchers != nil {
		path = p.launchers.Cgroup(p.name)
		u = cgroup.UsageAt(path)
	}
	if path == "" {
		return nil
	}
	known := func(n int64) *int64 {
		if n < 0 {
			return nil
		}
		return &n
	}
	return &status.Cgroup{Path: path, Memory: known(u.Memory), MemoryLimit: known(u.MemoryMax), Pids: known(u.Pids)}
}

// leaveCgroup returns the cgroup, which is somebody else's from now on.
func (p *pool) leaveCgroup() *cgroup.Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.cgroup
	p.cgroup = nil
	return g
}

func (p *pool) cgroupNow() *cgroup.Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cgroup
}
