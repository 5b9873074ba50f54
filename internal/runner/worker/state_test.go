package worker

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/doctest"
	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/protocol"
)

// A fakeProcess is one that does what a test says. Its end ends it.
type fakeProcess struct {
	id     int
	serve  func(net.Conn) // what it does with a connection; nil: it answers
	deaf   bool
	once   sync.Once
	ended  chan struct{}
	exit   exit
	signal atomic.Int32 // how often it was asked to end
}

func newFake(id int) *fakeProcess { return &fakeProcess{id: id, ended: make(chan struct{})} }

func (f *fakeProcess) pid() int { return 1_000_000_000 + f.id }

func (f *fakeProcess) connect(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	serve := f.serve
	if serve == nil {
		serve = answerAll
	}
	go serve(theirs)
	return ours, nil
}

func (f *fakeProcess) askWith(syscall.Signal) {}

func (f *fakeProcess) leave(grace time.Duration) { f.end(grace) }

func (f *fakeProcess) end(time.Duration) {
	f.signal.Add(1)
	if !f.deaf {
		f.die()
	}
}

func (f *fakeProcess) die() { f.once.Do(func() { close(f.ended) }) }

func (f *fakeProcess) wait() *exit {
	<-f.ended
	return &f.exit
}

func answerAll(conn net.Conn) {
	defer conn.Close()
	r := protocol.NewReader(conn)
	for {
		rec, err := r.Next()
		if err != nil {
			return
		}
		if rec.Type == protocol.TypeStdin && len(rec.Content) == 0 {
			out := protocol.AppendRecord(nil, protocol.TypeStdout, rec.ID, []byte("Content-Type: text/plain\r\n\r\n"))
			conn.Write(protocol.AppendEnd(out, rec.ID, protocol.End{}))
		}
	}
}

// workerEvents are the events of the table, by name.
var workerEvents = map[string]func(*worker){
	"started": func(w *worker) { w.started(newFake(2)) },
	"ready":   (*worker).ready,
	"take":    (*worker).take,
	"done":    (*worker).done,
	"retire":  func(w *worker) { w.retire("test") },
	"end":     func(w *worker) { w.end("test") },
	"exited":  (*worker).exited,
}

// workersIn are workers in a state, on each way there that makes a difference.
func workersIn(state string) []func(w *worker) {
	events := func(names ...string) func(*worker) {
		return func(w *worker) {
			for _, name := range names {
				workerEvents[name](w)
			}
		}
	}
	switch state {
	case "starting":
		return []func(*worker){events()}
	case "idle":
		return []func(*worker){events("started", "ready")}
	case "busy":
		return []func(*worker){events("started", "ready", "take"), events("started", "ready", "take", "take")}
	case "stopping":
		return []func(*worker){events("started", "ready", "take", "retire"), events("started", "ready", "take", "end")}
	}
	return []func(*worker){events("started", "ready", "take", "exited")}
}

// after is the name of the state after an event, or "-" if it cannot happen.
func after(enter func(*worker), event string) (state string) {
	w := &worker{pool: &Pool{}}
	w.process = newFake(1)
	enter(w)
	defer func() {
		if recover() != nil {
			state = "-"
		}
	}()
	workerEvents[event](w)
	return w.state.String()
}

func TestWorkerStates(t *testing.T) {
	rows := doctest.Table(t, "../../../docs/workers.md", "| state ")
	header := rows[0][1:]
	if len(header) != len(workerEvents) || len(rows)-1 != int(stateCount) {
		t.Fatalf("the table has %d events and %d states", len(header), len(rows)-1)
	}
	for i, row := range rows[1:] {
		if row[0] != state(i).String() {
			t.Fatalf("row %d is %s, want %v", i, row[0], state(i))
		}
		for j, event := range header {
			var states []string
			for _, enter := range workersIn(row[0]) {
				if s := after(enter, event); len(states) == 0 || states[0] != s {
					states = append(states, s)
				}
			}
			if got := strings.Join(states, ", or "); got != row[j+1] {
				t.Errorf("%s, %s: the code says %q, the table %q", row[0], event, got, row[j+1])
			}
		}
	}
}

