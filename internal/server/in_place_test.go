package server

import (
	"context"
	"net"
	"runtime"
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
			took(t, began, delay)
			p.wantAnswer(1, helloAnswer, 0)
		}
	})
}

// What has come together with a request is read before that is run.
func TestRequestsThatComeTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, live := range []bool{false, true} {
			settings := inPlaceSettings(slowOrHello)
			settings.Limits.RequestBuffering = !live
			p := serve(t, settings).dial()
			began := time.Now()
			p.send(append(get(1, true, "SLOW", "1m"), get(2, true)...))
			p.wantAnswer(2, helloAnswer, 0)
			took(t, began, 0)
			p.wantAnswer(1, helloAnswer, 0)
		}
	})
}

// A function that waits for STDIN which is still to come does not run in place.
func TestLiveBodyInPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := inPlaceSettings(echo)
		settings.Limits.RequestBuffering = false
		p := serve(t, settings).dial()
		began := time.Now()
		p.send(begin(1, true), params(1))
		p.send(part(1, "a"))
		p.send(part(1, ""))
		p.wantAnswer(1, plainHeader+"a", 0)
		took(t, began, 0)
	})
}

// The end of its client reaches a request in place, and so does the time that it may run.
func TestEndOfARequestInPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := inPlaceSettings(untilDone)
		settings.Timeout = time.Minute
		s := serve(t, settings)
		p := s.dial()
		p.send(get(1, true))
		p.send(abort(1))
		p.wantAnswer(1, "", 0)
		s.want(Aborted, 0, complete(0))
		p.send(get(1, true))
		p.wantOwn(1, 408, complete(408))
		s.want(TimedOut, 408, complete(408))
		p.send(get(1, false))
		p.nc.Close()
		s.want(Aborted, 0, complete(0))
	})
}

// Requests that end just when another goroutine is to read on leave one that reads: two
// would be a race, and none an answer that does not come.
func TestRequestsInPlaceThatTakeJustAsLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, inPlaceSettings(slowOrHello))
		p := s.dial()
		for range 300 {
			p.send(get(1, true, "SLOW", readAgainAfter.String()))
			p.wantAnswer(1, helloAnswer, 0)
			s.want(OK, 200, complete(0))
			synctest.Wait()
		}
		s.noMoreResults()
	})
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

// wantRest lets the time pass after which no goroutine with a large stack reads.
func wantRest(t *testing.T, s *testServer) {
	t.Helper()
	deep := func() bool {
		synctest.Wait()
		s.Server.mu.Lock()
		defer s.Server.mu.Unlock()
		for c := range s.Server.conns {
			return c.inPlace.deep.Load()
		}
		return false
	}
	if !deep() {
		t.Error("the request did not run in place")
	}
	time.Sleep(renewAfter + time.Millisecond)
	if deep() {
		t.Error("no other goroutine has taken the connection over")
	}
}

// An idle connection does not keep the stack that its last request needed: a fresh
// goroutine takes it over, and it can be used as before.
func TestRestAfterARequestInPlace(t *testing.T) {
	certificate()
	bubble(t, func(t *testing.T) {
		for _, tls := range []bool{false, true} {
			s := serve(t, inPlaceSettings(hello))
			dial := s.dial
			if tls {
				dial = func() *peer { return newPeer(t, s.dialTLS()) }
			}
			p := dial()
			for range 3 {
				p.send(get(1, true))
				p.wantAnswer(1, helloAnswer, 0)
				wantRest(t, s)
			}
			p.nc.Close()
			synctest.Wait()
		}
	})
}

// Half a record does not get lost when another goroutine reads the rest, and is
// still to be completed in time.
func TestRestInARecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, inPlaceSettings(hello))
		p := s.dial()
		half := func() {
			t.Helper()
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, 0)
			p.send(begin(1, true)[:5])
			wantRest(t, s)
		}
		half()
		p.send(begin(1, true)[5:], params(1), part(1, ""))
		p.wantAnswer(1, helloAnswer, 0)
		half()
		began := time.Now()
		p.wantClosed()
		took(t, began, s.settings.Load().Limits.ReadTimeout-renewAfter-time.Millisecond)
		s.wantErrors(kindStalled)
	})
}

