package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A gate is a program that runs until it is let go, and notes who began.
type gate struct {
	mu      sync.Mutex
	began   []string
	running atomic.Int64
	most    atomic.Int64
	leave   chan struct{}
}

func (g *gate) run(ctx context.Context, req *protocol.Request) (uint32, error) {
	g.mu.Lock()
	g.began = append(g.began, req.Params.Get("N"))
	g.mu.Unlock()
	n := g.running.Add(1)
	defer g.running.Add(-1)
	for most := g.most.Load(); n > most && !g.most.CompareAndSwap(most, n); most = g.most.Load() {
	}
	select {
	case <-g.leave:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	return hello(ctx, req)
}

// want checks who has begun so far.
func (g *gate) want(t *testing.T, names ...string) {
	t.Helper()
	synctest.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.began, names) {
		t.Fatalf("began: %v, want %v", g.began, names)
	}
}

func startGate(t *testing.T, maxReqs, queue int) (*gate, *testServer, Settings) {
	g := &gate{leave: make(chan struct{})}
	settings := testSettings(g.run)
	settings.Limits.MaxReqs, settings.Limits.Queue = maxReqs, queue
	return g, serve(t, settings), settings
}

var overloaded = protocol.End{AppStatus: 503, Status: protocol.StatusOverloaded}

// ask sends one request and waits until it is where it can get to.
func ask(p *peer, id uint16, name string) {
	p.send(get(id, true, "N", name))
	synctest.Wait()
}

func TestQueueIsFirstInFirstOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, s, _ := startGate(t, 1, 3)
		p := s.dial()
		for i, name := range []string{"a", "b", "c", "d", "e"} {
			ask(p, uint16(i+1), name)
			time.Sleep(time.Second)
		}
		p.wantOwn(5, 503, overloaded)
		s.want(Overloaded, 503, overloaded)
		if got := s.Snapshot(); got.InFlight != 1 || got.Queued != 3 {
			t.Errorf("snapshot is %+v", got)
		}
		for i := range 4 {
			g.want(t, []string{"a", "b", "c", "d"}[:i+1]...)
			g.leave <- struct{}{}
			p.wantAnswer(uint16(i+1), helloAnswer, 0)
			if r := s.want(OK, 200, complete(0)); r.Queue != time.Duration(map[bool]int{true: 5 - i}[i > 0])*time.Second || i > 0 && r.Run != 0 {
				t.Errorf("%d has waited %v and run %v", i, r.Queue, r.Run)
			}
		}
		if got := s.Snapshot(); got.InFlight != 0 || got.Queued != 0 {
			t.Errorf("snapshot is %+v", got)
		}
	})
}

func TestNoQueue(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, s, _ := startGate(t, 1, 0)
		p := s.dial()
		ask(p, 1, "a")
		ask(p, 2, "b")
		p.wantOwn(2, 503, overloaded)
		g.leave <- struct{}{}
		p.wantAnswer(1, helloAnswer, 0)
		ask(p, 2, "c")
		g.leave <- struct{}{}
		p.wantAnswer(2, helloAnswer, 0)
		g.want(t, "a", "c")
	})
}

func TestNoMaxReqs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, s, _ := startGate(t, 0, 0)
		p := s.dial()
		for id := range uint16(100) {
			ask(p, id+1, "x")
		}
		if got := g.running.Load(); got != 100 {
			t.Errorf("%d run", got)
		}
		close(g.leave)
		for id := range uint16(100) {
			p.wantAnswer(id+1, helloAnswer, 0)
		}
	})
}

func TestQueueTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, s, _ := startGate(t, 1, 5)
		p := s.dial()
		ask(p, 1, "a")
		ask(p, 2, "b")
		began := time.Now()
		p.wantOwn(2, 503, overloaded)
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("waited %v", took)
		}
		if r := s.want(Overloaded, 503, overloaded); r.Run != 0 || r.Queue != 10*time.Second {
			t.Errorf("result is %+v", r)
		} else if want := "waited in the queue for longer than queue_timeout: the only place has been taken (limits.max_reqs) for 10s"; r.Reason.Error() != want {
			t.Errorf("reason is %v", r.Reason)
		}
		ask(p, 2, "c")
		g.leave <- struct{}{}
		g.want(t, "a", "c")
		close(g.leave)
	})
}

