package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// wantServed waits for Serve.
func (ts *testServer) wantServed(after time.Duration) {
	ts.t.Helper()
	began := time.Now()
	if err := <-ts.served; err != nil {
		ts.t.Errorf("Serve: %v", err)
	}
	if took := time.Since(began); took != after {
		ts.t.Errorf("Serve returns after %v, want %v", took, after)
	}
}

// A kept connection is closed at once. One that has just come may have a
// request on its way, so it is waited for a moment.
func TestShutdownOfIdleConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		never, kept := s.dial(), s.dial()
		kept.send(get(1, true))
		kept.wantAnswer(1, helloAnswer, 0)
		synctest.Wait() // the client has its answer before the connection is idle
		s.stop()
		kept.wantClosed()
		s.wantServed(lastCallTime)
		never.wantClosed()
		s.wantErrors()
	})
}

func TestShutdownTakesTheRequestOfANewConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		p := s.dial()
		synctest.Wait()
		s.stop()
		synctest.Wait()
		p.send(rec(protocol.TypeGetValues, 0, pairs(protocol.MaxReqs, "")))
		p.next()
		time.Sleep(lastCallTime / 2)
		p.send(begin(1, true))
		time.Sleep(2 * lastCallTime) // the call was answered: now read_timeout holds
		p.send(params(1), part(1, ""))
		p.wantAnswer(1, helloAnswer, 0)
		p.wantClosed()
		s.wantServed(0)
	})
}

// Requests that have begun, also those that still come or wait, are answered.
func TestShutdownLetsRequestsEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			time.Sleep(time.Second)
			return echo(ctx, req)
		})
		settings.Limits.MaxReqs = 1
		s := serve(t, settings)
		running, queued, sending := s.dial(), s.dial(), s.dial()
		running.send(get(1, true))
		synctest.Wait()
		queued.send(get(1, true))
		sending.send(begin(1, true))
		synctest.Wait()
		s.stop()
		synctest.Wait()
		sending.send(begin(2, true), params(2), part(2, ""))
		running.wantAnswer(1, plainHeader, 0)
		running.wantClosed()
		sending.wantAnswer(2, plainHeader, 0)
		sending.send(params(1), part(1, "x"), part(1, ""))
		queued.wantAnswer(1, plainHeader, 0)
		sending.wantAnswer(1, plainHeader+"x", 0)
		queued.wantClosed()
		sending.wantClosed()
		s.wantServed(0)
	})
}

// An END_REQUEST that is being written is no reason to close the connection.
func TestShutdownWaitsForAnEndThatIsBeingWritten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		slow := s.dialDeaf()
		slow.Write(get(1, true))
		if _, err := readRecord(slow); err != nil { // STDOUT; its end and END_REQUEST are on their way
			t.Fatal(err)
		}
		synctest.Wait()
		s.stop()
		time.Sleep(time.Second)
		p := newPeer(t, slow)
		p.wantAnswer(1, "", 0)
		p.wantClosed()
		s.wantServed(0)
	})
}

// A connection whose client takes its answer slowly is not idle.
func TestSlowReaderIsNotIdle(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		settings.Limits.IdleTimeout = time.Second
		s := serve(t, settings)
		slow := s.dialDeaf()
		slow.Write(get(1, true))
		if _, err := readRecord(slow); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		p := newPeer(t, slow)
		p.wantAnswer(1, "", 0)
		began := time.Now()
		p.wantClosed()
		took(t, began, time.Second)
	})
}

// After Grace what is left is ended, in whatever stage it is.
func TestShutdownAfterGrace(t *testing.T) {
	for i, st := range inStages {
		if st.name == "ending" {
			continue // it has its answer
		}
		t.Run(st.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := startStage(t, i, false)
				s.stop()
				began := time.Now()
				s.p.wantOwn(2, 503, overloaded)
				took(t, began, 5*time.Second)
				s.p.wantClosed()
				s.wantServed(0)
				if st.name != "queued" {
					s.wantCause(t, i, ErrShutdown)
				}
				if r := s.result(); r.Outcome != Overloaded || !errors.Is(r.Reason, ErrShutdown) {
					t.Errorf("result is %+v", r)
				}
			})
		})
	}
}

func TestShutdownOfAnAnswerThatHasBegun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			hello(ctx, req)
			return untilDone(ctx, req)
		}))
		p := s.dial()
		p.send(get(1, true))
		synctest.Wait()
		s.stop()
		if a := p.answer(1); a.stdout != helloAnswer || a.end != overloaded {
			t.Errorf("answer is %+v", a)
		}
		p.wantClosed()
		s.wantServed(0)
	})
}