// A worker is asked to end once it has no request, or at once.
func TestWorkerIsAsked(t *testing.T) {
	for name, test := range map[string]struct {
		do   func(w *worker)
		want int
	}{
		"retire idle":  {func(w *worker) { w.ready(); w.retire("") }, 1},
		"retire busy":  {func(w *worker) { w.ready(); w.take(); w.retire("") }, 0},
		"retired done": {func(w *worker) { w.ready(); w.take(); w.take(); w.retire(""); w.done() }, 0},
		"retired all done": {func(w *worker) {
			w.ready()
			w.take()
			w.take()
			w.retire("")
			w.done()
			w.done()
		}, 1},
		"end busy":        {func(w *worker) { w.ready(); w.take(); w.end("") }, 1},
		"end of retired":  {func(w *worker) { w.ready(); w.take(); w.retire(""); w.end("") }, 1},
		"retire starting": {func(w *worker) { w.retire("") }, 1},
		"exited, then done": {func(w *worker) {
			w.ready()
			w.take()
			w.exited()
			w.done()
			w.retire("")
			w.end("")
		}, 0},
	} {
		f := newFake(1)
		w := &worker{pool: &Pool{}}
		w.started(f)
		test.do(w)
		w.pool.mu.Lock()
		if w.pool.unlock(); int(f.signal.Load()) != test.want {
			t.Errorf("%s: asked %d times, want %d", name, f.signal.Load(), test.want)
		}
	}
	f := newFake(1)
	w := &worker{pool: &Pool{}}
	w.end("")
	w.started(f)
	w.pool.mu.Lock()
	if w.pool.unlock(); f.signal.Load() != 1 {
		t.Error("one that was to end before it ran was not asked")
	}
}

// fakeWorkers is a Pool of fake processes, supervised until stop is called.
func fakeWorkers(t testing.TB, o Options, launch func(id int) (process, error)) (p *Pool, stop func()) {
	o.RunDir = t.TempDir()
	p = New(o)
	p.launch = func(_ *program, id int) (process, error) { return launch(id) }
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Supervise(ctx) }()
	return p, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func launchFakes(id int) (process, error) { return newFake(id), nil }

func numbers(p *Pool) (idle, all int) {
	s := p.snapshot()
	return s.Idle, len(s.Workers)
}

// The pauses between attempts grow from 100 ms to 30 s.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logs := logtest.New()
		begin := time.Now()
		var mu sync.Mutex
		var at []time.Duration
		p, stop := fakeWorkers(t, Options{Scale: ScaleStatic, Max: 3, SpawnRate: 100, Log: log}, func(int) (process, error) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(begin))
			return nil, errors.New("no such thing")
		})
		time.Sleep(10*time.Minute + time.Millisecond)
		s := p.Snapshot()
		stop()
		want := time.Duration(0)
		pause := 100 * time.Millisecond
		for i, d := range at[2:] { // three at first
			if d < want || d > want+time.Millisecond {
				t.Fatalf("attempt %d at %v, want %v", i, d, want)
			}
			want += pause
			pause = min(2*pause, 30*time.Second)
		}
		if !s.Degraded || s.Why != "no such thing" || logs.Len() != len(at)-2 || want < 10*time.Minute {
			t.Errorf("snapshot is %+v, %d lines, next at %v", s, logs.Len(), want)
		}
	})
}

// A worker that lives for start_timeout ends the degraded state.
func TestRecoveryByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := fakeWorkers(t, Options{Scale: ScaleStatic, Max: 3, StartTimeout: 5 * time.Second}, func(id int) (process, error) {
			f := newFake(id)
			if id < 5 {
				f.die()
			}
			return f, nil
		})
		defer stop()
		time.Sleep(time.Second)
		if _, all := numbers(p); all != 1 || !p.snapshot().Degraded {
			t.Errorf("%d workers, want one probe", all)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if idle, _ := numbers(p); idle != 3 || p.snapshot().Degraded {
			t.Errorf("%d idle after recovery", idle)
		}
	})
}

// A worker of another program that lives replaces an old one after a second, if it
// is not asked anything; one that dies before that replaces none.
func TestSuccession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		p, stop := fakeWorkers(t, Options{Scale: ScaleStatic, Max: 2, StartTimeout: 5 * time.Second}, func(id int) (process, error) {
			f := newFake(id)
			if broken.Load() {
				f.die()
			}
			return f, nil
		})
		defer stop()
		synctest.Wait()
		old := p.snapshot().Workers
		broken.Store(true)
		p.Update(Options{Scale: ScaleStatic, Max: 2, StartTimeout: 5 * time.Second, Env: []string{"A=b"}})
		time.Sleep(time.Minute)
		s := p.snapshot()
		if !s.Degraded || len(s.Workers) < 2 || s.Workers[0].PID != old[0].PID || s.Workers[1].PID != old[1].PID {
			t.Errorf("with a broken program: %+v, were %+v", s, old)
		}
		broken.Store(false)
		time.Sleep(time.Minute)
		s = p.snapshot()
		if s.Degraded || s.Idle != 2 || len(s.Workers) != 2 || s.Workers[0].PID == old[0].PID || s.Workers[1].PID == old[1].PID {
			t.Errorf("with one that lives: %+v, were %+v", s, old)
		}
	})
}

