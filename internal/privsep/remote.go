package privsep

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A Remote is the daemon's side of Programs: it has the spawner start what pools run.
type Remote struct {
	client  *Client
	givenUp sync.WaitGroup // starts that nobody waits for any more

	mu         sync.Mutex // guards the fields below
	generation uint64
	cgroups    map[string]string // by pool: where it is
	last       uint64            // handle
	programs   map[uint64]*remoteProgram
	gone       bool
	killed     bool
}

// NewRemote returns one that takes the events of a client, whose Run is to be called later.
func NewRemote(client *Client) *Remote {
	r := &Remote{client: client, programs: make(map[uint64]*remoteProgram)}
	client.Event = r.event
	return r
}

// SetGeneration says under which one launchers start programs that are made from now on.
func (r *Remote) SetGeneration(number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.generation = number
}

// setCgroups says where those of pools are: name and path, one after the other.
func (r *Remote) setCgroups(list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cgroups = make(map[string]string)
	for ; len(list) >= 2; list = list[2:] {
		r.cgroups[list[0]] = list[1]
	}
}

// Cgroup is that of pool.Launchers.
func (r *Remote) Cgroup(pool string) (path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cgroups[pool]
}

// Gone is called when the spawner has gone: all programs are lost.
func (r *Remote) Gone() {
	defer r.givenUp.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = true
	for handle, p := range r.programs {
		delete(r.programs, handle)
		p.end(exit{isGivenUp: true})
	}
}

// event takes what the spawner says unasked: that a program has exited.
func (r *Remote) event(m *Message) {
	defer m.Close()
	if m.Kind == KindExited {
		r.exited(m.Body)
	}
}

// Kill kills every program with its tree, at once, and from now on every one that is started.
func (r *Remote) Kill() {
	r.mu.Lock()
	r.killed = true
	var all []*remoteProgram
	for _, p := range r.programs {
		all = append(all, p)
	}
	r.mu.Unlock()
	for _, p := range all {
		p.Signal(unix.SIGKILL, spawn.ToTree)
	}
}

func (r *Remote) isKilled() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.killed
}

func (r *Remote) add() *remoteProgram {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	p := &remoteProgram{client: r.client, handle: r.last, exited: make(chan struct{})}
	if r.gone {
		p.end(exit{isGivenUp: true})
		return p
	}
	r.programs[p.handle] = p
	return p
}

func (r *Remote) forget(p *remoteProgram) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.programs, p.handle)
}

// Scripts starts the scripts of a pool. dropped is told of params that are kept from them.
func (r *Remote) Scripts(pool string, dropped func(name, why string)) process.Launcher {
	return r.pool(pool, dropped).scripts()
}

// Workers starts the workers of a pool, likewise.
func (r *Remote) Workers(pool string, dropped func(name, why string)) worker.Launcher {
	return r.pool(pool, dropped).workers()
}

func (r *Remote) pool(name string, dropped func(name, why string)) *remotePool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if dropped == nil {
		dropped = func(string, string) {}
	}
	return &remotePool{Remote: r, name: name, number: r.generation, dropped: dropped}
}

// A remotePool is a pool of one generation.
type remotePool struct {
	*Remote
	name    string
	number  uint64
	dropped func(name, why string)
}

type (
	remoteScripts struct{ *remotePool }
	remoteWorkers struct{ *remotePool }
)

func (p *remotePool) scripts() process.Launcher { return remoteScripts{p} }
func (p *remotePool) workers() worker.Launcher  { return remoteWorkers{p} }

// Launch is that of process.Launcher.
func (p remoteScripts) Launch(ctx context.Context, req *protocol.Request, io spawn.IO) (*spawn.Process, string, error) {
	if ctx.Err() != nil {
		return nil, "", context.Cause(ctx)
	}
	proc, answer, err := p.start(ctx, KindStartCGI, &io, func(b []byte) []byte {
		b = appendUint(b, flags(io.IsFed()))
		return appendString(appendString(b, req.ID.String()), req.Params.Append(nil))
	})
	if err != nil {
		if ref := (*protocol.Refusal)(nil); ctx.Err() == nil && !errors.As(err, &ref) {
			err = &protocol.Refusal{HTTPStatus: 502, AppStatus: 500, Reason: err}
		}
		return nil, "", err
	}
	script := answer.string()
	p.tell(answer.strings())
	return proc, script, nil
}

