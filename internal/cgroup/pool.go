package cgroup

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Limits bound a pool; 0 is no limit.
type Limits struct {
	Memory        int64   // bytes of the pool
	MemoryRequest int64   // bytes of one program, with all that it starts
	Pids          int     // processes and threads of one program
	CPU           float64 // of the pool, in processors
	// Required refuses to start a program that these would not hold for.
	Required bool
}

// An Unmet is a limit that cannot be had.
type Unmet struct {
	Key string // in sandbox
	Why error
}

// unmetLocked are those of the limits that the tree has no controller for.
func (t *Tree) unmetLocked(l *Limits) (all []Unmet) {
	for _, need := range []struct {
		key, controller string
		is              bool
	}{
		{"memory", "memory", l.Memory > 0},
		{"memory_request", "memory", l.MemoryRequest > 0},
		{"pids", "pids", l.Pids > 0},
		{"cpu", "cpu", l.CPU > 0},
	} {
		if !need.is {
			continue
		}
		if err := t.enableLocked(need.controller); err != nil {
			all = append(all, Unmet{need.key, err})
		}
	}
	return all
}

// Unmet are those of the limits that cannot be had here.
func (t *Tree) Unmet(l *Limits) []Unmet {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unmetLocked(l)
}

// A Pool is the group of a pool. It is used by many goroutines.
type Pool struct {
	tree   *Tree
	path   string
	shared *Group // for programs without a group of their own

	mu     sync.Mutex // guards the fields below; the group's files are written under it
	limits Limits
	last   int            // number of the group of its own that was made last
	own    map[int]*Group // those that are in use
	told   int64          // processes that the kernel has killed, and somebody was told of
	closed bool
	failed bool // somebody was told that a program has no group
}

// Pool makes the group of a pool. Two may have the same name: while one ends.
func (t *Tree) Pool(name string, l Limits) (*Pool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	path := filepath.Join(t.path, poolPrefix+name)
	for n := 2; ; n++ {
		err := t.files.mkdir(path)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EEXIST) {
			return nil, fmt.Errorf("make cgroup %s: %w", path, err)
		}
		path = filepath.Join(t.path, fmt.Sprintf("%s%s.%d", poolPrefix, name, n))
	}
	p := &Pool{tree: t, path: path, own: make(map[int]*Group)}
	if err := p.open(); err != nil {
		removeTree(t.files, path)
		return nil, err
	}
	t.unmetLocked(&l) // enables the others
	if err := p.set(l); err != nil {
		p.shared.close()
		removeTree(t.files, path)
		return nil, err
	}
	t.pools[path] = p
	return p, nil
}

func (p *Pool) open() error {
	path := filepath.Join(p.path, sharedName)
	if err := p.tree.files.mkdir(path); err != nil {
		return fmt.Errorf("make cgroup %s: %w", path, err)
	}
	p.shared = &Group{pool: p, path: path}
	return p.shared.open()
}

// Set changes the limits, also of the programs that run.
func (p *Pool) Set(l Limits) error {
	p.tree.Unmet(&l)
	return p.set(l)
}

func (p *Pool) set(l Limits) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limits = l
	err := errors.Join(
		p.limit(p.path, "memory.max", amount(l.Memory)),
		p.limit(p.path, "cpu.max", quota(l.CPU)),
	)
	if l.Memory > 0 || l.MemoryRequest > 0 {
		err = errors.Join(err, p.enable("memory"))
	}
	if l.Pids > 0 {
		err = errors.Join(err, p.enable("pids"))
	}
	for _, g := range p.own {
		err = errors.Join(err, p.limitOwn(g))
	}
	return err
}

// enable has the groups of single programs get a controller, if the tree has it.
func (p *Pool) enable(controller string) error {
	if p.tree.files.write(filepath.Join(p.path, "cgroup.subtree_control"), "+"+controller) == nil || !p.has(controller) {
		return nil
	}
	return fmt.Errorf("enable the controller %s in cgroup %s", controller, p.path)
}