// Who has gone leaves the queue, and its place is another's.
func TestQueueIsLeft(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, s, _ := startGate(t, 1, 2)
		p, gone := s.dial(), s.dial()
		ask(p, 1, "a")
		ask(p, 2, "aborted")
		ask(gone, 1, "gone")
		p.send(abort(2))
		p.wantAnswer(2, "", 0)
		gone.nc.Close()
		time.Sleep(readAgainAfter) // in place, nobody reads before
		synctest.Wait()
		if got := s.Snapshot(); got.Queued != 0 {
			t.Errorf("snapshot is %+v", got)
		}
		ask(p, 3, "b")
		ask(p, 4, "c")
		g.leave <- struct{}{}
		g.want(t, "a", "b")
		g.leave <- struct{}{}
		g.want(t, "a", "b", "c")
		close(g.leave)
	})
}

func TestLimitsChangeWhileRequestsRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, s, settings := startGate(t, 1, 5)
		p := s.dial()
		for i, name := range []string{"a", "b", "c", "d", "e"} {
			ask(p, uint16(i+1), name)
		}
		g.want(t, "a")
		settings.Limits.MaxReqs = 3
		s.Update(settings)
		synctest.Wait()
		if got := g.running.Load(); got != 3 {
			t.Fatalf("%d run, want 3", got)
		}
		settings.Limits.MaxReqs, settings.Limits.Queue = 1, 1
		s.Update(settings)
		ask(p, 6, "f")
		p.wantOwn(6, 503, overloaded) // those that wait already stay
		g.leave <- struct{}{}
		g.leave <- struct{}{}
		synctest.Wait()
		if got := s.Snapshot(); got.InFlight != 1 || got.Queued != 2 {
			t.Fatalf("snapshot is %+v", got)
		}
		settings.Limits.MaxReqs = 0
		s.Update(settings)
		synctest.Wait()
		if got := s.Snapshot(); got.InFlight != 3 || got.Queued != 0 {
			t.Fatalf("snapshot is %+v", got)
		}
		close(g.leave)
	})
}

// However requests come and go, no more than max_reqs run, and all places are
// free in the end.
func TestNeverMoreThanMaxReqs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var running, most atomic.Int64
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			select {
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			case <-time.After(time.Duration(rand.Int64N(int64(20 * time.Millisecond)))):
			}
			return hello(ctx, req)
		})
		settings.Limits.MaxReqs, settings.Limits.Queue = 3, 10
		settings.Limits.QueueTimeout = 50 * time.Millisecond
		settings.Timeout = 15 * time.Millisecond
		s := serve(t, settings)
		var clients sync.WaitGroup
		sent := new(atomic.Int64)
		for range 20 {
			p := s.dial()
			clients.Go(func() {
				for range 30 {
					time.Sleep(time.Duration(rand.Int64N(int64(30 * time.Millisecond))))
					sent.Add(1)
					p.send(get(1, true))
					if rand.IntN(4) == 0 {
						p.send(abort(1))
					}
					p.answer(1)
				}
			})
		}
		clients.Wait()
		synctest.Wait()
		if got := most.Load(); got != 3 {
			t.Errorf("%d ran at once", got)
		}
		if got := s.Snapshot(); got.InFlight != 0 || got.Queued != 0 {
			t.Errorf("snapshot is %+v", got)
		}
		if got := int64(len(s.done)); got != sent.Load() {
			t.Errorf("%d requests were reported of %d", got, sent.Load())
		}
	})
}

// A caller waits for a turn in its own goroutine.
type caller chan error

func (c caller) turnCame(err error) { c <- err }

// acquire is enter that waits.
func acquire(ctx context.Context, a *admission) error {
	c := make(caller, 1)
	t := turn{who: c, ctx: ctx}
	stop := context.AfterFunc(ctx, func() { a.giveUp(&t) })
	defer stop()
	if came, err := a.enter(&t); came {
		return err
	}
	return <-c
}

// A place that comes too late is not taken, or is given back by who has it.
func TestAdmittedWhenItLeaves(t *testing.T) {
	var a admission
	a.setLimits(1, 100, "")
	for range 2000 {
		if err := acquire(context.Background(), &a); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		got := make(chan error)
		go func() { got <- acquire(ctx, &a) }()
		go cancel(ErrAborted)
		a.leavePlace()
		if err := <-got; err == nil {
			a.leavePlace()
		} else if err != ErrAborted {
			t.Fatal(err)
		}
		if running, _, waiting, _ := a.numbers(); running != 0 || waiting != 0 {
			t.Fatalf("%d run, %d wait", running, waiting)
		}
		cancel(nil)
	}
}

