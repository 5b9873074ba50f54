package privsep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/spawn"
)

// retireTime is how long the pools of the generation before the last one can be started: by
// requests that have begun under it, and have waited since.
const retireTime = time.Minute

// ProgramsOptions are what Programs have for life.
type ProgramsOptions struct {
	Conn    *Conn        // to the daemon; it is closed if that says what it never would
	Spawner *spawn.Local // which should Adopt
	User    uint32       // the daemon's: no program runs as it, or as root
	Group   uint32       // the daemon's: no program has it, as sockets are that group's by default
	Cgroups Cgroups      // nil: there are none
	Log     *slog.Logger // nil logs nothing
}

// Programs are what the spawner starts for the daemon: those of the pools of its tables, each
// as its user, up to its maximum, and nothing else.
type Programs struct {
	opt ProgramsOptions
	wg  sync.WaitGroup // a goroutine for each program

	mu       sync.Mutex // guards the fields below
	current  *generation
	previous *generation // until it is retired
	retire   *time.Timer // of previous
	places   map[string]*places
	running  map[uint64]*running // by handle
	isOver   bool                // there is no daemon any more
}

// A running program is one that was started and was not waited for. Its handle was chosen
// by the daemon, and means nothing but in its messages.
type running struct {
	handle   uint64
	isWorker bool
	pipes    [2]uint64       // inodes of its STDOUT and STDERR
	of       *startable      // nil of what is no script; written by startCGI, as told is
	places   *places         // written by start, as the next two
	identity *spawn.Identity // who it runs as
	sandbox  *spawn.Sandbox

	mu         sync.Mutex // guards the fields below
	state      state
	giveUp     context.CancelCauseFunc // while it starts
	child      *spawn.Child            // nil while it starts
	terminated bool                    // its process group was asked to end
	told       chan []byte             // what the answer to its start tells of its exit; nil: that is an event
}

// A state is how far a running program has come. It never goes back.
type state uint8

// The states of a running program.
const (
	starts state = iota
	runs
	exited
	endsServing // it has exited, and what else has its socket is ended
	reaped
)

// NewPrograms returns those of no pool.
func NewPrograms(o ProgramsOptions) *Programs {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Programs{opt: o, current: new(generation), places: make(map[string]*places), running: make(map[uint64]*running)}
}

// Handle does what a message asks for that is about programs, for hear.
func (p *Programs) Handle(m *Message) (*Message, error) {
	var body []byte
	var err error
	switch m.Kind {
	case KindResolve:
		body, err = p.resolve(m)
	case KindStartCGI:
		body, err = p.startCGI(m)
	case KindStartWorker:
		body, err = p.startWorker(m)
	case KindStartTracer:
		body, err = p.startTracer(m)
	case KindSignal:
		body, err = p.signal(m)
	default:
		err = fmt.Errorf("%w: kind %d is about no program", ErrBroken, m.Kind)
	}
	if errors.Is(err, ErrBroken) {
		p.opt.Log.Error("the daemon says what it never would: it is ended", "error", err)
		p.opt.Conn.Close()
	}
	if err != nil {
		return nil, refusalOf(err)
	}
	return &Message{Body: body}, nil
}

// Kill kills all programs with what they have started, and from now on each that is started.
// Nobody is to ask how they have exited any more.
func (p *Programs) Kill() {
	p.mu.Lock()
	p.isOver = true
	all := slices.Collect(maps.Values(p.running))
	p.mu.Unlock()
	p.opt.Spawner.Kill()
	for _, r := range all {
		p.reap(r, true) // if it has exited
	}
}

// Wait waits until all have exited, after Kill.
func (p *Programs) Wait() { p.wg.Wait() }

func (p *Programs) resolve(m *Message) ([]byte, error) {
	d := decoder{b: m.Body}
	generation, name, params := d.uint(), d.string(), d.string()
	parsed, err := parse(&d, params)
	if err != nil || len(m.FDs) > 0 {
		return nil, fmt.Errorf("%w: %d descriptors, %v", ErrBroken, len(m.FDs), err)
	}
	s, err := p.startable(generation, name)
	if err == nil && s.workers == nil {
		err = errKind
	}
	if err != nil {
		return nil, err
	}
	told, err := s.workers.Resolve(context.Background(), parsed)
	if err != nil {
		return nil, err
	}
	return appendStrings(appendString(nil, told.Append(nil)), s.dropped.take()), nil
}

var errKind = errors.New("the pool has no such programs")

// parse ends a body whose last value are params.
func parse(d *decoder, params string) (*protocol.Params, error) {
	if err := d.end(); err != nil {
		return nil, err
	}
	parsed, err := protocol.ParseParams(params)
	return &parsed, err
}