// Launch is that of worker.Launcher.
func (p remoteWorkers) Launch(ctx context.Context, socket int) (*spawn.Process, error) {
	proc, _, err := p.start(ctx, KindStartWorker, &spawn.IO{Socket: socket}, func(b []byte) []byte { return b })
	return proc, err
}

// Resolve is that of worker.Launcher.
func (p remoteWorkers) Resolve(ctx context.Context, params *protocol.Params) (*protocol.Params, error) {
	body := appendString(appendUint(nil, p.number), p.name)
	m, err := p.client.Ask(ctx, KindResolve, appendString(body, params.Append(nil)))
	if err != nil {
		return nil, errorOf(err)
	}
	defer m.Close()
	d := decoder{b: m.Body}
	text := d.string()
	p.tell(d.strings())
	told, err := protocol.ParseParams(text)
	return &told, errors.Join(err, d.end())
}

// Usage is that of worker.Launcher. Where this process does not see those of other users
// (hidepid, which is systemd's ProtectProc=), the spawner looks.
func (p remoteWorkers) Usage(pid int) (cpu time.Duration, rss int64) {
	if cpu, rss = spawn.Usage(pid); rss > 0 {
		return cpu, rss
	}
	return p.askUsage(pid)
}

func (r *Remote) askUsage(pid int) (cpu time.Duration, rss int64) {
	handle, ok := r.handleOf(pid)
	if !ok {
		return 0, 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), usageTime)
	defer cancel()
	program := remoteProgram{client: r.client, handle: handle}
	m, err := r.client.Ask(ctx, KindSignal, program.order(orderUsage, 0, 0))
	if err != nil {
		return 0, 0
	}
	defer m.Close()
	d := decoder{b: m.Body}
	cpu, rss = time.Duration(d.uint()), int64(d.uint())
	if d.end() != nil { // it has exited
		return 0, 0
	}
	return cpu, rss
}

// usageTime is far longer than the spawner takes to look, but when it is stopped: nobody is to
// wait for that.
const usageTime = time.Second

// tell tells of params that were dropped.
func (p *remotePool) tell(dropped []string) {
	for ; len(dropped) >= 2; dropped = dropped[2:] {
		p.dropped(dropped[0], dropped[1])
	}
}

// Trace is that of pool.Launchers. The command is that of the configuration in force.
func (r *Remote) Trace(ctx context.Context, pool string, pid int, out io.Writer) error {
	of, ok := r.handleOf(pid)
	if !ok {
		return errors.New("the program has exited")
	}
	p := &remotePool{Remote: r, name: pool}
	proc, _, err := p.start(ctx, KindStartTracer, new(spawn.IO), func(b []byte) []byte { return appendUint(b, of) })
	if err != nil {
		return err
	}
	return proc.Attend(ctx, "slow.command", out)
}

func (r *Remote) handleOf(pid int) (handle uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for handle, p := range r.programs {
		if p.pid == pid {
			return handle, true
		}
	}
	return 0, false
}

// start has a program started. When ctx ends before, it has failed for its cause. What is left of the
// answer is the caller's.
func (p *remotePool) start(ctx context.Context, kind Kind, io *spawn.IO, more func([]byte) []byte) (proc *spawn.Process, answer *decoder, err error) {
	var fds spawn.Pipes
	defer fds.CloseTheirs()
	if err = fds.Open(io); err == nil {
		err = fds.Share(io)
	}
	if err != nil {
		fds.Close()
		return nil, nil, err
	}
	program := p.add()
	body := appendString(appendUint(appendUint(nil, program.handle), p.number), p.name)
	theirs := fds.Theirs()
	var m *Message
	q, err := p.client.pose(ctx, kind, more(body), theirs[:]...)
	if err == nil {
		m, err = q.await(ctx)
	}
	switch refusal := (*Refusal)(nil); {
	case err == nil:
	case q != nil && ctx.Err() != nil && !errors.As(err, &refusal): // no answer has come
		p.abandon(kind, q, program)
		fds.Close()
		return nil, nil, context.Cause(ctx)
	default:
		fds.Close()
		p.forget(program)
		return nil, nil, errorOf(err)
	}
	m.Close()
	if p.isKilled() {
		program.Signal(unix.SIGKILL, spawn.ToTree)
	}
	fds.CloseTheirs() // or the end of its output is not seen
	pid, answer := p.started(kind, program, m)
	return fds.Process(pid, program), answer, nil
}

