package server

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

const helloFromTwo = "Content-Type: text/plain\r\n\r\nfrom two"

// pooled is a Server that has no address, and the results of its requests.
func pooled(settings Settings) (*Server, chan Result) {
	done := make(chan Result, 1<<10)
	return New(settings, Options{Hooks: Hooks{Done: func(r *Result) { done <- *r }}}), done
}

// After a Move each request begins under the Server that has the address now, on
// connections of before, too; what had begun ends where it began.
func TestMove(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		one := serve(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			<-release
			return hello(t.Context(), req)
		}))
		two, done := pooled(testSettings(writes(0, helloFromTwo)))
		p := one.dial()
		p.send(get(1, true), begin(2, true))
		synctest.Wait()

		one.at.Move(two)
		p.send(get(3, true))
		p.wantAnswer(3, helloFromTwo, 0)
		synctest.Wait()
		if s := one.Snapshot(); s.Connections != 0 || s.InFlight != 1 || len(one.Requests()) != 2 {
			t.Errorf("the old one has %d connections, %d requests run, %d are listed", s.Connections, s.InFlight, len(one.Requests()))
		}
		if s := two.Snapshot(); s.Connections != 1 || len(two.Requests()) != 0 {
			t.Errorf("the new one has %d connections, %d requests are listed", s.Connections, len(two.Requests()))
		}

		drained := make(chan error, 1)
		go func() { drained <- one.Drain() }()
		synctest.Wait()
		if len(drained) > 0 {
			t.Error("Drain has returned, and a request runs")
		}
		p.send(params(2), rec(protocol.TypeParams, 2, ""), rec(protocol.TypeStdin, 2, ""))
		close(release)
		for range 2 {
			one.result()
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(done) != 1 {
			t.Errorf("the new one has told of %d results, want 1", len(done))
		}
		p.nc.Close()
		synctest.Wait()
		if s := two.Snapshot(); s.Connections != 0 || len(two.conns)+len(one.conns) != 0 {
			t.Errorf("%d connections are left", s.Connections)
		}
	})
}

// Drain ends what has not ended after Grace, and nothing else: the connection goes on.
func TestDrainEndsWhatMoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := serve(t, testSettings(untilDone))
		two, _ := pooled(testSettings(writes(0, helloFromTwo)))
		p := one.dial()
		p.send(get(1, true))
		synctest.Wait()
		one.at.Move(two)
		if err := one.Drain(); err != nil {
			t.Error(err)
		}
		if r := one.result(); !errors.Is(r.Reason, ErrShutdown) {
			t.Errorf("it has ended for %v", r.Reason)
		}
		p.answer(1)
		p.send(get(2, true))
		p.wantAnswer(2, helloFromTwo, 0)
	})
}

// A Runner that does not return is given up by the settings of its request, by Drain
// and by the Serve of whoever has the address.
func TestMovedRunnerIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		settings := testSettings(func(context.Context, *protocol.Request) (uint32, error) {
			<-release
			return 0, nil
		})
		settings.Abandon = time.Second
		one, _ := pooled(settings)
		two, _ := pooled(testSettings(hello))
		l := newPipeListener()
		at, served := NewAddress(one), make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		go func() { served <- at.Serve(ctx, l) }()
		near, far := net.Pipe()
		l.Take(far)
		p := newPeer(t, near)
		p.send(get(1, true))
		synctest.Wait()
		at.Move(two)
		if err := one.Drain(); !errors.Is(err, ErrAbandoned) {
			t.Errorf("Drain: %v", err)
		}
		stop()
		if err := <-served; !errors.Is(err, ErrAbandoned) {
			t.Errorf("Serve: %v", err)
		}
		close(release)
	})
}

// max_conns counts the connections that have come with an address, and no more those
// that have gone with it.
func TestMovedConnectionsCount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(untilDone)
		settings.Limits.MaxConns, settings.InPlace = 1, false
		one := serve(t, settings)
		p := one.dial()
		p.send(get(1, true)) // it is not idle
		synctest.Wait()
		settings.Runner = runnerFunc(hello)
		two, _ := pooled(settings)
		one.at.Move(two)
		at := NewAddress(one.Server)
		if !at.enter(newConn(at, p.nc), false) {
			t.Error("the old one has no room")
		}
		at = NewAddress(two)
		if at.enter(newConn(at, p.nc), false) {
			t.Error("the new one has room")
		}
		p.nc.Close()
		synctest.Wait()
		if !at.enter(newConn(at, p.nc), false) {
			t.Error("the new one has no room when the connection has gone")
		}
	})
}

// An address that goes to and fro loses no request, and each is known to one Server.
func TestMoveUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const requests = 200
		one := serve(t, testSettings(hello))
		two, _ := pooled(testSettings(hello))
		stopped, moving, moves := make(chan struct{}), make(chan struct{}), make(chan int)
		go func() {
			n := 0
			for ; ; n++ {
				if n == 2 {
					close(moving)
				}
				select {
				case <-stopped:
					moves <- n
					return
				default:
					one.at.Move([]*Server{two, one.Server}[n%2])
				}
			}
		}()
		p := one.dial()
		<-moving // a busy machine may run nothing of it before the last request
		for range requests {
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, 0)
		}
		close(stopped)
		if n := <-moves; n < 2 {
			t.Errorf("it was moved %d times", n)
		}
		synctest.Wait()
		for _, s := range []*Server{one.Server, two} {
			if n := len(s.Requests()); n != 0 {
				t.Errorf("%d requests are left", n)
			}
		}
		if a, b := one.Snapshot().Connections, two.Snapshot().Connections; a+b != 1 {
			t.Errorf("they have %d and %d connections, want one", a, b)
		}
	})
}