// has reports whether the pool has a controller.
func (p *Pool) has(controller string) bool {
	_, err := p.tree.files.read(filepath.Join(p.path, controller+".max"))
	return err == nil
}

// limit writes a limit to a group, if that has the file.
func (p *Pool) limit(group, file, value string) error {
	path := filepath.Join(group, file)
	if err := p.tree.files.write(path, value); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("write %s to %s: %w", value, path, err)
	}
	return nil
}

// limitOwn writes the limits of a single program.
func (p *Pool) limitOwn(g *Group) error {
	return errors.Join(
		p.limit(g.path, "memory.max", amount(p.limits.MemoryRequest)),
		p.limit(g.path, "memory.oom.group", "1"), // a program that has lost a part of it is none
		p.limit(g.path, "pids.max", amount(int64(p.limits.Pids))),
	)
}

func amount(n int64) string {
	if n == 0 {
		return "max"
	}
	return strconv.FormatInt(n, 10)
}

// quota is a number of processors as cpu.max has it: microseconds in each tenth of a
// second. The kernel takes no less than a thousand.
func quota(processors float64) string {
	const period, least = 100_000, 1000
	if processors == 0 {
		return fmt.Sprintf("max %d", period)
	}
	return fmt.Sprintf("%d %d", max(int64(math.Round(processors*period)), least), period)
}

// Join returns the group for a program that is about to start, which is to Leave it.
// It is one of its own if own says so or there are limits for a single program. It is nil
// if there are no limits at all and the program would have to be moved, which takes ten
// milliseconds.
func (p *Pool) Join(own bool) (*Group, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !own && p.limits.MemoryRequest == 0 && p.limits.Pids == 0 {
		if l := &p.limits; p.tree.late && l.Memory == 0 && l.CPU == 0 && !l.Required {
			return nil, nil
		}
		return p.shared, nil
	}
	p.last++
	g := &Group{pool: p, path: filepath.Join(p.path, ownPrefix+strconv.Itoa(p.last)), number: p.last}
	if err := p.tree.files.mkdir(g.path); err != nil {
		return nil, fmt.Errorf("make cgroup %s: %w", g.path, err)
	}
	err := p.limitOwn(g)
	if err == nil {
		err = g.open()
	}
	if err != nil {
		p.tree.files.rmdir(g.path)
		return nil, err
	}
	p.own[g.number] = g
	return g, nil
}

// Path is where the group is in the file system.
func (p *Pool) Path() string { return p.path }

// IsRequired reports whether a program must not run without its group.
func (p *Pool) IsRequired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limits.Required
}

// Tell logs, once for all, that a program runs outside of the group.
func (p *Pool) Tell(err error) {
	p.mu.Lock()
	before := p.failed
	p.failed = true
	p.mu.Unlock()
	if !before {
		p.tree.log.Warn("programs run without their cgroup, and its limits", "cgroup", p.path, "error", err, "key", "sandbox.cgroup")
	}
}

// A Usage is what a pool has and may have; -1 is not known, or no limit.
type Usage struct {
	Memory, MemoryMax int64 // bytes
	Pids              int64 // processes and threads
}

// Usage is that of the pool now.
func (p *Pool) Usage() Usage { return usage(p.tree.files, p.path) }

// UsageAt is that of a group which another process has made: everybody may read it.
func UsageAt(path string) Usage { return usage(kernel{}, path) }

func usage(f files, path string) Usage {
	u := Usage{-1, -1, -1}
	for file, value := range map[string]*int64{"memory.current": &u.Memory, "memory.max": &u.MemoryMax, "pids.current": &u.Pids} {
		if n, ok := number(f, filepath.Join(path, file)); ok {
			*value = n
		}
	}
	return u
}

// Close removes the pool's group when the last has gone that programs have left in it.
// None is started there any more.
func (p *Pool) Close() {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed {
		return
	}
	p.shared.close()
	p.tree.mu.Lock()
	delete(p.tree.pools, p.path)
	p.tree.mu.Unlock()
	p.tree.sweeper.remove(p.path)
}
