package server

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// A nudgedListener is a pipeListener whose Accept can be woken.
type nudgedListener struct {
	*pipeListener
	accepted chan accepted
	nudged   chan struct{}
}

type accepted struct {
	conn net.Conn
	err  error
}

func newNudgedListener() *nudgedListener {
	l := &nudgedListener{newPipeListener(), make(chan accepted), make(chan struct{}, 1)}
	go func() {
		for {
			nc, err := l.pipeListener.Accept()
			l.accepted <- accepted{nc, err}
			if err != nil {
				return
			}
		}
	}()
	return l
}

func (l *nudgedListener) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepted:
		return a.conn, a.err
	case <-l.nudged:
		return nil, &net.OpError{Op: "accept", Err: os.ErrDeadlineExceeded}
	}
}

func (l *nudgedListener) Nudge() error {
	select {
	case l.nudged <- struct{}{}:
	default:
	}
	return nil
}

// probe waits for an hour at most.
func probe(a *Address) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	return a.Probe(ctx)
}

func TestProbeOfAnAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newNudgedListener()
		s := startServer(t, l, testSettings(hello))
		for range 3 {
			if err := probe(s.at); err != nil {
				t.Errorf("an idle loop: %v", err)
			}
			p := newPeer(t, l.Dial())
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, 0)
		}
		s.stop()
		<-s.served
		if err := probe(s.at); err != nil {
			t.Errorf("a loop that has ended: %v", err)
		}
		s.wantErrors()
	})
}

// Connections that wait for room hold up those behind them, which is what max_conns is
// for: the loop moves.
func TestProbeOfAFullPool(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(untilDone)
		settings.Limits.MaxConns = 1
		l := newNudgedListener()
		s := startServer(t, l, settings)
		busy := newPeer(t, l.Dial())
		busy.send(get(1, true))
		synctest.Wait()
		waiting := newPeer(t, l.Dial())
		synctest.Wait()
		for range 3 {
			if err := probe(s.at); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		busy.nc.Close()
		waiting.nc.Close()
	})
}

// Something that Serve calls does not return.
func TestProbeOfAStuckLoop(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		l := newNudgedListener()
		s := New(testSettings(hello), Options{})
		a := NewAddress(s)
		a.Context = func(net.Conn) context.Context { <-release; return context.Background() }
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error)
		go func() { served <- a.Serve(ctx, l) }()
		if err := probe(a); err != nil {
			t.Errorf("before: %v", err)
		}
		nc := l.Dial()
		synctest.Wait()
		if err := probe(a); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while it is stuck: %v", err)
		}
		close(release)
		if err := probe(a); err != nil {
			t.Errorf("after: %v", err)
		}
		nc.Close()
		stop()
		<-served
	})
}

// Whoever is full, paused or drained moves; what nobody is to notice takes no place.
func TestProbeOfAdmission(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(untilDone)
		settings.Limits.MaxReqs, settings.Limits.Queue = 1, 1
		s := serve(t, settings)
		p := s.dial()
		for id := uint16(1); id <= 2; id++ {
			p.send(get(id, true))
			synctest.Wait()
		}
		for _, g := range []Gate{GateOpen, GateHold, GateRefuse, GateOpen} {
			s.SetGate(g)
			if err := s.Probe(); err != nil {
				t.Errorf("gate %v: %v", g, err)
			}
		}
		if now := s.Snapshot(); now.InFlight != 1 || now.Queued != 1 {
			t.Errorf("%d run, %d wait", now.InFlight, now.Queued)
		}
		s.admission.mu.Lock()
		s.admission.running-- // a place that nobody was told of
		s.admission.mu.Unlock()
		if err := s.Probe(); err == nil {
			t.Error("a request waits that could run, and the probe says nothing")
		}
		s.admission.mu.Lock()
		s.admission.running++
		s.admission.mu.Unlock()
		p.nc.Close()
	})
}
