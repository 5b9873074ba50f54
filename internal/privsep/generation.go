package privsep

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/spawn"
)

// Cgroups opens what the spawner has of the cgroup hierarchy.
type Cgroups func() (*cgroup.Tree, error)

// A generation is what can be started under one configuration.
type generation struct {
	number uint64
	pools  map[string]*startable
}

// A startable is a pool's programs: scripts, or workers.
type startable struct {
	scripts *process.Scripts
	workers *worker.Programs
	places  *places
	most    int          // programs, of all generations
	tracer  []string     // slow.command
	tracers *places      // one at a time
	group   *cgroup.Pool // nil: none
	limits  cgroup.Limits
	release func() // of its sandbox
	dropped dropped
	quick   quickness
}

// Prepare does what can fail before the pools of a generation can be started: commit or undo
// is called next. Other pools' programs go on. spool is the folder of the daemon's unlinked
// files, as in spawn.Sandbox.
func (p *Programs) Prepare(number uint64, pools []config.Pool, spool string) (commit, undo func(), err error) {
	next := &generation{number, make(map[string]*startable)}
	now := &preparation{Programs: p, spool: spool}
	if p.opt.Cgroups != nil && slices.ContainsFunc(pools, func(cfg config.Pool) bool { return launch.UsesCgroup(&cfg) }) {
		now.tree, now.noTree = p.opt.Cgroups()
	}
	for i := range pools {
		cfg := &pools[i]
		if cfg.Process == nil && cfg.Worker == nil {
			continue
		}
		if next.pools[cfg.Name], err = now.pool(cfg); err != nil {
			now.undo()
			return nil, nil, fmt.Errorf("pool %s: %w", cfg.Name, err)
		}
	}
	return func() { p.commit(next) }, now.undo, nil
}

// A preparation is what the pools of a generation are prepared with, and what of that is to be
// undone.
type preparation struct {
	*Programs
	spool  string
	tree   *cgroup.Tree // nil: there is none
	noTree error        // why, if a pool is to have a cgroup
	undos  []func()
}

func (p *preparation) undo() {
	for _, undo := range slices.Backward(p.undos) {
		undo()
	}
}

func (p *preparation) pool(cfg *config.Pool) (*startable, error) {
	if id := cfg.RunsAs; id == nil || p.isBarred(id.UID, id.GID, id.Groups) {
		return nil, fmt.Errorf("user: %w", errBarred)
	}
	s := &startable{places: p.placesOf(cfg.Name), most: mostPrograms(cfg), tracer: cfg.Slow.Command, limits: launch.CgroupLimits(&cfg.Sandbox)}
	if now := p.poolNow(cfg.Name); now != nil {
		s.tracers = now.tracers
	} else {
		s.tracers = newPlaces(1)
	}
	if err := p.group(s, cfg); err != nil {
		return nil, err
	}
	box, lacks, err := launch.FitSandbox(p.opt.Spawner, cfg, spawn.Umask())
	if err != nil {
		return nil, err
	}
	for _, l := range lacks {
		p.opt.Log.Warn("the programs of a pool run without a part of their sandbox", "pool", cfg.Name, "key", l.Key, "reason", l.Reason)
	}
	if box != nil && cfg.Process != nil && len(box.Read) > 0 {
		box.Spool = p.spool
	}
	if s.release, err = p.opt.Spawner.Hold(box, launch.SandboxIdentity(cfg)); err != nil {
		return nil, err
	}
	p.undos = append(p.undos, s.release)
	if cfg.Process != nil {
		opt := launch.Scripts(cfg, box, s.group)
		opt.Dropped = s.dropped.add
		s.scripts = process.NewScripts(opt)
	} else {
		opt := launch.Workers(cfg, box, s.group)
		opt.Dropped = s.dropped.add
		s.workers = worker.NewPrograms(opt)
	}
	return s, nil
}