// An upload that stalls behind a request in place is ended in its time.
func TestRestInABody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, inPlaceSettings(hello))
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		began := time.Now()
		p.send(begin(1, true), params(1), part(1, "some"))
		wantRest(t, s)
		p.wantOwn(1, 408, complete(408))
		took(t, began, s.settings.Load().Limits.ReadTimeout)
	})
}

// A connection that another goroutine has taken over is idle since its last request.
func TestIdleTimeoutAfterARest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := inPlaceSettings(hello)
		settings.Limits.IdleTimeout = 10 * time.Second
		s := serve(t, settings)
		p := s.dial()
		for range 2 {
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, 0)
			time.Sleep(5 * time.Second)
		}
		began := time.Now()
		p.wantClosed()
		took(t, began, 5*time.Second)
		s.wantErrors()
	})
}

// A request that was sent while its neighbour ran in place is on its way, also where
// the socket cannot be asked.
func TestShutdownTakesTheNeighbourOfARequestInPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, inPlaceSettings(slowOrHello))
		p := s.dial()
		p.send(get(1, true, "SLOW", (readAgainAfter / 2).String()))
		synctest.Wait()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			p.nc.Write(get(2, true))
		}()
		synctest.Wait()
		s.stop()
		p.wantAnswer(1, helloAnswer, 0)
		p.wantAnswer(2, helloAnswer, 0)
		p.wantClosed()
		<-sent
	})
}

// A stop that comes while the last request runs in place does not wait for another one.
func TestShutdownDuringARequestInPlace(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	running, goOn := make(chan struct{}), make(chan struct{})
	s := startServer(t, l, inPlaceSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
		close(running)
		<-goOn
		return hello(ctx, req)
	}))
	nc, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, nc)
	p.send(get(1, true))
	<-running
	s.stop()
	close(goOn)
	p.wantAnswer(1, helloAnswer, 0)
	p.wantClosed()
}

// Nobody reads for a moment where a request waits for its turn: who runs it reads on.
func TestTurnOfARequestInPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := inPlaceSettings(slowOrHello)
		settings.Limits.MaxReqs = 1
		s := serve(t, settings)
		first, second := s.dial(), s.dial()
		for _, slow := range []time.Duration{0, readAgainAfter / 2, readAgainAfter, 2 * readAgainAfter} {
			first.send(get(1, true, "SLOW", slow.String()))
			synctest.Wait()
			second.send(get(1, true))
			first.wantAnswer(1, helloAnswer, 0)
			second.wantAnswer(1, helloAnswer, 0)
			second.send(get(2, true))
			second.wantAnswer(2, helloAnswer, 0)
			for range 3 {
				s.want(OK, 200, complete(0))
			}
		}
	})
}

// The end of a client reaches its request that waits for its turn in place, and so does
// the time that it may wait.
func TestEndOfATurnInPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := inPlaceSettings(slowOrHello)
		settings.Limits.MaxReqs, settings.Limits.Queue = 1, 1
		s := serve(t, settings)
		first, p := s.dial(), s.dial()
		first.send(get(1, true, "SLOW", "1h"))
		synctest.Wait()

		began := time.Now()
		p.send(get(1, true))
		p.send(abort(1))
		p.wantAnswer(1, "", 0)
		took(t, began, readAgainAfter)
		s.want(Aborted, 0, complete(0))

		began = time.Now()
		p.send(get(1, true))
		other := s.dial()
		other.send(get(1, true)) // finds the queue full
		other.wantOwn(1, 503, overloaded)
		s.want(Overloaded, 503, overloaded)
		p.wantOwn(1, 503, overloaded)
		took(t, began, settings.Limits.QueueTimeout)
		s.want(Overloaded, 503, overloaded)

		p.send(get(1, true))
		p.nc.Close()
		s.want(Aborted, 0, complete(0))
		s.noMoreResults()
	})
}