// A client that sends without end cannot keep Serve.
func TestShutdownWithATricklingClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := liveSettings(untilDone)
		settings.Timeout = time.Second
		s := serve(t, settings)
		p := s.dial()
		p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100"))
		var trickle sync.WaitGroup
		trickle.Go(func() {
			for {
				if _, err := p.nc.Write(part(1, "x")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		time.Sleep(3 * time.Second) // its program has timed out, and its answer waits
		s.stop()
		p.wantOwn(1, 408, complete(408))
		p.wantClosed()
		s.wantServed(0)
		trickle.Wait()
	})
}

// Nor can one that reads nothing.
func TestShutdownWithADeafClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(context.Context, *protocol.Request) (uint32, error) { return 1, nil })
		settings.Limits.WriteTimeout = 0
		s := serve(t, settings)
		s.dialDeaf().Write(get(1, true))
		synctest.Wait()
		s.stop()
		s.wantServed(settings.Grace + lingerTime)
	})
}

// A program that runs on without its client is waited for, and ended too.
func TestShutdownOfWhatRunsOn(t *testing.T) {
	for _, patient := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			causes := make(chan error, 1)
			settings := testSettings(func(ctx context.Context, _ *protocol.Request) (uint32, error) {
				select {
				case <-ctx.Done():
				case <-time.After(map[bool]time.Duration{true: 4, false: 10}[patient] * time.Second):
				}
				causes <- context.Cause(ctx)
				return 0, nil
			})
			settings.OnAbort, settings.InPlace = AbortIgnore, false
			s := serve(t, settings)
			p := s.dial()
			p.send(get(1, true))
			synctest.Wait()
			p.nc.Close()
			s.want(Aborted, 0, complete(0))
			s.stop()
			s.wantServed(map[bool]time.Duration{true: 4, false: 5}[patient] * time.Second)
			if got, want := <-causes, map[bool]error{true: nil, false: ErrShutdown}[patient]; got != want {
				t.Errorf("program was ended by %v, want %v", got, want)
			}
		})
	}
}

// A program that is slow to end is waited for.
func TestServeWaitsForRunners(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(ctx context.Context, _ *protocol.Request) (uint32, error) {
			<-ctx.Done()
			time.Sleep(time.Minute)
			return 0, nil
		})
		settings.InPlace = false
		s := serve(t, settings)
		p := s.dial()
		p.send(get(1, false))
		synctest.Wait()
		p.nc.Close()
		synctest.Wait()
		s.stop()
		s.wantServed(time.Minute)
	})
}

// One of several listeners may be closed alone.
func TestSeveralListeners(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		other := newPipeListener()
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- NewAddress(s.Server).Serve(ctx, other) }()
		near, far := net.Pipe()
		other.Take(far)
		second, first := newPeer(t, near), s.dial()
		for _, p := range []*peer{first, second} {
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, 0)
		}
		stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		second.wantClosed()
		first.send(get(1, true))
		first.wantAnswer(1, helloAnswer, 0)
	})
}

// A request keeps the settings that it began with.
func TestUpdate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		old := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			time.Sleep(time.Minute)
			return writes(0, plainHeader+"old")(ctx, req)
		})
		s := serve(t, old)
		p := s.dial()
		p.send(begin(1, true))
		p.wantSilence()
		fresh := testSettings(writes(0, plainHeader+"new"))
		fresh.Timeout, fresh.Limits.Body, fresh.Limits.Params = time.Second, 1, 4
		s.Update(fresh)
		p.send(params(1, "CONTENT_LENGTH", "5"), part(1, "12345"), part(1, ""))
		p.send(get(2, true))
		p.wantAnswer(2, plainHeader+"new", 0)
		p.wantAnswer(1, plainHeader+"old", 0)
		p.send(post(1, true, "12"))
		p.wantOwn(1, 431, complete(431))
		if got := s.Snapshot().Limits; got != fresh.Limits {
			t.Errorf("limits are %+v", got)
		}
	})
}

// Nothing is lost when settings change under load.
func TestUpdateUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		name := func(i int) runnerFunc {
			return func(ctx context.Context, req *protocol.Request) (uint32, error) {
				time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
				return writes(0, plainHeader, fmt.Sprint(i%2))(ctx, req)
			}
		}
		s := serve(t, testSettings(name(0)))
		var clients sync.WaitGroup
		for range 8 {
			p := s.dial()
			clients.Go(func() {
				for range 50 {
					p.send(post(1, true, strings.Repeat("x", rand.IntN(9000))))
					if a := p.answer(1); a.stdout != plainHeader+"0" && a.stdout != plainHeader+"1" {
						t.Errorf("answer is %+v", a)
					}
				}
			})
		}
		stop := make(chan struct{})
		var updates sync.WaitGroup
		updates.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond):
				}
				fresh := testSettings(name(i))
				fresh.Limits.MaxReqs = 1 + i%5
				fresh.Limits.WriteTimeout = time.Duration(i%2) * time.Second
				s.Update(fresh)
			}
		})
		clients.Wait()
		close(stop)
		updates.Wait()
		s.wantErrors()
	})
}

