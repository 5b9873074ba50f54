package pool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/listen"
)

// A Plan is a configuration that has been prepared: all that can fail has been
// done. Either Commit or Undo is called next.
type Plan struct {
	set     *Set
	cfg     *config.Config
	isTrial bool     // see Try
	opens   []string // in a trial

	opened map[string]map[string]*listen.Listener // by pool and address
	given  []*endpoint                            // that their pools give up and nobody has taken
	moved  map[string]map[string]*endpoint        // by the pool and address that they go to
	ready  map[string]*workerPool                 // by pool: workers that can be started
	groups map[string]*cgroup.Pool                // by pool
	undos  []func()

	sandboxes map[string]*sandbox // by pool
	confined  map[string]bool     // of Commit: pools with another sandbox than before

	came, gone []*endpoint // of Commit
}

// Plan opens what cfg needs and does not have yet, and changes the sockets
// that stay. On error nothing has changed.
func (s *Set) Plan(ctx context.Context, cfg *config.Config) (*Plan, error) {
	p := s.newPlan(cfg)
	err := p.prepare(ctx)
	if err == nil {
		err = p.apply()
	}
	if err != nil {
		p.Undo()
		return nil, err
	}
	return p, nil
}

// Try is why Plan would fail, by the same plan: but it opens no socket, and changes none. opens are
// the addresses that it would open, where no socket of ours is.
func (s *Set) Try(ctx context.Context, cfg *config.Config) (opens []string, err error) {
	p := s.newPlan(cfg)
	p.isTrial = true
	defer p.Undo()
	if err = p.prepare(ctx); err == nil {
		err = p.tryApply()
	}
	return p.opens, err
}

func (s *Set) newPlan(cfg *config.Config) *Plan {
	return &Plan{
		set: s, cfg: cfg, opened: make(map[string]map[string]*listen.Listener),
		moved: make(map[string]map[string]*endpoint), ready: make(map[string]*workerPool),
		groups: make(map[string]*cgroup.Pool), sandboxes: make(map[string]*sandbox),
	}
}

// prepare does what can fail, but for changes of what there is.
func (p *Plan) prepare(ctx context.Context) error {
	err := p.prepareConfinement()
	if err == nil {
		err = p.open(ctx)
	}
	if err == nil {
		err = p.prepareWorkers()
	}
	return err
}

// prepareConfinement does so for what bounds programs, where this process starts them.
func (p *Plan) prepareConfinement() error {
	if p.set.opt.Launchers != nil {
		return nil
	}
	if err := p.prepareCgroups(); err != nil {
		return err
	}
	return p.prepareSandboxes()
}

// Undo leaves all as it was before.
func (p *Plan) Undo() {
	for i := len(p.undos) - 1; i >= 0; i-- {
		p.undos[i]()
	}
}

// prepareWorkers does so for the pools that get workers and have none yet.
func (p *Plan) prepareWorkers() error {
	running := p.set.running()
	for i := range p.cfg.Pools {
		cfg := &p.cfg.Pools[i]
		now := running[cfg.Name]
		if p.isReplaced(now, cfg) {
			now = nil
		}
		if cfg.Worker == nil || now != nil && now.workers != nil {
			continue
		}
		p.set.removeDead.Do(p.set.removeDeadFolders)
		w, err := p.set.prepareWorkers(cfg, p.groups[cfg.Name], p.sandboxes[cfg.Name].box(), p.opened[cfg.Name])
		if err != nil {
			return err
		}
		p.ready[cfg.Name] = w
		p.undos = append(p.undos, func() { w.Discard() })
	}
	return nil
}

// open opens the addresses that their pools do not listen on yet. A socket that
// another pool gives up, or the same one by another name, goes over with all
// its connections, also those that wait in it.
func (p *Plan) open(ctx context.Context) error {
	p.given = p.givenUp()
	for _, pc := range p.cfg.Pools {
		p.opened[pc.Name], p.moved[pc.Name] = make(map[string]*listen.Listener), make(map[string]*endpoint)
		for _, lc := range pc.Listen {
			if e := p.set.endpoint(pc.Name, lc.Address); e != nil && !e.IsLost() {
				if err := e.mayGoOn(&pc, true); err != nil {
					return err
				}
				continue
			}
			if e := p.claim(lc.Address); e != nil {
				if err := e.mayGoOn(&pc, false); err != nil {
					return err
				}
				p.moved[pc.Name][lc.Address] = e
				continue
			}
			l, err := p.openOne(ctx, lc, pc.IsDirect())
			if err != nil {
				return err
			}
			p.opened[pc.Name][lc.Address] = l // nil in a trial
		}
	}
	return nil
}

