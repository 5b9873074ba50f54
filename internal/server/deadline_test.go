package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// took fails unless it is want since began.
func took(t *testing.T, began time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(began); got != want {
		t.Errorf("took %v, want %v", got, want)
	}
}

// PARAMS have to be complete within read_timeout, however lively they come.
func TestTricklingParams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		p := s.dial()
		began := time.Now()
		p.send(begin(1, true))
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for range 60 {
				for _, b := range rec(protocol.TypeParams, 1, "\x01\x01Ab") {
					if _, err := p.nc.Write([]byte{b}); err != nil {
						return
					}
					time.Sleep(time.Second / 2)
				}
			}
		}()
		p.wantOwn(1, 408, complete(408))
		took(t, began, 30*time.Second)
		s.want(TimedOut, 408, complete(408))
		p.wantClosed() // what still comes is of no request
		<-stop
		if len(s.done) != 0 {
			t.Errorf("reported: %+v", <-s.done)
		}
	})
}

func TestSilentBody(t *testing.T) {
	for _, running := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			settings := testSettings(untilDone)
			settings.Limits.RequestBuffering = !running
			s := serve(t, settings)
			p := s.dial()
			p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100"))
			time.Sleep(20 * time.Second)
			p.send(part(1, "x"))
			began := time.Now()
			p.wantOwn(1, 408, complete(408))
			took(t, began, 30*time.Second)
			if r := s.want(TimedOut, 408, complete(408)); r.Reason == nil || (r.Run == 0) == running {
				t.Errorf("result is %+v", r)
			}
			p.wantClosed()
			s.wantErrors()
		})
	}
}

// A body that trickles is not ended: neither record by record nor byte by byte.
func TestTricklingBody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, testSettings(echo)).dial()
		body := strings.Repeat("x", 100)
		p.send(begin(1, true), params(1, "CONTENT_LENGTH", "200"))
		for range 10 {
			time.Sleep(29 * time.Second)
			p.send(part(1, body[:10]))
		}
		for _, b := range part(1, body) {
			time.Sleep(29 * time.Second)
			p.send([]byte{b})
		}
		time.Sleep(29 * time.Second)
		p.send(part(1, ""))
		p.wantAnswer(1, plainHeader+body+body, 0)
	})
}

// One that stops within a record is.
func TestBodyThatStopsInARecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, testSettings(echo)).dial()
		p.send(begin(1, true), params(1), part(1, "some body")[:12])
		began := time.Now()
		p.wantOwn(1, 408, complete(408))
		took(t, began, 30*time.Second)
	})
}

// A request that waits or runs has nothing to send, so its client may be silent.
func TestNoReadTimeoutAfterStdin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			time.Sleep(time.Hour)
			return hello(ctx, req)
		})
		settings.Limits.IdleTimeout = time.Second
		p := serve(t, settings).dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
	})
}

// A silent request on a connection does not end its neighbours.
func TestReadTimeoutOfOneOfMany(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, testSettings(echo)).dial()
		p.send(begin(1, true), params(1), begin(2, true), params(2))
		for range 12 {
			time.Sleep(5 * time.Second)
			p.send(part(2, "x"))
		}
		p.wantOwn(1, 408, complete(408))
		p.send(part(2, ""))
		p.wantAnswer(2, plainHeader+"xxxxxxxxxxxx", 0)
	})
}

func TestStalledHeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		time.Sleep(time.Hour)
		began := time.Now()
		p.send(begin(1, true)[:3])
		time.Sleep(20 * time.Second)
		p.send(begin(1, true)[3:5])
		p.wantClosed()
		took(t, began, 30*time.Second)
		s.wantErrors("stalled")
	})
}

// An idle connection is closed when it was idle for idle_timeout, not before,
// and one with a request is not idle.
func TestIdleTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			time.Sleep(15 * time.Second)
			return hello(ctx, req)
		})
		settings.Limits.IdleTimeout = 10 * time.Second
		s := serve(t, settings)
		never := s.dial()
		began := time.Now()
		never.wantClosed()
		took(t, began, 10*time.Second)

		p := s.dial()
		for range 3 {
			time.Sleep(9 * time.Second)
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, 0)
		}
		began = time.Now()
		p.wantClosed()
		took(t, began, 10*time.Second)
		s.wantErrors()
	})
}

