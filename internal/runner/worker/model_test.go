package worker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A model is a Pool of processes that exist here only, with requests and reloads that
// chance decides on.
type model struct {
	*Pool
	t *testing.T

	mu     sync.Mutex // guards the field below, and rand
	faulty bool       // processes fail and die
	rand   *rand.Rand
}

// chance is true n times of 100.
func (m *model) chance(n int) bool { return m.below(100) < n }

func (m *model) below(n int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rand.IntN(n)
}

func (m *model) isFaulty(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.faulty && m.rand.IntN(100) < n
}

func (m *model) setFaulty(is bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faulty = is
}

func pick[T any](m *model, of ...T) T { return of[m.below(len(of))] }

// options are any that a configuration can have. One program of four does not run.
func (m *model) options(programs int) Options {
	maximum := 1 + m.below(4)
	o := Options{
		Scale: pick(m, ScaleStatic, ScaleDynamic, ScaleOnDemand), Dispatch: pick(m, DispatchLIFO, DispatchFIFO),
		Max: maximum, Min: m.below(maximum + 1), MinSpare: m.below(3), MaxSpare: m.below(4), Concurrency: 1 + m.below(3),
		SpawnRate: pick(m, 1, 4, 32), IdleTimeout: pick(m, 0, 50*time.Millisecond, 2*time.Second),
		MaxLifetime: pick(m, 0, 0, time.Second, 5*time.Second), MaxRequests: pick(m, 0, 0, 1, 2, 20),
		MaxMemory: pick[int64](m, 0, 0, 1, 1<<40), StartTimeout: 2 * time.Second,
		Env: []string{fmt.Sprint("P=", m.below(programs))},
	}
	if m.chance(20) {
		o.WarmUp = []string{"DO=warm-up"}
	}
	return o
}

const brokenProgram = 3

// launch starts a process, or does not.
func (m *model) launch(p *program, id int) (process, error) {
	time.Sleep(time.Duration(m.below(200)) * time.Millisecond)
	broken := slices.Contains(p.env, fmt.Sprint("P=", brokenProgram))
	if broken && m.chance(50) || m.isFaulty(10) {
		return nil, errors.New("no such program")
	}
	f := &modelProcess{model: m, program: p, broken: broken, fakeProcess: newFake(id)}
	f.exit.Status = 1 << 8
	switch {
	case broken:
		time.AfterFunc(time.Duration(m.below(int(trialTime/time.Millisecond)))*time.Millisecond, f.die)
	case m.isFaulty(10):
		time.AfterFunc(time.Duration(m.below(5000))*time.Millisecond, f.die)
	}
	return f, nil
}

// A modelProcess answers with its program. When it dies, its connections do.
type modelProcess struct {
	*fakeProcess
	model   *model
	program *program
	broken  bool
}

func (f *modelProcess) connect(context.Context) (net.Conn, error) {
	select {
	case <-f.ended:
		return nil, errClosed
	default:
	}
	ours, theirs := net.Pipe()
	go f.answer(theirs)
	go func() {
		<-f.ended
		theirs.Close()
	}()
	return ours, nil
}

func (f *modelProcess) end(grace time.Duration) {
	time.AfterFunc(time.Duration(f.model.below(300))*time.Millisecond, f.die)
}

func (f *modelProcess) answer(conn net.Conn) {
	defer conn.Close()
	m, r := f.model, protocol.NewReader(conn)
	for {
		rec, err := r.Next()
		if err != nil {
			return
		}
		if rec.Type != protocol.TypeStdin || len(rec.Content) > 0 || f.broken {
			continue
		}
		time.Sleep(time.Duration(m.below(300)) * time.Millisecond)
		switch {
		case m.isFaulty(5):
			f.die()
			return
		case m.isFaulty(2):
			continue // hangs
		}
		out := protocol.AppendRecord(nil, protocol.TypeStdout, rec.ID, []byte("Content-Type: text/plain\r\n\r\n"+strings.Join(f.program.env, " ")))
		if _, err := conn.Write(protocol.AppendEnd(out, rec.ID, protocol.End{})); err != nil {
			return
		}
	}
}

// ask sends a request, which ends in time, and returns the answer.
func (m *model) ask(method string) (string, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var out strings.Builder
	req := &protocol.Request{Stdout: &out, QueueDeadline: time.Now().Add(10 * time.Second)}
	req.Params.Add("REQUEST_METHOD", method)
	req.Running = func() {
		timer := time.AfterFunc(3*time.Second, func() { cancel(protocol.ErrTimeout) })
		context.AfterFunc(ctx, func() { timer.Stop() })
	}
	if m.isFaulty(5) {
		time.AfterFunc(100*time.Millisecond, func() { cancel(errors.New("client has left")) })
	}
	began := time.Now()
	_, err := m.Run(ctx, req)
	if took := time.Since(began); took > 20*time.Second {
		m.t.Errorf("a request took %v: %v", took, err)
	}
	return out.String(), err
}

// work sends requests until stop is closed.
func (m *model) work(stop chan struct{}) {
	pause := pick(m, 20, 100, 1000)
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(m.below(pause)) * time.Millisecond):
			m.ask(pick(m, "GET", "POST"))
			m.check()
		}
	}
}