// group gives a pool its cgroup: the one that it has, or another.
func (p *preparation) group(s *startable, cfg *config.Pool) (err error) {
	if !launch.UsesCgroup(cfg) {
		return nil
	}
	now := p.groupNow(cfg.Name)
	switch {
	case p.tree == nil && p.noTree == nil:
		return nil
	case p.tree == nil:
		err = p.noTree
	case now != nil:
		s.group, err = now, launch.UnmetError(p.tree.Unmet(&s.limits))
	default:
		if s.group, err = p.tree.Pool(cfg.Name, s.limits); err == nil {
			p.undos = append(p.undos, s.group.Close)
			err = launch.UnmetError(p.tree.Unmet(&s.limits))
		}
	}
	if key := launch.RequiredBy(&cfg.Sandbox); err != nil && key != "" {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// poolNow is the pool of that name that counts now, nil if there is none.
func (p *Programs) poolNow(name string) *startable {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current.pools[name]
}

// groupNow is the cgroup that a pool has.
func (p *Programs) groupNow(name string) *cgroup.Pool {
	if s := p.poolNow(name); s != nil {
		return s.group
	}
	return nil
}

// groups are the cgroups of the pools, one after the other: name and path.
func (p *Programs) groups() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, s := range p.current.pools {
		if s.group != nil {
			list = append(list, name, s.group.Path())
		}
	}
	return list
}

// commit has a generation be the current one. The one before is there for a while still.
func (p *Programs) commit(next *generation) {
	for name, s := range next.pools {
		s.places.set(s.most)
		if s.group != nil {
			if err := s.group.Set(s.limits); err != nil {
				p.opt.Log.Warn("limits of a pool do not hold", "pool", name, "error", err)
			}
		}
	}
	p.mu.Lock()
	oldest := p.previous
	p.previous, p.current = p.current, next
	if p.retire != nil {
		p.retire.Stop()
	}
	previous := p.previous
	p.retire = time.AfterFunc(retireTime, func() { p.retirePrevious(previous) })
	p.mu.Unlock()
	p.drop(oldest)
}

func (p *Programs) retirePrevious(g *generation) {
	p.mu.Lock()
	is := p.previous == g
	if is {
		p.previous = nil
	}
	p.mu.Unlock()
	if is {
		p.drop(g)
	}
}

// drop lets go of what a generation has that no other one needs.
func (p *Programs) drop(g *generation) {
	if g == nil {
		return
	}
	for name, s := range g.pools {
		s.release()
		if s.group != nil && s.group != p.groupNow(name) {
			s.group.Close()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, places := range p.places {
		if p.current.pools[name] == nil && (p.previous == nil || p.previous.pools[name] == nil) && places.isFree() {
			delete(p.places, name)
		}
	}
}

// mostPrograms is how many programs a pool can need at once. Workers that are replaced, and
// those that leave, are there beside those that serve.
func mostPrograms(cfg *config.Pool) int {
	if cfg.Worker != nil {
		return 2*cfg.Worker.Max + 2
	}
	return cfg.Places()
}

// Places are how many programs a pool may have, of all its generations.
type places struct {
	freed chan struct{} // has one when there may be a place that was not there before

	mu     sync.Mutex // guards the fields below
	max, n int
}

func newPlaces(most int) *places { return &places{freed: make(chan struct{}, 1), max: most} }

// placeTime is how long a place is waited for: the daemon may have heard of an exit, and asks
// for the next start, before the place of the program that has exited is free.
const placeTime = 5 * time.Second

var errNoPlace = &protocol.Refusal{HTTPStatus: 503, AppStatus: 503, Reason: errors.New("the pool has as many programs as it may have")}

func (p *Programs) placesOf(name string) *places {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.places[name] == nil {
		p.places[name] = newPlaces(0)
	}
	return p.places[name]
}

// most is how many programs a pool may have, 0 if there is none of that name.
func (p *Programs) most(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if places := p.places[name]; places != nil {
		return places.most()
	}
	return 0
}

func (p *places) most() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.max
}

func (p *places) take() error {
	if p.tryTake() {
		return nil
	}
	timeout := time.NewTimer(placeTime)
	defer timeout.Stop()
	for {
		select {
		case <-p.freed:
			if p.tryTake() {
				return nil
			}
		case <-timeout.C:
			return errNoPlace
		}
	}
}

func (p *places) tryTake() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n >= p.max {
		return false
	}
	p.n++
	if p.n < p.max {
		p.tellLocked() // another one may wait
	}
	return true
}

func (p *places) tellLocked() {
	select {
	case p.freed <- struct{}{}:
	default:
	}
}

func (p *places) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n--
	p.tellLocked()
}

func (p *places) set(most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.max = most
	p.tellLocked()
}

func (p *places) isFree() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n == 0
}

// dropped are names of params that were kept from programs, until the daemon is told, with
// the reasons: one after the other.
type dropped struct {
	mu   sync.Mutex // guards the field below
	list []string
}

// maxDropped bounds what is kept for the daemon.
const maxDropped = 64

func (d *dropped) add(name, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.list) < 2*maxDropped {
		d.list = append(d.list, name, why)
	}
}

func (d *dropped) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil
	return list
}