func (p *Programs) startCGI(m *Message) ([]byte, error) {
	d := decoder{b: m.Body}
	handle, generation, name := d.uint(), d.uint(), d.string()
	isFed, id, params := d.uint(), protocol.KnownID(d.string()), d.string()
	r := &running{handle: handle}
	parsed, err := parse(&d, params)
	if err == nil && isFed > 1 {
		err = fmt.Errorf("%d is no flag", isFed)
	}
	if err == nil {
		r.pipes, err = checkFiles(m.FDs, unix.S_IFIFO, unix.S_IFREG, unix.S_IFCHR)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBroken, err)
	}
	s, err := p.startable(generation, name)
	if err == nil && s.scripts == nil {
		err = errKind
	}
	if err != nil {
		return nil, err
	}
	cmd, script, err := s.scripts.Command(parsed, &id)
	if err != nil {
		return nil, err
	}
	if isFed == 0 && s.quick.isThere() {
		r.told = make(chan []byte, 1)
	}
	r.of = s
	pid, err := p.start(s.places, r, &cmd, m.FDs)
	m.Close() // who reads the program's output is to see its end
	if err != nil {
		return nil, err
	}
	answer := appendUint(nil, pid)
	if r.told != nil {
		answer = appendString(answer, r.awaitExit())
	} else {
		answer = appendString(answer, "")
	}
	return appendStrings(appendString(answer, script), s.dropped.take()), nil
}

func (p *Programs) startWorker(m *Message) ([]byte, error) {
	d := decoder{b: m.Body}
	handle, generation, name := d.uint(), d.uint(), d.string()
	r := &running{handle: handle, isWorker: true}
	err := d.end()
	if err == nil {
		r.pipes, err = checkFiles(m.FDs, unix.S_IFSOCK)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrBroken, err)
	}
	s, err := p.startable(generation, name)
	if err == nil && s.workers == nil {
		err = errKind
	}
	if err != nil {
		return nil, err
	}
	cmd, err := s.workers.Command()
	if err != nil {
		return nil, err
	}
	cmd.Socket = m.FDs[0]
	pid, err := p.start(s.places, r, &cmd, m.FDs)
	return appendUint(nil, pid), err
}

// checkFiles reports whether descriptors can be those of a program: the first is of one of
// the types, the others are pipes, which it returns the inodes of.
func checkFiles(fds []int, types ...uint32) (pipes [2]uint64, err error) {
	if len(fds) != 3 {
		return pipes, fmt.Errorf("%d descriptors came for a program", len(fds))
	}
	for i, fd := range fds {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return pipes, fmt.Errorf("descriptor %d: %w", i, err)
		}
		if i > 0 {
			types, pipes[i-1] = []uint32{unix.S_IFIFO}, st.Ino
		}
		if !slices.Contains(types, st.Mode&unix.S_IFMT) {
			return pipes, fmt.Errorf("descriptor %d has mode %o", i, st.Mode)
		}
	}
	return pipes, nil
}

var errBarred = errors.New("it would run as root, as the daemon's user or in the daemon's group")

// isBarred reports whether no program may run so.
func (p *Programs) isBarred(uid, gid uint32, groups []uint32) bool {
	return uid == 0 || uid == p.opt.User || gid == p.opt.Group || slices.Contains(groups, p.opt.Group)
}

// start starts a program when there is a place for it.
func (p *Programs) start(in *places, r *running, cmd *spawn.Command, fds []int) (pid uint64, err error) {
	if id := cmd.Identity; id == nil || p.isBarred(id.UID, id.GID, id.Groups) {
		return 0, &protocol.Refusal{HTTPStatus: 403, AppStatus: 403, Reason: errBarred}
	}
	if err := in.take(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	r.places, r.identity, r.sandbox, r.giveUp = in, cmd.Identity, cmd.Sandbox, cancel
	if err := p.add(r); err != nil {
		in.release()
		return 0, err
	}
	child, err := p.opt.Spawner.Execute(ctx, cmd, [3]int(fds), r.pipes)
	if err != nil {
		p.remove(r)
		if r.isWorker {
			return 0, err
		}
		return 0, process.CannotStart(err)
	}
	r.mu.Lock()
	r.state, r.child = runs, child
	isGivenUp := ctx.Err() != nil
	r.mu.Unlock()
	if isGivenUp { // too late to keep it from being executed
		child.Kill()
	}
	p.wg.Go(func() { p.attend(r, child) })
	return uint64(child.PID), nil
}

func (p *Programs) add(r *running) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running[r.handle] != nil {
		return fmt.Errorf("%w: handle %d is another program's", ErrBroken, r.handle)
	}
	p.running[r.handle] = r
	return nil
}

func (p *Programs) remove(r *running) {
	p.mu.Lock()
	delete(p.running, r.handle)
	p.mu.Unlock()
	r.places.release()
}