// claim returns what a pool gives up that is at an address, and that nobody has claimed, or nil.
func (p *Plan) claim(address string) *endpoint {
	i := slices.IndexFunc(p.given, func(e *endpoint) bool { return e.Options().Address == address || e.IsAt(address) })
	if i < 0 {
		return nil
	}
	e := p.given[i]
	p.given = slices.Delete(p.given, i, i+1)
	return e
}

func (p *Plan) openOne(ctx context.Context, lc config.Listen, direct bool) (*listen.Listener, error) {
	var yielding []*listen.Listener
	for _, e := range p.given {
		yielding = append(yielding, e.Listener)
	}
	l, err := p.openBy(ctx, listenOptions(lc, direct), yielding)
	if errors.Is(err, listen.ErrInUse) {
		if holder := p.holder(lc.Address); holder != "" {
			return nil, fmt.Errorf("listen %s: %w: %s", lc.Address, listen.ErrInUse, holder)
		}
	}
	if err != nil {
		return nil, err
	}
	if l != nil {
		p.undos = append(p.undos, func() { l.Close() })
	}
	return l, nil
}

// openBy returns nil in a trial.
func (p *Plan) openBy(ctx context.Context, o listen.Options, yielding []*listen.Listener) (*listen.Listener, error) {
	if p.isTrial {
		isNew, err := listen.TryBy(p.set.opt.Binder, &o, yielding...)
		if isNew {
			p.opens = append(p.opens, o.Address)
		}
		return nil, err
	}
	return listen.OpenBy(ctx, p.set.opt.Binder, o, yielding...)
}

// listener is what is to be at a pool's address, or nil while nothing is.
func (p *Plan) listener(pool, address string) *listen.Listener {
	if l := p.opened[pool][address]; l != nil {
		return l
	}
	e := p.moved[pool][address]
	if e == nil {
		e = p.set.endpoint(pool, address)
	}
	if e == nil {
		return nil
	}
	return e.Listener
}

// givenUp are the sockets that their pools will not have any more. A lost one is
// nobody's: what has its name now is another.
func (p *Plan) givenUp() (given []*endpoint) {
	wanted := make(map[[2]string]bool)
	for _, pc := range p.cfg.Pools {
		for _, lc := range pc.Listen {
			wanted[[2]string{pc.Name, lc.Address}] = true
		}
	}
	for name, running := range p.set.running() {
		for address, e := range running.endpoints {
			if !wanted[[2]string{name, address}] && !e.IsLost() {
				given = append(given, e)
			}
		}
	}
	return given
}

// holder tells which of our own sockets is in the way of an address, and is to stay.
func (p *Plan) holder(address string) string {
	for _, pc := range p.cfg.Pools {
		for _, lc := range pc.Listen {
			if l := p.listener(pc.Name, lc.Address); l != nil && l.IsInTheWay(address) {
				return fmt.Sprintf("pool %s listens on %s", pc.Name, lc.Address)
			}
		}
	}
	return ""
}

// apply changes the options of sockets that are open already.
func (p *Plan) apply() error {
	for _, pc := range p.cfg.Pools {
		for _, lc := range pc.Listen {
			l := p.listener(pc.Name, lc.Address)
			old, next := l.Options(), listenOptions(lc, pc.IsDirect())
			if reflect.DeepEqual(old, next) {
				continue
			}
			if err := l.Apply(next); err != nil {
				return err
			}
			p.undos = append(p.undos, func() { l.Apply(old) })
		}
	}
	return nil
}

