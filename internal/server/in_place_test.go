package server

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

func inPlaceSettings(run runnerFunc) Settings {
	settings := testSettings(run)
	settings.InPlace = true
	return settings
}

// slowOrHello waits for SLOW, if it is given, and says hello.
func slowOrHello(ctx context.Context, req *protocol.Request) (uint32, error) {
	if d, err := time.ParseDuration(req.Params.Get("SLOW")); err == nil {
		time.Sleep(d)
	}
	return hello(ctx, req)
}

// A request that runs where it was read holds up its neighbour for a moment, and
// that of a client which is known to send several at once not at all.
func TestNeighbourOfARequestInPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, inPlaceSettings(slowOrHello)).dial()
		for _, delay := range []time.Duration{readAgainAfter, 0, 0} {
			began := time.Now()
			p.send(get(1, true, "SLOW", "1m"))
			p.send(get(2, true))
			p.wantAnswer(2, helloAnswer, 0)
			if took := time.Since(began); took != delay {
				t.Errorf("the neighbour has waited %v, want %v", took, delay)
			}
			p.wantAnswer(1, helloAnswer, 0)
		}
	})
}

// The end of its client reaches a request in place.
func TestAbortOfARequestInPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, inPlaceSettings(untilDone))
		p := s.dial()
		p.send(get(1, true))
		p.send(abort(1))
		p.wantAnswer(1, "", 0)
		s.want(Aborted, 0, complete(0))
		p.send(get(1, false))
		p.nc.Close()
		s.want(Aborted, 0, complete(0))
	})
}

// Requests that end just when another goroutine is to read on leave one read loop.
func TestRequestsInPlaceThatTakeJustAsLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, inPlaceSettings(slowOrHello)).dial()
		for range 300 {
			p.send(get(1, true, "SLOW", readAgainAfter.String()))
			p.wantAnswer(1, helloAnswer, 0)
			synctest.Wait()
			if n := strings.Count(stacks(), ").readRecords("); n != 1 {
				t.Fatalf("%d read loops", n)
			}
		}
	})
}

// stacks are those of all goroutines.
func stacks() string {
	b := make([]byte, 1<<20)
	return string(b[:runtime.Stack(b, true)])
}

// A Runner that ends its goroutine does not end the connection's reading with it.
func TestGoexitInPlace(t *testing.T) {
	for _, slow := range []time.Duration{0, time.Minute} {
		bubble(t, func(t *testing.T) {
			p := serve(t, inPlaceSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
				if req.Params.Get("EXIT") != "" {
					time.Sleep(slow)
					runtime.Goexit()
				}
				return hello(ctx, req)
			})).dial()
			for range 2 {
				p.send(get(1, true, "EXIT", "1"))
				p.wantOwn(1, 500, complete(500))
				p.send(get(1, true))
				p.wantAnswer(1, helloAnswer, 0)
			}
		})
	}
}

// An idle connection does not keep the stack that its last request needed: a fresh
// goroutine takes it over, and it can be used as before.
func TestRestAfterARequestInPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, inPlaceSettings(hello)).dial()
		for range 3 {
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, 0)
			synctest.Wait()
			time.Sleep(restAfter + time.Millisecond)
			synctest.Wait()
			if !strings.Contains(stacks(), ").readOn(") {
				t.Error("no other goroutine has taken the connection over")
			}
			p.send(begin(1, true)[:5]) // half a record does not get lost either
			time.Sleep(restAfter)
			p.send(begin(1, true)[5:], params(1), part(1, ""))
			p.wantAnswer(1, helloAnswer, 0)
		}
	})
}