// One whose ctx has ended is not let in, however much room there is.
func TestEndedIsNotAdmitted(t *testing.T) {
	var a admission
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ErrAborted)
	if err := acquire(ctx, &a); err != ErrAborted {
		t.Errorf("acquire: %v", err)
	}
	if running, _, _, _ := a.numbers(); running != 0 {
		t.Errorf("%d run", running)
	}
}

// Each that waits is turned away at its own deadline, though who has come first may
// have a later one, or none, and whoever leaves before.
func TestDeadlines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var a admission
		a.setLimits(1, 100, "")
		acquire(t.Context(), &a)
		began := time.Now()
		var all sync.WaitGroup
		for i, wait := range []time.Duration{0, 9, 5, 7, 5, 1, 8, 0, 2} {
			t1 := turn{who: make(caller, 1), ctx: t.Context()}
			if wait > 0 {
				t1.deadline = began.Add(wait * time.Second)
			}
			a.enter(&t1)
			all.Go(func() {
				err := <-t1.who.(caller)
				waited := time.Since(began)
				switch {
				case wait > 0 && (!errors.Is(err, errQueueTimeout) || waited != wait*time.Second):
					t.Errorf("%d: %v after %v, want to be turned away after %v s", i, err, waited, int(wait))
				case wait == 0 && (err != nil || waited != time.Hour):
					t.Errorf("%d: %v after %v", i, err, waited)
				case wait == 0:
					a.leavePlace()
				}
			})
		}
		time.Sleep(time.Hour)
		a.leavePlace()
		all.Wait()
		if running, _, waiting, _ := a.numbers(); running != 0 || waiting != 0 {
			t.Errorf("%d run, %d wait", running, waiting)
		}
	})
}

// A request that waits for its turn has no goroutine, which would take more memory than
// it does.
func TestWhoWaitsHasNoGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, s, _ := startGate(t, 1, 100)
		p := s.dial()
		ask(p, 1, "a")
		before := runtime.NumGoroutine()
		for id := range uint16(50) {
			ask(p, id+2, "b")
		}
		if n := runtime.NumGoroutine() - before; n > 5 {
			t.Errorf("there are %d goroutines more", n)
		}
		if got := s.Snapshot(); got.Queued != 50 {
			t.Errorf("snapshot is %+v", got)
		}
		close(g.leave)
	})
}

// A program that has exited needs no place to run, though a slow client has not
// taken its output; the Runner that returns later gives back no other one.
func TestPlaceIsFreeWhenTheProgramHasExited(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			req.Exited()
			req.Exited()
			time.Sleep(time.Hour)
			return hello(ctx, req)
		})
		settings.Limits.MaxReqs, settings.Limits.Queue = 1, 0
		s := serve(t, settings)
		p := s.dial()
		for id := uint16(1); id <= 3; id++ {
			p.send(get(id, true))
			synctest.Wait()
			if got := s.Snapshot().InFlight; got != 0 {
				t.Errorf("%d run", got)
			}
		}
		for id := uint16(1); id <= 3; id++ {
			p.wantAnswer(id, helloAnswer, 0)
		}
		if got := s.Snapshot().InFlight; got != 0 {
			t.Errorf("%d run at the end", got)
		}
	})
}

// A queuer is a Runner that has its requests wait for it until they may go, or until
// their deadline.
type queuer struct{ *gate }

func (queuer) Queues() bool { return true }

func (q queuer) Run(ctx context.Context, req *protocol.Request) (uint32, error) {
	select {
	case <-q.leave:
	case <-time.After(time.Until(req.QueueDeadline)):
		return 0, &protocol.Refusal{HTTPStatus: 503, AppStatus: 503, Reason: errors.New("waited")}
	}
	req.Running()
	<-ctx.Done()
	return 0, context.Cause(ctx)
}