// A connection is not idle while a record comes: it may be the beginning of a request.
func TestNotIdleInARecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		settings.Limits.IdleTimeout = 10 * time.Second
		s := serve(t, settings)
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		time.Sleep(9 * time.Second)
		p.send(begin(1, true)[:3])
		time.Sleep(2 * time.Second)
		p.send(begin(1, true)[3:], params(1), part(1, ""))
		p.wantAnswer(1, helloAnswer, 0)
		began := time.Now()
		p.wantClosed()
		took(t, began, 10*time.Second)

		p = s.dial()
		began = time.Now()
		p.send(begin(1, true)[:3])
		p.wantClosed()
		took(t, began, settings.Limits.ReadTimeout)
		s.wantErrors("stalled")
	})
}

// GET_VALUES is no request: it keeps no connection.
func TestValuesDoNotKeepAConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		settings.Limits.IdleTimeout = 10 * time.Second
		p := serve(t, settings).dial()
		time.Sleep(9 * time.Second)
		p.send(protocol.AppendGetValues(nil, protocol.MaxReqs))
		p.next()
		began := time.Now()
		p.wantClosed()
		took(t, began, time.Second)
	})
}

// Without timeouts nothing is ever closed.
func TestNoTimeouts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(echo)
		l := &settings.Limits
		l.ReadTimeout, l.WriteTimeout, l.IdleTimeout, l.QueueTimeout = 0, 0, 0, 0
		p := serve(t, settings).dial()
		for _, b := range post(1, true, "body") {
			time.Sleep(time.Hour)
			p.send([]byte{b})
		}
		p.wantAnswer(1, plainHeader+"body", 0)
	})
}

// A new write_timeout of 0 ends the deadline that was set before.
func TestWriteTimeoutIsTurnedOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		s := serve(t, settings)
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		settings.Limits.WriteTimeout = 0
		s.Update(settings)
		time.Sleep(time.Hour)
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
	})
}

// A strangeConn has an error of its own for a deadline, as multiplexers of streams do.
type strangeConn struct{ net.Conn }

type strangeTimeout struct{}

func (strangeTimeout) Error() string   { return "i/o deadline reached" }
func (strangeTimeout) Timeout() bool   { return true }
func (strangeTimeout) Temporary() bool { return true }

func (c strangeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = strangeTimeout{}
	}
	return n, err
}

// A deadline that has passed is no end of a connection, whatever it is called.
func TestStrangeTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		settings.Limits.IdleTimeout = time.Minute
		s := serve(t, settings)
		near, far := net.Pipe()
		s.l.(*pipeListener).Take(strangeConn{far})
		p := newPeer(t, near)
		for range 3 {
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, 0)
			time.Sleep(settings.Limits.IdleTimeout - time.Second)
		}
		began := time.Now()
		p.wantClosed()
		took(t, began, time.Second)
		s.wantErrors()
	})
}

// A deadConn is one that TCP's keepalive has given up: so says each read from now on.
type deadConn struct{ net.Conn }

func (deadConn) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Net: "tcp", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}
}

// A timeout of the connection's own is its end.
func TestTimeoutOfTheConnection(t *testing.T) {
	certificate()
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"plain": func(nc net.Conn) net.Conn { return deadConn{nc} },
		"TLS": func(nc net.Conn) net.Conn {
			return tls.Server(deadConn{nc}, &tls.Config{Certificates: []tls.Certificate{certificate()}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, testSettings(hello))
				near, far := net.Pipe()
				defer near.Close()
				s.l.(*pipeListener).Take(wrap(far))
				synctest.Wait()
				if got := s.Snapshot().Connections; got != 0 {
					t.Errorf("%d connections are left", got)
				}
			})
		})
	}
}