// A failingListener fails a few times before it accepts.
type failingListener struct {
	*pipeListener
	errs []error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if len(l.errs) == 0 {
		return l.pipeListener.Accept()
	}
	err := l.errs[0]
	l.errs = l.errs[1:]
	return nil, &net.OpError{Op: "accept", Net: "unix", Err: err}
}

// Running out of something ends no server; it does not spin meanwhile either.
func TestAcceptSurvives(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := &failingListener{pipeListener: newPipeListener()}
		for range 12 {
			l.errs = append(l.errs, syscall.EMFILE)
		}
		l.errs = append(l.errs, syscall.ECONNABORTED, syscall.ENFILE)
		s := startServer(t, l, testSettings(hello))
		near, far := net.Pipe()
		began := time.Now()
		l.Take(far)
		if took := time.Since(began); took < 3*time.Second || took > 10*time.Second {
			t.Errorf("accepted after %v", took)
		}
		p := newPeer(t, near)
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		s.wantErrors()
	})
}

// A pause is not slept to its end when the server stops.
func TestAcceptPauseEndsWithTheServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := &failingListener{pipeListener: newPipeListener()}
		for range 100 {
			l.errs = append(l.errs, syscall.EMFILE)
		}
		s := startServer(t, l, testSettings(hello))
		time.Sleep(5500 * time.Millisecond)
		s.stop()
		s.wantServed(0)
	})
}

// When the listener breaks, those who are connected are still served.
func TestBrokenListener(t *testing.T) {
	for _, broken := range []error{net.ErrClosed, io.ErrUnexpectedEOF} {
		bubble(t, func(t *testing.T) {
			l := &failingListener{pipeListener: newPipeListener()}
			s := New(testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
				time.Sleep(time.Second)
				return hello(ctx, req)
			}), Options{})
			served := make(chan error)
			go func() { served <- NewAddress(s).Serve(t.Context(), l) }()
			near, far := net.Pipe()
			l.Take(far)
			p := newPeer(t, near)
			p.send(get(1, true))
			synctest.Wait()
			l.errs = []error{broken}
			_, last := net.Pipe()
			l.Take(last)
			p.wantAnswer(1, helloAnswer, 0)
			p.wantClosed()
			if err := <-served; !errors.Is(err, broken) {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

// A connection that has had a request aborted, or an Authorizer, is drained like
// any other: nothing of those is still to come.
func TestDrainAfterAbort(t *testing.T) {
	for name, before := range map[string][]byte{
		"abort":      slices.Concat(begin(1, true), params(1), abort(1)),
		"authorizer": slices.Concat(protocol.AppendBegin(nil, 1, protocol.Begin{Role: protocol.RoleAuthorizer, Keep: true}), params(1)),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, testSettings(hello))
				p := s.dial()
				p.send(before)
				p.answer(1)
				synctest.Wait()
				for c := range s.conns {
					if len(c.table.trailing) > 0 {
						t.Error("something is still to come")
					}
				}
				s.stop()
				p.wantClosed()
				s.wantServed(0)
			})
		})
	}
}

// Requests that begin at the moment of the stop are answered, however long they
// take. Time is real: it has to be longer than the last call.
func TestShutdownWhileRequestsBegin(t *testing.T) {
	settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
		select {
		case <-ctx.Done():
		case <-time.After(lastCallTime + 200*time.Millisecond):
		}
		return hello(ctx, req)
	})
	settings.Limits.MaxReqs = 0
	s := listen(t, "unix", settings)
	var peers []*peer
	for range 100 {
		peers = append(peers, s.connect())
	}
	// Those that wait in the kernel are closed with the listener.
	for s.Snapshot().Connections < len(peers) {
		runtime.Gosched()
	}
	var sending sync.WaitGroup
	for i, p := range peers {
		sending.Go(func() { p.send(get(1, true)) })
		if i == len(peers)/2 {
			s.stop()
		}
	}
	sending.Wait()
	for _, p := range peers {
		p.wantAnswer(1, helloAnswer, 0)
	}
}
