package server

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A writeCounter counts the writes to a connection.
type writeCounter struct {
	net.Conn
	mu     sync.Mutex // guards the field below
	writes int
}

func (w *writeCounter) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.writes++
	w.mu.Unlock()
	return w.Conn.Write(p)
}

// dialCounted is dial with the server's writes counted.
func (ts *testServer) dialCounted() (*peer, *writeCounter) {
	ts.t.Helper()
	near, far := net.Pipe()
	counter := &writeCounter{Conn: far}
	ts.l.(*pipeListener).Take(counter)
	return newPeer(ts.t, near), counter
}

func writeLast(req *protocol.Request, text string) error {
	_, err := req.Stdout.(protocol.LastWriter).WriteLast([]byte(text))
	return err
}

// What is written last leaves together with END_REQUEST, if it is little.
func TestWriteLast(t *testing.T) {
	large := strings.Repeat("x", maxHeld+1)
	for _, tt := range []struct {
		name   string
		method string
		run    func(req *protocol.Request) error
		want   string
		writes int // 0 is any number
	}{
		{"whole", "GET", func(req *protocol.Request) error { return writeLast(req, helloAnswer) }, helloAnswer, 1},
		{"header only", "GET", func(req *protocol.Request) error { return writeLast(req, plainHeader) }, plainHeader, 1},
		{"HEAD", "HEAD", func(req *protocol.Request) error { return writeLast(req, helloAnswer) }, plainHeader, 1},
		{"and nothing more", "GET", func(req *protocol.Request) error {
			return errors.Join(writeLast(req, helloAnswer), writeLast(req, ""))
		}, helloAnswer, 1},
		{"after some of it", "GET", func(req *protocol.Request) error {
			_, err := io.WriteString(req.Stdout, helloAnswer)
			return errors.Join(err, writeLast(req, "last"))
		}, helloAnswer + "last", 2},
		{"and yet more", "GET", func(req *protocol.Request) error {
			err := writeLast(req, helloAnswer)
			_, err2 := io.WriteString(req.Stdout, "more")
			return errors.Join(err, err2, writeLast(req, "last"))
		}, helloAnswer + "morelast", 2},
		{"header in parts", "GET", func(req *protocol.Request) error {
			return errors.Join(writeLast(req, plainHeader[:5]), writeLast(req, plainHeader[5:]))
		}, plainHeader, 1},
		{"large", "GET", func(req *protocol.Request) error { return writeLast(req, plainHeader+large) }, plainHeader + large, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
					return 0, tt.run(req)
				}))
				p, counter := s.dialCounted()
				p.send(get(1, true, "REQUEST_METHOD", tt.method))
				p.wantAnswer(1, tt.want, 0)
				if tt.writes > 0 && counter.writes != tt.writes {
					t.Errorf("%d writes, want %d", counter.writes, tt.writes)
				}
				if r := s.result(); r.Outcome != OK || r.Sent != int64(len(tt.want)) || r.HTTPStatus != 200 {
					t.Errorf("result is %+v", r)
				}
			})
		})
	}
}

// What is held has not left: a runner that fails after it is answered for.
func TestWriteLastThenFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			writeLast(req, helloAnswer)
			return 7, errors.New("broke")
		}))
		p := s.dial()
		p.send(get(1, true))
		p.wantOwn(1, 502, complete(7))
	})
}

// Goexit is a failure of that request alone.
func TestRunnerThatExitsItsGoroutine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			if req.Params.Get("BEGIN") != "" {
				io.WriteString(req.Stdout, helloAnswer)
			}
			runtime.Goexit()
			return 0, nil
		})
		settings.Limits.MaxReqs = 1
		s := serve(t, settings)
		p := s.dial()
		p.send(get(1, true))
		p.wantOwn(1, 500, complete(500))
		p.send(get(1, true, "BEGIN", "1"))
		p.wantAnswer(1, helloAnswer, 500)
		s.result()
		if r := s.result(); r.Outcome != Failed || !errors.Is(r.Reason, errGoexit) {
			t.Errorf("result is %+v", r)
		}
		synctest.Wait()
		if n := len(s.Requests()); n != 0 {
			t.Errorf("%d requests are open", n)
		}
	})
}

// A Runner that refuses because its client has gone has not failed.
func TestRefusalOfALostClient(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(func(ctx context.Context, _ *protocol.Request) (uint32, error) {
			<-ctx.Done()
			return 0, &protocol.Refusal{HTTPStatus: 500, AppStatus: 500, Reason: context.Cause(ctx)}
		}))
		p := s.dial()
		p.send(get(1, true))
		synctest.Wait()
		p.nc.Close()
		if r := s.result(); r.Outcome != Aborted {
			t.Errorf("result is %+v", r)
		}
	})
}

// Runners that do not return keep Serve no longer than Abandon.
func TestShutdownAbandonsRunners(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		settings := testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			if req.Params.Get("STAY") != "" {
				<-release
			}
			return hello(context.Background(), req)
		})
		settings.Abandon = time.Second
		s := New(settings, Options{})
		l := newPipeListener()
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- NewAddress(s).Serve(ctx, l) }()
		ts := &testServer{Server: s, t: t, l: l}
		a, b, idle := ts.dial(), ts.dial(), ts.dial()
		a.send(get(1, true, "STAY", "1"), get(2, true, "STAY", "1"), get(3, true))
		a.wantAnswer(3, helloAnswer, 0)
		b.send(get(1, true, "STAY", "1"))
		idle.send(get(1, true))
		idle.wantAnswer(1, helloAnswer, 0)
		synctest.Wait()
		stop()
		began := time.Now()
		b.wantOwn(1, 503, overloaded)
		a.wantOwn(1, 503, overloaded)
		a.wantOwn(2, 503, overloaded)
		took(t, began, settings.Grace)
		err := <-served
		if !errors.Is(err, ErrAbandoned) || !strings.Contains(err.Error(), "3 are left") {
			t.Errorf("Serve: %v", err)
		}
		took(t, began, settings.Grace+lingerTime+settings.Abandon)
		close(release)
		synctest.Wait()
		if n := len(s.Requests()); n != 0 {
			t.Errorf("%d requests are open", n)
		}
	})
}

// Where nothing is left, Abandon is not waited for.
func TestShutdownWithoutAnythingToAbandon(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(untilDone)
		settings.Abandon = time.Second
		s := serve(t, settings)
		p := s.dial()
		p.send(get(1, true))
		synctest.Wait()
		s.stop()
		p.wantOwn(1, 503, overloaded)
		s.wantServed(0)
	})
}

// A Runner that goes on after a header that is none cannot make it good.
func TestWriteAfterABadHeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			io.WriteString(req.Stdout, "this is no header\r\n\r\n")
			for range 3 {
				io.WriteString(req.Stdout, "x")
				io.WriteString(req.Stdout, helloAnswer)
			}
			return 0, nil
		}))
		p := s.dial()
		p.send(get(1, true))
		p.wantOwn(1, 502, complete(500))
	})
}