// attend tells of a program's exit. One of which nothing more is wanted then, as it was left
// alone, is reaped before.
func (p *Programs) attend(r *running, child *spawn.Child) {
	began := time.Now()
	isGivenUp := !child.AwaitExit()
	if r.of != nil && !r.of.quick.isThere() && time.Since(began) < quickly {
		r.of.quick.wasQuick(false)
	}
	r.mu.Lock()
	isReaped := !isGivenUp && !r.isWorker && !r.terminated
	r.state = exited
	if isReaped {
		r.state = reaped
	}
	r.mu.Unlock()
	event := exit{handle: r.handle, isGivenUp: isGivenUp, isReaped: isReaped}
	if isReaped {
		event.Exit, event.err = child.Reap(false)
		p.remove(r)
	}
	p.mu.Lock()
	isOver := p.isOver
	p.mu.Unlock()
	if isOver {
		p.reap(r, true) // unless that was done
		return
	}
	if body := event.append(nil); !r.tellBy(body) {
		p.opt.Conn.Send(&Message{Kind: KindExited, Body: body}) // if nobody is there, all ends
	}
}

// What KindSignal asks for beside the targets of spawn.
const (
	orderEndServing = iota + 100
	orderReap
	orderUsage
)

// signal signals a program, waits for it, or looks what it uses. A handle that nobody has is of one that has
// exited meanwhile.
func (p *Programs) signal(m *Message) ([]byte, error) {
	d := decoder{b: m.Body}
	handle, order, argument, grace := d.uint(), d.uint(), d.uint(), time.Duration(d.uint())
	signal := unix.Signal(argument)
	if err := d.end(); err != nil || len(m.FDs) > 0 || argument > 64 || grace < 0 || grace > maxGrace {
		return nil, fmt.Errorf("%w: a signal with %d descriptors, %v", ErrBroken, len(m.FDs), err)
	}
	isTarget := order < orderEndServing && spawn.Target(order).IsValid(signal)
	if !isTarget && (order < orderEndServing || order > orderUsage) {
		return nil, fmt.Errorf("%w: signal %d for target %d", ErrBroken, signal, order)
	}
	p.mu.Lock()
	r := p.running[handle]
	p.mu.Unlock()
	if r == nil {
		return nil, nil
	}
	switch order {
	case orderReap:
		return p.reap(r, argument == 1)
	case orderEndServing:
		r.endServing(signal, grace)
	case orderUsage:
		return r.usage(), nil
	default:
		r.signal(signal, spawn.Target(order))
	}
	return nil, nil
}

// maxGrace is far longer than a program may take.
const maxGrace = 24 * time.Hour

var errGivenUp = errors.New("its start was given up")

func (r *running) signal(s unix.Signal, to spawn.Target) {
	r.mu.Lock()
	if r.state == starts && to == spawn.ToTree {
		r.giveUp(errGivenUp) // which waits for nothing
	}
	child, isThere := r.child, r.state != starts && r.state != reaped
	if r.state == runs && to == spawn.ToGroup {
		r.terminated = true
	}
	r.mu.Unlock()
	if isThere {
		child.Signal(s, to)
	}
}

// usage is what a program uses that runs: its CPU time and memory.
func (r *running) usage() []byte {
	r.mu.Lock()
	child, isThere := r.child, r.state == runs
	r.mu.Unlock()
	if !isThere {
		return nil
	}
	cpu, rss := spawn.Usage(child.PID)
	return appendUint(appendUint(nil, uint64(cpu)), uint64(rss))
}

// endServing is done once for a program that has exited.
func (r *running) endServing(s unix.Signal, grace time.Duration) {
	r.mu.Lock()
	is := r.state == exited
	if is {
		r.state = endsServing
	}
	r.mu.Unlock()
	if is {
		r.child.EndServing(s, grace)
	}
}

// reap answers how a program has exited, and forgets it.
func (p *Programs) reap(r *running, terminated bool) ([]byte, error) {
	r.mu.Lock()
	is := r.state == exited || r.state == endsServing
	if is {
		r.state = reaped
	}
	r.mu.Unlock()
	if !is {
		return nil, errors.New("the program has not exited")
	}
	if terminated {
		r.child.Kill() // what is left of its tree
	}
	event := exit{handle: r.handle, isReaped: true}
	event.Exit, event.err = r.child.Reap(terminated)
	p.remove(r)
	return event.append(nil), nil
}

// startable is the pool of that name in a generation. One that is not known any more, and 0,
// count as the current one: its pool is as it was.
func (p *Programs) startable(number uint64, name string) (*startable, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.current
	switch {
	case number > g.number:
		return nil, fmt.Errorf("there is no generation %d", number)
	case number > 0 && p.previous != nil && number == p.previous.number:
		g = p.previous
	}
	if s := g.pools[name]; s != nil {
		return s, nil
	}
	return nil, &protocol.Refusal{HTTPStatus: 503, AppStatus: 503, Reason: fmt.Errorf("there is no pool %.100q any more", name)}
}
