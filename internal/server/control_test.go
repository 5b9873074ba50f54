package server

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

var errKilled = errors.New("killed by a test")

// serials are those of the open requests that are in a stage.
func (ts *testServer) serials(stage string) (serials []uint64) {
	for _, r := range ts.Requests() {
		if r.Stage == stage {
			serials = append(serials, r.Serial)
		}
	}
	return serials
}

// A request that is killed is answered with 503, wherever it stands, and what runs for
// it ends; others are left alone.
func TestKill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(untilDone)
		settings.Limits.MaxReqs = 1
		s := serve(t, settings)
		p := s.dial()
		p.send(get(1, true), get(2, true), begin(3, true), params(3, "A", "b"))
		synctest.Wait()
		for _, stage := range []string{"queued", "running", "body"} {
			open := s.serials(stage)
			if len(open) != 1 {
				t.Fatalf("%s: %v of %+v", stage, open, s.Requests())
			}
			info, ok := s.Kill(open[0], errKilled)
			if !ok || info.Serial != open[0] || info.Stage != stage {
				t.Errorf("killed %+v, %v, which was %s", info, ok, stage)
			}
			if got := s.result(); got.HTTPStatus != 503 || got.Outcome != Failed || !errors.Is(got.Reason, errKilled) || got.Serial != open[0] {
				t.Errorf("%s: result %+v", stage, got)
			}
			synctest.Wait() // nothing of it is left
			if _, ok := s.Kill(open[0], errKilled); ok {
				t.Errorf("%s: killed twice", stage)
			}
		}
		if _, ok := s.Kill(0, errKilled); ok {
			t.Error("there is no request 0")
		}
	})
}

// What goes on behind an answer can be killed too.
func TestKillBehindItsAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan error, 1)
		s := serve(t, testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			hello(ctx, req)
			req.Answered(0)
			<-ctx.Done()
			ended <- context.Cause(ctx)
			return 0, nil
		}))
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		synctest.Wait()
		if info, ok := s.Kill(1, errKilled); !ok || info.Stage != "ending" {
			t.Errorf("killed %+v, %v", info, ok)
		}
		if err := <-ended; err == nil || err.Error() != errKilled.Error() {
			t.Errorf("its context ended with %v", err)
		}
	})
}

// Servers that share their numbers never have one twice.
func TestSharedSerials(t *testing.T) {
	bubble(t, func(t *testing.T) {
		first := serve(t, testSettings(untilDone))
		second := serve(t, testSettings(untilDone))
		second.opt.Serials = first.opt.Serials
		for _, s := range []*testServer{first, second, first} {
			s.dial().send(get(1, true))
			synctest.Wait()
		}
		if a, b := first.serials("running"), second.serials("running"); len(a) != 2 || a[0] != 1 || a[1] != 3 || len(b) != 1 || b[0] != 2 {
			t.Errorf("requests %v and %v", a, b)
		}
		for _, serial := range []uint64{1, 3} {
			first.Kill(serial, errKilled)
		}
		if _, ok := first.Kill(2, errKilled); ok {
			t.Error("the other server's request was killed")
		}
		second.Kill(2, errKilled)
	})
}

// wantAll checks who has begun so far, in whatever order.
func (g *gate) wantAll(t *testing.T, names ...string) {
	t.Helper()
	synctest.Wait()
	g.mu.Lock()
	slices.Sort(g.began)
	g.mu.Unlock()
	g.want(t, names...)
}

// A pool that is held lets requests wait, as many as its queue takes and for as long.
func TestGateHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, s, settings := startGate(t, 2, 2)
		p := s.dial()
		p.send(get(1, true, "N", "1"))
		g.want(t, "1")
		s.SetGate(GateHold)
		s.Update(settings) // a reload does not open it
		p.send(get(2, true, "N", "2"), get(3, true, "N", "3"))
		g.want(t, "1")
		p.send(get(4, true, "N", "4"))
		if got := s.result(); got.HTTPStatus != 503 || !strings.Contains(got.Reason.Error(), "paused") {
			t.Errorf("one more than the queue takes: %+v", got)
		}
		if now := s.Snapshot(); now.Gate != GateHold || now.InFlight != 1 || now.Queued != 2 {
			t.Errorf("snapshot %+v", now)
		}
		close(g.leave) // a place that becomes free is not given to who waits
		s.result()
		g.want(t, "1")
		s.SetGate(GateOpen)
		g.wantAll(t, "1", "2", "3")
		s.SetGate(GateHold)
		begun := time.Now()
		p.send(get(5, true, "N", "5"))
		for s.result().HTTPStatus != 503 {
		}
		if waited := time.Since(begun); waited != settings.Limits.QueueTimeout {
			t.Errorf("it waited %v", waited)
		}
	})
}

// A pool that refuses serves what has waited before, and answers the rest with 503.
func TestGateRefuse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, s, _ := startGate(t, 1, 8)
		p := s.dial()
		p.send(get(1, true, "N", "1"))
		g.want(t, "1")
		p.send(get(2, true, "N", "2"))
		g.want(t, "1")
		s.SetGate(GateRefuse)
		p.send(get(3, true, "N", "3"))
		if got := s.result(); got.HTTPStatus != 503 || got.Outcome != Overloaded || !strings.Contains(got.Reason.Error(), "fcgid resume") {
			t.Errorf("a new one: %+v", got)
		}
		close(g.leave)
		g.want(t, "1", "2")
		s.result()
		s.result()
		s.SetGate(GateOpen)
		p.send(get(4, true, "N", "4"))
		if got := s.result(); got.HTTPStatus != 200 {
			t.Errorf("opened again: %+v", got)
		}
	})
}

// What was held has come before it is said that nothing is taken: it is served.
func TestGateFromHoldToRefuse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g, s, _ := startGate(t, 1, 8)
		close(g.leave)
		s.SetGate(GateHold)
		p := s.dial()
		p.send(get(1, true, "N", "1"), get(2, true, "N", "2"))
		g.want(t)
		s.SetGate(GateRefuse)
		g.wantAll(t, "1", "2")
	})
}
