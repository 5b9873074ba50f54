package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// What the settings have a Runner of their own for is done at once, whatever else runs,
// waits or may not run, and counts nowhere.
func TestOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			<-ctx.Done()
			return 0, nil
		})
		settings.Limits.MaxReqs, settings.Limits.Queue, settings.InPlace = 1, 0, false
		settings.Own = func(p *protocol.Params) Runner {
			if p.Get("SCRIPT_NAME") == "/status" {
				return runnerFunc(hello)
			}
			return nil
		}
		s := serve(t, settings)
		waits := 0
		s.opt.Hooks.Queued = func(uint32, time.Duration) { waits++ }
		p := s.dial()
		p.send(begin(1, true), params(1), part(1, ""))
		synctest.Wait()
		before := s.Snapshot()
		for _, gate := range []Gate{GateOpen, GateHold, GateRefuse} {
			s.SetGate(gate)
			p.send(begin(2, true), params(2, "SCRIPT_NAME", "/status"), part(2, ""))
			p.wantAnswer(2, helloAnswer, 0)
			if r := s.want(OK, 200, complete(0)); !r.IsOwn {
				t.Errorf("result is %+v", r)
			}
		}
		p.send(begin(3, true), params(3, "SCRIPT_NAME", "/other"), part(3, ""))
		if r := s.result(); r.IsOwn || r.Outcome != Overloaded {
			t.Errorf("result is %+v", r)
		}
		if after := s.Snapshot(); after.Tally != before.Tally || after.InFlight != 1 || after.Tally != (Tally{Admitted: 1, MostRunning: 1, AtMax: 1}) || waits != 1 {
			t.Errorf("tally is %+v, was %+v, %d have waited", after.Tally, before.Tally, waits)
		}
	})
}

// So many of those run at once, and no more; what is one too many is told so at once.
func TestOwnIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings, gate := testSettings(hello), make(chan struct{})
		settings.Own = func(*protocol.Params) Runner {
			return runnerFunc(func(ctx context.Context, req *protocol.Request) (uint32, error) {
				<-gate
				return hello(ctx, req)
			})
		}
		s := serve(t, settings)
		p := s.dial()
		for range 2 {
			for id := range uint16(maxOwn) {
				p.send(begin(id+1, true), params(id+1), part(id+1, ""))
			}
			synctest.Wait()
			for range 2 {
				p.send(begin(100, true), params(100), part(100, ""))
				if r := s.want(Overloaded, 503, protocol.End{AppStatus: 503, Status: protocol.StatusOverloaded}); !r.IsOwn {
					t.Errorf("result is %+v", r)
				}
			}
			for range maxOwn {
				gate <- struct{}{}
				s.want(OK, 200, complete(0))
			}
		}
	})
}

func TestTally(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			time.Sleep(time.Second)
			return hello(ctx, req)
		})
		settings.Limits.MaxReqs, settings.InPlace = 2, false
		s := serve(t, settings)
		p := s.dial()
		for id := range uint16(5) {
			p.send(begin(id+1, true), params(id+1), part(id+1, ""))
		}
		for range 5 {
			s.result()
		}
		if got, want := s.Snapshot().Tally, (Tally{Admitted: 5, MostRunning: 2, MostQueued: 3, AtMax: 1}); got != want {
			t.Errorf("tally is %+v, want %+v", got, want)
		}
	})
}
