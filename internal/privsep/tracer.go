package privsep

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/spawn"
)

// startTracer starts slow.command of a pool for a program of that pool, as who that runs as and
// in its sandbox: it may do what the pool's programs can do to one another, and no more.
func (p *Programs) startTracer(m *Message) ([]byte, error) {
	d := decoder{b: m.Body}
	handle, generation, name, of := d.uint(), d.uint(), d.string(), d.uint()
	r := &running{handle: handle}
	err := d.end()
	if err == nil {
		r.pipes, err = checkFiles(m.FDs, unix.S_IFCHR)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBroken, err)
	}
	s, err := p.startable(generation, name)
	if err == nil && len(s.tracer) == 0 {
		err = errKind
	}
	if err != nil {
		return nil, err
	}
	cmd, err := p.tracerOf(s, of)
	if err != nil {
		return nil, err
	}
	pid, err := p.start(s.tracers, r, cmd, m.FDs)
	return appendUint(nil, pid), err
}

func (p *Programs) tracerOf(s *startable, handle uint64) (*spawn.Command, error) {
	p.mu.Lock()
	r := p.running[handle]
	p.mu.Unlock()
	if r == nil || r.places != s.places {
		return nil, errors.New("the pool has no such program any more")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != runs {
		return nil, errors.New("the program does not run")
	}
	cmd := launch.SlowCommand(s.tracer, r.child.PID)
	cmd.Identity, cmd.Sandbox, cmd.Cgroup = r.identity, r.sandbox, s.group
	return cmd, nil
}