// A reload ends though the new workers leave after their first request, and there are
// never enough of them at once to outnumber the old ones.
func TestSuccessionOfSpentWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Scale: ScaleStatic, Max: 4, SpawnRate: 1}
		p, stop := fakeWorkers(t, o, launchFakes)
		defer stop()
		time.Sleep(10 * time.Second)
		o.MaxRequests, o.Env = 1, []string{"A=b"}
		p.Update(o)
		for range 20 {
			req := protocol.Request{Stdout: io.Discard}
			req.Params.Add("REQUEST_METHOD", "GET")
			p.Run(t.Context(), &req)
		}
		if s := p.snapshot(); s.Outdated > 0 || s.Exits["reload"] != 4 {
			t.Errorf("%+v", s)
		}
	})
}

// A pool that goes back to the program that its workers run is well at once.
func TestReturnToOldProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := Options{Scale: ScaleStatic, Max: 2, StartTimeout: 5 * time.Second}
		p, stop := fakeWorkers(t, old, func(id int) (process, error) {
			f := newFake(id)
			if id > 2 {
				f.die()
			}
			return f, nil
		})
		defer stop()
		time.Sleep(time.Minute)
		change := old
		change.Env = []string{"A=b"}
		p.Update(change)
		time.Sleep(time.Minute)
		if !p.snapshot().Degraded {
			t.Error("not degraded")
		}
		p.Update(old)
		synctest.Wait()
		if s := p.snapshot(); s.Degraded || s.Idle != 2 || len(s.Workers) != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// A start that fails while workers serve, and is not wanted any more, is forgiven.
func TestFailureInPassing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Scale: ScaleDynamic, Max: 4, Min: 1, MinSpare: 1, MaxSpare: 4, StartTimeout: 5 * time.Second}
		p, stop := fakeWorkers(t, o, func(id int) (process, error) {
			if id == 2 {
				return nil, errors.New("no room")
			}
			return newFake(id), nil
		})
		defer stop()
		time.Sleep(time.Minute)
		o.MinSpare = 2
		p.Update(o) // starts the second
		synctest.Wait()
		if !p.snapshot().Degraded {
			t.Error("not degraded")
		}
		o.MinSpare = 1
		p.Update(o)
		time.Sleep(6 * time.Second)
		if s := p.snapshot(); s.Degraded {
			t.Errorf("%+v", s)
		}
	})
}

// Workers that are to be replaced stay while others cannot be started, but leave the
// place in which one can be tried, also when there may be fewer of them meanwhile.
func TestTryWithLessRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{Scale: ScaleStatic, Max: 3, MaxLifetime: 10 * time.Second, StartTimeout: time.Minute}
		var repaired atomic.Bool
		p, stop := fakeWorkers(t, o, func(id int) (process, error) {
			if id > 2 && !repaired.Load() {
				return nil, errors.New("no room")
			}
			return newFake(id), nil
		})
		defer stop()
		time.Sleep(20 * time.Second) // two are to be replaced
		o.Max = 1
		p.Update(o)
		repaired.Store(true)
		time.Sleep(3 * time.Minute)
		if s := p.snapshot(); s.Degraded || len(s.Workers) > 1 {
			t.Errorf("%+v", s)
		}
	})
}

// What was saved up is started at once, the rest at spawn_rate.
func TestSpawnRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := fakeWorkers(t, Options{Scale: ScaleStatic, Max: 20, SpawnRate: 5}, launchFakes)
		defer stop()
		for _, want := range []int{5, 10, 15, 20, 20} {
			synctest.Wait()
			if idle, _ := numbers(p); idle != want {
				t.Errorf("%d workers, want %d", idle, want)
			}
			time.Sleep(time.Second + time.Millisecond)
		}
	})
}