// tryApply is why apply would fail.
func (p *Plan) tryApply() error {
	for _, pc := range p.cfg.Pools {
		for _, lc := range pc.Listen {
			o := listenOptions(lc, pc.IsDirect())
			if l := p.listener(pc.Name, lc.Address); l != nil {
				if err := l.TryApply(&o); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Commit makes the configuration the one in force. It cannot fail.
func (p *Plan) Commit() {
	s := p.set
	s.warnOfSpool(launch.SpoolDir(p.cfg))
	limit := memoryLimit(p.cfg)
	s.memory.SetLimit(limit)
	s.limitRuntime(limit)
	s.setConfig(p.cfg) // before the metrics of its pools are looked up
	old := s.running()
	p.confined = s.commitSandboxes(p.sandboxes)
	p.detachMoved()
	next := make(map[string]*pool, len(p.cfg.Pools))
	for _, pc := range p.cfg.Pools {
		if running := old[pc.Name]; p.isReplaced(running, &pc) {
			next[pc.Name] = p.commitPool(nil, pc, running.leaveCgroup())
		} else {
			next[pc.Name] = p.commitPool(running, pc, nil)
		}
	}
	s.setPools(next)
	for name, gone := range old {
		if next[name] != gone {
			p.gone = slices.AppendSeq(p.gone, maps.Values(gone.endpoints))
		}
	}
	p.leave()
	for name, gone := range old {
		if next[name] != gone {
			s.retire(gone)
		}
	}
}

// leave ends the endpoints that have gone. Where another one has the name by which clients
// have reached them, their connections go on there.
func (p *Plan) leave() {
	for _, gone := range p.gone {
		for _, e := range p.came {
			if e.IsAfter(gone.Listener) && !e.IsDirect() {
				gone.address.Yield(e.address, e.Serves)
			}
		}
		gone.stop()
	}
}

// detachMoved takes what goes over off its pools, before any of them gets something:
// two may exchange their addresses.
func (p *Plan) detachMoved() {
	for _, endpoints := range p.moved {
		for _, e := range endpoints {
			e.owner().detach(e)
		}
	}
}

// keepPool has a pool whose configuration has not changed follow what is not its own.
// Its workers are left alone, unless each reload is to replace them.
func (s *Set) keepPool(p *pool, global *config.Config) {
	if dir := launch.SpoolDir(global); p.settings.Grace != global.ShutdownTimeout || p.settings.SpoolDir != dir {
		settings := p.settings
		settings.Grace, settings.SpoolDir = global.ShutdownTimeout, dir
		p.update(p.cfg, settings)
	}
	if isRecycled(&p.cfg) {
		s.updateWorkers(p, &p.cfg)
	}
}

// isRecycled reports whether each reload replaces the workers of a pool.
func isRecycled(cfg *config.Pool) bool { return cfg.Worker != nil && cfg.Worker.Reload == "always" }

// commitPool brings one pool to its configuration. A pool that has not changed
// is left alone. One that is new may have the cgroup of another of its name.
func (p *Plan) commitPool(running *pool, cfg config.Pool, group *cgroup.Pool) *pool {
	s := p.set
	if running != nil && running.workers != nil && isRecycled(&cfg) {
		running.workers.recycled++
	}
	isNew := running == nil
	if isNew {
		running = s.newPool(cfg.Name)
		running.cgroup = group
	}
	hasGroup := s.commitCgroup(running, &cfg, p.groups[cfg.Name]) // that it had none of before
	switch {
	case isNew, !reflect.DeepEqual(running.cfg, cfg), p.confined[cfg.Name], hasGroup: // by a spool_dir, or a machine, that has changed
		s.configurePool(running, cfg, p.cfg, p.ready[cfg.Name])
		s.warnOfSandbox(cfg.Name)
	default:
		s.keepPool(running, p.cfg)
	}
	stays := make(map[string]bool)
	for _, lc := range cfg.Listen {
		stays[lc.Address] = true
	}
	for address := range running.addresses() {
		isLost := p.opened[cfg.Name][address] != nil || p.moved[cfg.Name][address] != nil // and has another in its place
		if isLost {
			s.opt.Logs.Warn("the file of a socket was gone, so there is another one", "pool", cfg.Name, "address", address)
		}
		if isLost || !stays[address] {
			p.gone = append(p.gone, running.remove(address))
		}
	}
	for _, e := range p.moved[cfg.Name] {
		s.takeOver(running, e)
		p.came = append(p.came, e)
	}
	for _, l := range p.opened[cfg.Name] {
		p.came = append(p.came, s.serve(running, l))
	}
	return running
}