// check looks whether the numbers are within their bounds, and are right.
func (m *model) check() {
	m.t.Helper()
	m.Pool.mu.Lock()
	defer m.unlock()
	p := m.Pool
	var counted ranks
	for _, w := range p.all {
		counted.tally(w, 1)
	}
	r := p.ranks
	r.count[stateGone] = 0 // they are in no list
	if counted.count != r.count || counted.fresh != r.fresh || counted.tired != r.tired || counted.outdated != r.outdated {
		m.t.Errorf("ranks are %+v, want %+v", r, counted)
	}
	if got, want := p.freeLocked(), m.bestLocked(); got != want {
		m.t.Errorf("the next request goes to %+v, and not to %+v", got, want)
	}
	if p.phase != phaseRunning {
		return
	}
	if p.ranks.serving() > p.maxLocked() || p.size > p.opt.Max {
		m.t.Errorf("%+v serve, of %d to be, of at most %d", p.ranks, p.size, p.opt.Max)
	}
}

// bestLocked is the worker that is preferred to all others for the next request.
func (m *model) bestLocked() (best *worker) {
	for _, w := range m.all {
		if w.isFree() && (best == nil || m.isBetter(w, best)) {
			best = w
		}
	}
	return best
}

func (m *model) isBetter(a, b *worker) bool {
	if a.preference() != b.preference() {
		return a.preference() < b.preference()
	}
	fifo := m.Pool.opt.Dispatch == DispatchFIFO
	if a.inFlight != b.inFlight {
		return (a.inFlight < b.inFlight) == fifo
	}
	return (a.used < b.used) == fifo
}

// awaitGood waits until all is as the last options say.
func (m *model) awaitGood(o *Options) {
	isGood := func(s Snapshot) bool {
		healthy := !s.Degraded || len(s.Workers) == 0 && m.Pool.opt.Min == 0 // nobody has tried
		enough := s.Idle >= m.Pool.opt.Min || o.MaxLifetime == time.Second   // as fast as they are started
		return healthy && s.Outdated == 0 && s.Waiting == 0 && enough
	}
	for range 40 {
		time.Sleep(time.Second)
		if m.check(); isGood(m.snapshot()) {
			break
		}
	}
	if s := m.snapshot(); !isGood(s) {
		m.t.Errorf("with %+v: %+v", o, s)
	}
	if got, err := m.ask("POST"); err != nil || !strings.Contains(got, o.Env[0]) {
		m.t.Errorf("with %+v: %q, %v; %+v", o, got, err, m.snapshot())
	}
	m.Pool.mu.Lock()
	defer m.unlock()
	for _, w := range m.all {
		if w.serves() && (w.softMax > 0) != (o.MaxRequests > 0) || w.maxMemory != o.MaxMemory || w.expires.IsZero() != (o.MaxLifetime == 0) {
			m.t.Errorf("with %+v: a worker has other limits", o)
		}
	}
}

// run makes some reloads, good or bad, under load, and looks what has become of them.
func (m *model) run() {
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range m.below(8) {
		clients.Go(func() { m.work(stop) })
	}
	for range 1 + m.below(6) {
		time.Sleep(pick(m, 0, 10*time.Millisecond, 500*time.Millisecond, 2*time.Second, 5*time.Second))
		m.Update(m.options(brokenProgram + 1))
		m.check()
	}
	m.setFaulty(false)
	o := m.options(brokenProgram)
	m.Update(o)
	m.check()
	time.Sleep(5 * time.Second)
	close(stop)
	clients.Wait()
	m.awaitGood(&o)
	if m.chance(30) {
		m.runBroken()
	}
}

// runBroken goes over to a program that does not run: the old workers stay, and the
// status says why.
func (m *model) runBroken() {
	o := m.options(brokenProgram)
	o.Scale, o.Min = ScaleDynamic, max(1, o.Min)
	m.Update(o)
	m.awaitGood(&o)
	good := o.Env[0]
	o.Env = []string{fmt.Sprint("P=", brokenProgram)}
	m.Update(o)
	if m.snapshot().Outdated == 0 {
		return // the last one has just left, and there is no token for another
	}
	for range 10 {
		if time.Sleep(time.Second); m.t.Failed() {
			return
		}
		m.check()
		if got, err := m.ask("GET"); err != nil || !strings.Contains(got, good) {
			m.t.Errorf("with %+v, which cannot be started: %q, %v; %+v", o, got, err, m.snapshot())
		}
	}
	if s := m.snapshot(); !s.Degraded || s.Why == "" || s.Outdated == 0 {
		m.t.Errorf("with %+v, which cannot be started: %+v", o, s)
	}
}

// Whatever reloads there were, a moment after the last one all workers are of the last
// configuration, or the status says that they cannot be started; and no request waits
// for ever.
func TestReloadsConverge(t *testing.T) {
	for seed := range uint64(1000) {
		synctest.Test(t, func(t *testing.T) {
			m := &model{t: t, faulty: true, rand: rand.New(rand.NewPCG(seed, 0))}
			m.Pool = New(m.options(brokenProgram + 1))
			m.Pool.runDir = t.TempDir()
			m.Pool.launch, m.Pool.measure = m.launch, func(int) (time.Duration, int64) { return 0, 1 << 20 }
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() { ended <- m.Supervise(ctx) }()
			m.run()
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second) // what the processes do ends
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}