// Idle workers leave one by one, as each has been idle for long enough, down to
// what has to stay.
func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, stop := fakeWorkers(t, Options{
			Scale: ScaleDynamic, Max: 8, Min: 2, MinSpare: 1, MaxSpare: 8, IdleTimeout: time.Minute,
		}, launchFakes)
		defer stop()
		var seats []*seat
		for range 6 {
			s, err := p.acquire(t.Context(), &protocol.Request{}, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			seats = append(seats, s)
		}
		for _, s := range seats {
			time.Sleep(time.Second)
			p.vacate(s, &exchange{seat: s, req: &protocol.Request{}, fate: fateFit})
		}
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if idle, _ := numbers(p); idle != 7 {
			t.Errorf("%d idle, want 7", idle)
		}
		time.Sleep(7500 * time.Millisecond) // the spare and three of the six
		synctest.Wait()
		if idle, _ := numbers(p); idle != 3 {
			t.Errorf("%d idle, want 3", idle)
		}
		time.Sleep(time.Hour)
		if idle, all := numbers(p); idle != 2 || all != 2 {
			t.Errorf("%d of %d idle, want 2", idle, all)
		}
	})
}

// Those that do not end, whatever they are sent, are not replaced for ever. Until that
// shows they count against nothing.
func TestDeafWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fakes []*fakeProcess
		var mu sync.Mutex
		p, stop := fakeWorkers(t, Options{Scale: ScaleStatic, Max: 2}, func(id int) (process, error) {
			f := newFake(id)
			f.deaf = true
			mu.Lock()
			defer mu.Unlock()
			fakes = append(fakes, f)
			return f, nil
		})
		for range 3 {
			synctest.Wait()
			s, err := p.acquire(t.Context(), &protocol.Request{}, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			p.vacate(s, &exchange{seat: s, req: &protocol.Request{}, fate: fateHung})
		}
		synctest.Wait()
		if s := p.snapshot(); s.Stopping != 3 || s.Idle != 2 || s.Starts != 5 {
			t.Errorf("snapshot is %+v", s)
		}
		for range 3 {
			time.Sleep(killTime + time.Second)
			s, err := p.acquire(t.Context(), &protocol.Request{}, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			p.vacate(s, &exchange{seat: s, req: &protocol.Request{}, fate: fateHung})
		}
		synctest.Wait()
		if s := p.snapshot(); s.Stopping != 6 || s.Idle != 0 || s.Starts != 6 {
			t.Errorf("snapshot is %+v", s)
		}
		time.Sleep(killTime + time.Second)
		mu.Lock()
		fakes[0].die()
		fakes[1].die()
		mu.Unlock()
		synctest.Wait()
		if s := p.snapshot(); s.Idle != 1 || s.Starts != 7 {
			t.Errorf("snapshot is %+v", s)
		}
		go stop()
		for p.snapshot().Stopping+p.snapshot().Idle > 0 {
			synctest.Wait()
			mu.Lock()
			for _, f := range fakes {
				f.die()
			}
			mu.Unlock()
			synctest.Wait()
		}
		synctest.Wait()
	})
}

// What a reload has corrected is not told any more: the reason was the other program's.
// One that fails as well has a reason of its own.
func TestCorrectedProgramHasNoOldReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		o := Options{Scale: ScaleStatic, Max: 2, StartTimeout: 5 * time.Second}
		p, stop := fakeWorkers(t, o, func(id int) (process, error) {
			f := newFake(id)
			if broken.Load() {
				f.die()
			}
			return f, nil
		})
		defer stop()
		time.Sleep(time.Minute)
		reload := func(env string, isBroken bool) {
			broken.Store(isBroken)
			o.Env = []string{env}
			p.Update(o)
			synctest.Wait()
		}
		reload("A=broken", true)
		time.Sleep(time.Minute)
		if s := p.snapshot(); !s.Degraded || s.Why == "" {
			t.Fatalf("it is not degraded: %+v", s)
		}
		reload("A=good", false)
		if s := p.snapshot(); s.Degraded || s.Why != "" || strings.Contains(s.WhyOutdated, "cannot be started") {
			t.Errorf("corrected: %+v", s)
		}
		time.Sleep(time.Minute)
		if s := p.snapshot(); s.Degraded || s.Idle != 2 || s.Outdated != 0 {
			t.Errorf("a minute later: %+v", s)
		}
		reload("A=broken again", true)
		time.Sleep(time.Minute)
		reload("A=and again", true)
		time.Sleep(time.Second)
		if s := p.snapshot(); !s.Degraded || s.Why == "" || !strings.Contains(s.WhyOutdated, "cannot be started") {
			t.Errorf("broken once more: %+v", s)
		}
	})
}