// started takes what the answer to a program's start tells of it. What is left of that is the
// caller's.
func (r *Remote) started(kind Kind, p *remoteProgram, m *Message) (pid int, answer *decoder) {
	answer = &decoder{b: m.Body}
	pid = int(answer.uint())
	r.mu.Lock()
	p.pid = pid
	r.mu.Unlock()
	if kind == KindStartCGI {
		r.exited(answer.bytes())
	}
	return pid, answer
}

// exited takes what is told of a program's exit, if something is.
func (r *Remote) exited(body []byte) {
	e, err := parseExit(body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.programs[e.handle]; p != nil {
		delete(r.programs, e.handle)
		p.end(e)
	}
}

// abandon ends a program in the background, whose start nobody waits for any more.
func (r *Remote) abandon(kind Kind, q *question, program *remoteProgram) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.gone {
		r.givenUp.Go(func() { r.endStarting(kind, q, program) })
	}
}

const killAgainAfter = time.Second

// endStarting ends it also if its start hangs, and whatever comes of that.
func (r *Remote) endStarting(kind Kind, q *question, program *remoteProgram) {
	for {
		program.Signal(unix.SIGKILL, spawn.ToTree) // which comes too early where the spawner has not begun
		ctx, cancel := context.WithTimeout(context.Background(), killAgainAfter)
		m, err := q.await(ctx)
		cancel()
		switch {
		case err == nil:
			m.Close()
			r.started(kind, program, m)
			program.Signal(unix.SIGKILL, spawn.ToTree)
			program.Reap(true)
			return
		case !errors.Is(err, context.DeadlineExceeded):
			r.forget(program)
			return
		}
	}
}

// A remoteProgram is a spawn.Program that the spawner has started.
type remoteProgram struct {
	client *Client
	handle uint64
	exited chan struct{} // closed by end
	exit   exit          // written by end
	pid    int           // guarded by Remote.mu; 0 until it is started
}

// end is called once.
func (p *remoteProgram) end(e exit) {
	p.exit = e
	close(p.exited)
}

// HasExited is that of spawn.Program.
func (p *remoteProgram) HasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// exitTime is far longer than a program that has closed its output takes to exit, and the
// spawner to say so, where nothing is wrong.
const exitTime = 5 * time.Millisecond

// timers are stopped.
var timers = sync.Pool{New: func() any { t := time.NewTimer(time.Hour); t.Stop(); return t }}

// ExpectExit is that of spawn.Program.
func (p *remoteProgram) ExpectExit() bool {
	if p.HasExited() {
		return true
	}
	late := timers.Get().(*time.Timer)
	defer timers.Put(late)
	late.Reset(exitTime)
	defer late.Stop()
	select {
	case <-p.exited:
		return true
	case <-late.C:
		return false
	}
}

// TryReap is that of spawn.Program. Of one that the spawner has not reaped at its exit the status
// is to be asked for.
func (p *remoteProgram) TryReap() (*spawn.Exit, bool, error) {
	if !p.HasExited() || !p.exit.isReaped {
		return nil, false, nil
	}
	e, err := p.exit.result(false)
	return e, true, err
}

// AwaitExit is that of spawn.Program.
func (p *remoteProgram) AwaitExit() bool {
	<-p.exited
	return !p.exit.isGivenUp
}

// Signal is that of spawn.Program.
func (p *remoteProgram) Signal(s unix.Signal, to spawn.Target) {
	p.client.Tell(KindSignal, p.order(uint64(to), uint64(s), 0)) // if nobody is there, it ends as well
}

// EndServing is that of spawn.Program.
func (p *remoteProgram) EndServing(ask unix.Signal, grace time.Duration) {
	p.client.Ask(context.Background(), KindSignal, p.order(orderEndServing, uint64(ask), min(grace, maxGrace)))
}

// Reap is that of spawn.Program.
func (p *remoteProgram) Reap(terminated bool) (*spawn.Exit, error) {
	if <-p.exited; p.exit.isReaped {
		return p.exit.result(terminated)
	}
	var argument uint64
	if terminated {
		argument = 1
	}
	m, err := p.client.Ask(context.Background(), KindSignal, p.order(orderReap, argument, 0))
	if err != nil {
		return (&exit{isGivenUp: true}).result(terminated)
	}
	defer m.Close()
	e, err := parseExit(m.Body)
	if err != nil {
		return (&exit{isGivenUp: true}).result(terminated)
	}
	return e.result(terminated)
}

func (p *remoteProgram) order(order, argument uint64, grace time.Duration) []byte {
	return appendUint(appendUint(appendUint(appendUint(nil, p.handle), order), argument), uint64(grace))
}

var _ spawn.Program = (*remoteProgram)(nil)
