package pool

import (
	"context"
	"reflect"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
)

// A Plan is a configuration that has been prepared: all that can fail has been
// done. Either Commit or Undo is called next.
type Plan struct {
	set    *Set
	cfg    *config.Config
	opened map[string]map[string]*listen.Listener // by pool and address
	taken  []*listen.Listener                     // whose sockets opened ones took over
	undos  []func()
}

// Plan opens what cfg needs and does not have yet, and changes the sockets
// that stay. On error nothing has changed.
func (s *Set) Plan(ctx context.Context, cfg *config.Config) (*Plan, error) {
	p := &Plan{set: s, cfg: cfg, opened: make(map[string]map[string]*listen.Listener)}
	err := checkRuntimeFolder(cfg)
	if err == nil {
		err = p.open(ctx)
	}
	if err == nil {
		err = p.apply()
	}
	if err != nil {
		p.Undo()
		return nil, err
	}
	return p, nil
}

// Undo leaves all as it was before.
func (p *Plan) Undo() {
	for i := len(p.undos) - 1; i >= 0; i-- {
		p.undos[i]()
	}
}

// open opens the addresses that their pools do not listen on yet. One that
// another pool gives up goes over with all connections that wait in it.
func (p *Plan) open(ctx context.Context) error {
	given := p.given()
	for _, pc := range p.cfg.Pools {
		p.opened[pc.Name] = make(map[string]*listen.Listener)
		for _, lc := range pc.Listen {
			if p.set.endpoint(pc.Name, lc.Address) != nil {
				continue
			}
			l, err := p.openOne(ctx, lc, given[lc.Address])
			if err != nil {
				return err
			}
			p.opened[pc.Name][lc.Address] = l
		}
	}
	return nil
}

func (p *Plan) openOne(ctx context.Context, lc config.Listen, given *endpoint) (*listen.Listener, error) {
	if given == nil {
		l, err := listen.Open(ctx, listenOptions(lc))
		if err != nil {
			return nil, err
		}
		p.undos = append(p.undos, func() { l.Close() })
		return l, nil
	}
	l, err := given.Dup()
	if err != nil {
		return nil, err
	}
	p.taken = append(p.taken, given.Listener)
	p.undos = append(p.undos, func() {
		l.Disown()
		l.Close()
	})
	return l, nil
}

// given are the endpoints that their pools will not have any more.
func (p *Plan) given() map[string]*endpoint {
	wanted := make(map[[2]string]bool)
	for _, pc := range p.cfg.Pools {
		for _, lc := range pc.Listen {
			wanted[[2]string{pc.Name, lc.Address}] = true
		}
	}
	given := make(map[string]*endpoint)
	for name, running := range p.set.running() {
		for address, e := range running.endpoints {
			if !wanted[[2]string{name, address}] {
				given[address] = e
			}
		}
	}
	return given
}

// apply changes the options of sockets that are open already.
func (p *Plan) apply() error {
	for _, pc := range p.cfg.Pools {
		for _, lc := range pc.Listen {
			l := p.opened[pc.Name][lc.Address]
			if e := p.set.endpoint(pc.Name, lc.Address); e != nil {
				l = e.Listener
			}
			old := l.Options()
			if reflect.DeepEqual(old, listenOptions(lc)) {
				continue
			}
			if err := l.Apply(listenOptions(lc)); err != nil {
				return err
			}
			p.undos = append(p.undos, func() { l.Apply(old) })
		}
	}
	return nil
}

// Commit makes the configuration the one in force. It cannot fail.
func (p *Plan) Commit() {
	s := p.set
	for _, l := range p.taken {
		l.Disown()
	}
	s.setConfig(p.cfg) // before the metrics of its pools are looked up
	old := s.running()
	next := make(map[string]*pool, len(p.cfg.Pools))
	for _, pc := range p.cfg.Pools {
		next[pc.Name] = p.commitPool(old[pc.Name], pc)
	}
	s.setPools(next)
	for name, gone := range old {
		if next[name] == nil {
			s.retire(gone)
		}
	}
}

// commitPool brings one pool to its configuration. A pool that has not changed
// is left alone.
func (p *Plan) commitPool(running *pool, cfg config.Pool) *pool {
	s := p.set
	switch {
	case running == nil:
		running = s.newPool(cfg.Name)
		s.configurePool(running, cfg, p.cfg)
	case !reflect.DeepEqual(running.cfg, cfg):
		s.configurePool(running, cfg, p.cfg)
	case running.settings.Grace != p.cfg.ShutdownTimeout:
		settings := running.settings
		settings.Grace = p.cfg.ShutdownTimeout
		running.update(cfg, settings)
	}
	stays := make(map[string]bool)
	for _, lc := range cfg.Listen {
		stays[lc.Address] = true
	}
	for address := range running.addresses() {
		if !stays[address] {
			running.drop(address)
		}
	}
	for _, l := range p.opened[cfg.Name] {
		s.serve(running, l)
	}
	return running
}