// A request has one deadline for both queues, its server's and its Runner's, and its
// timeout begins when it runs.
func TestQueuer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := &gate{leave: make(chan struct{})}
		settings := testSettings(g.run)
		settings.Runner, settings.Timeout, settings.Limits.MaxReqs = queuer{g}, 3*time.Second, 1
		s := serve(t, settings)
		p := s.dial()
		ask(p, 1, "a")
		time.Sleep(time.Second)
		ask(p, 2, "b")
		p.wantOwn(1, 503, overloaded)
		if r := s.want(Overloaded, 503, overloaded); r.Queue != 10*time.Second || r.Run != 0 {
			t.Errorf("waited %v, ran %v", r.Queue, r.Run)
		}
		p.wantOwn(2, 503, overloaded)
		if r := s.want(Overloaded, 503, overloaded); r.Queue != 10*time.Second || r.Run != 0 {
			t.Errorf("waited %v, ran %v", r.Queue, r.Run)
		}
		ask(p, 1, "c")
		time.Sleep(5 * time.Second)
		g.leave <- struct{}{}
		p.wantOwn(1, 408, complete(408))
		if r := s.want(TimedOut, 408, complete(408)); r.Queue != 5*time.Second || r.Run != 3*time.Second {
			t.Errorf("waited %v, ran %v", r.Queue, r.Run)
		}
	})
}

// Requests that always wait are told of once a minute, however many they are, and the
// first that is turned away tells what is full, and since when.
func TestCrowd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told []crowd
		a := admission{tell: func(c crowd) { told = append(told, c) }}
		a.setLimits(2, 3, "worker.max")
		var waiting sync.WaitGroup
		for range 5 {
			waiting.Go(func() { acquire(t.Context(), &a) })
			synctest.Wait()
		}
		began := time.Now()
		time.Sleep(1500 * time.Millisecond)
		err := acquire(t.Context(), &a)
		if want := "the queue is full: 3 requests in it (limits.queue), and all 2 places have been taken (worker.max) for 1.5s"; err == nil || err.Error() != want {
			t.Errorf("error is %v", err)
		}
		for range 90 {
			acquire(t.Context(), &a)
			time.Sleep(time.Second)
		}
		if len(told) != 2 || told[0] != (crowd{2, 0, 3, began}) {
			t.Errorf("told %+v", told)
		}
		for range 5 {
			a.leavePlace()
		}
		waiting.Wait()
	})
}

// The time in which nobody may run is none for which places were taken.
func TestCrowdAfterAPause(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told []crowd
		a := admission{tell: func(c crowd) { told = append(told, c) }}
		a.setLimits(1, 3, "")
		var waiting sync.WaitGroup
		for range 3 {
			waiting.Go(func() { acquire(t.Context(), &a) })
		}
		synctest.Wait()
		a.setGate(GateHold)
		time.Sleep(time.Minute)
		a.setGate(GateOpen)
		if len(told) != 0 {
			t.Errorf("told %+v", told)
		}
		for range 3 {
			a.leavePlace()
			synctest.Wait()
		}
		waiting.Wait()
	})
}

// What does not return has left its place, and takes one again when it is overdue: so
// many and no more can be stuck. Who waits, or is refused, is told why.
func TestOverdueTakesPlaces(t *testing.T) {
	bubble(t, func(t *testing.T) {
		leave := make(chan struct{})
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			if req.Params.Get("DEAF") == "" {
				return hello(ctx, req)
			}
			<-ctx.Done()
			req.Exited()
			time.Sleep(time.Second)
			req.Overdue(true)
			defer req.Overdue(false)
			<-leave
			return 0, nil
		})
		settings.Timeout, settings.Limits.MaxReqs, settings.Limits.Queue, settings.Limits.QueueTimeout = time.Second, 2, 1, time.Minute
		s := serve(t, settings)
		p := s.dial()
		for i := range 2 {
			p.send(get(uint16(i+1), true, "DEAF", "1"))
		}
		for i := range 2 {
			p.wantOwn(uint16(i+1), 408, complete(408))
			s.want(TimedOut, 408, complete(408))
		}
		p.send(get(3, true)) // at once there are places
		p.wantAnswer(3, helloAnswer, 0)
		s.want(OK, 200, complete(0))
		time.Sleep(2 * time.Second)
		if got := s.Snapshot(); got.InFlight != 2 || got.Overdue != 2 {
			t.Errorf("%d run, %d are overdue", got.InFlight, got.Overdue)
		}
		p.send(get(4, true))
		synctest.Wait()
		p.send(get(5, true))
		p.wantOwn(5, 503, overloaded)
		if r := s.result(); !strings.Contains(r.Reason.Error(), "2 of them by functions that do not return") {
			t.Errorf("the reason is %v", r.Reason)
		}
		leave <- struct{}{}
		p.wantAnswer(4, helloAnswer, 0)
		leave <- struct{}{}
		synctest.Wait()
		if got := s.Snapshot(); got.InFlight != 0 || got.Overdue != 0 {
			t.Errorf("%d run, %d are overdue", got.InFlight, got.Overdue)
		}
	})
}
