package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// stages bring request 2 of a connection into each stage that there is. The
// server runs one request at once.
var inStages = []struct {
	name string
	runs bool // its program has begun
	wire func() []byte
}{
	{"params", false, func() []byte { return begin(2, true) }},
	{"body", false, func() []byte { return append(begin(2, true), append(params(2), part(2, "x")...)...) }},
	{"queued", false, func() []byte { return get(2, true) }},
	{"running", true, func() []byte { return get(2, true) }},
	{"ending", false, func() []byte { return append(begin(2, true), params(2, "CONTENT_LENGTH", "9999999")...) }},
}

// A stageServer runs one request at once and notes how each ended.
type stageServer struct {
	*testServer
	p      *peer
	causes chan error // of the contexts of those that ran
}

func startStage(t *testing.T, i int, ignore bool) *stageServer {
	s := &stageServer{causes: make(chan error, 10)}
	settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
		if req.Params.Get("HELLO") != "" {
			s.causes <- nil
			return hello(ctx, req)
		}
		_, err := untilDone(ctx, req)
		s.causes <- err
		return 0, err
	})
	settings.Limits.MaxReqs = 1
	if ignore {
		settings.OnAbort = AbortIgnore
	}
	s.testServer = serve(t, settings)
	if inStages[i].name == "queued" {
		s.dial().send(get(1, true))
		synctest.Wait()
	}
	s.p = s.dial()
	s.p.send(inStages[i].wire())
	s.p.wantSilence()
	open := s.Requests()
	if got := open[len(open)-1].Stage; got != inStages[i].name {
		t.Fatalf("stage is %q, want %q", got, inStages[i].name)
	}
	return s
}

// wantCause checks why the program that has run was ended.
func (s *stageServer) wantCause(t *testing.T, i int, cause error) {
	t.Helper()
	synctest.Wait()
	if inStages[i].runs {
		if got := <-s.causes; got != cause {
			t.Errorf("program was ended by %v, want %v", got, cause)
		}
	}
	if len(s.causes) > 0 {
		t.Errorf("another one ran: %v", <-s.causes)
	}
}

// Section 5.4: the application answers with END_REQUEST, and there is nothing
// in STDOUT that the client would want.
func TestAbortInEachStage(t *testing.T) {
	for i, st := range inStages {
		t.Run(st.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := startStage(t, i, false)
				s.p.send(abort(2))
				s.p.wantAnswer(2, "", 0)
				s.wantCause(t, i, ErrAborted)
				if r := s.result(); r.Outcome != Aborted || r.Sent != 0 || !errors.Is(r.Reason, ErrAborted) {
					t.Errorf("result is %+v", r)
				}
				s.p.send(abort(2), params(2, "A", "b"), part(2, "rest"), part(2, ""))
				s.p.send(get(2, true, "HELLO", "1"))
				if st.name != "queued" {
					s.p.wantAnswer(2, helloAnswer, 0)
				}
				s.wantErrors()
			})
		})
	}
}

func TestClientGoneInEachStage(t *testing.T) {
	for i, st := range inStages {
		t.Run(st.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := startStage(t, i, false)
				s.p.nc.Close()
				s.wantCause(t, i, ErrClientGone)
				if r := s.result(); r.Outcome != Aborted || r.Sent != 0 || !errors.Is(r.Reason, ErrClientGone) {
					t.Errorf("result is %+v", r)
				}
				s.wantErrors()
				synctest.Wait() // a request is reported before it is taken off
				if n := len(s.Requests()); n != 0 && st.name != "queued" {
					t.Errorf("%d requests are open", n)
				}
			})
		})
	}
}

// The records of a request that was aborted may still be on their way.
func TestAbortOfAnUnknownRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(hello))
		p := s.dial()
		p.send(abort(1), abort(65535))
		p.wantSilence()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		p.send(abort(1))
		p.wantSilence()
		s.wantErrors()
	})
}

// With on_client_abort ignore a program that runs goes on and does not notice.
func TestIgnoreAbort(t *testing.T) {
	for _, how := range []string{"abort", "close", "abort and close"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				release, ended := make(chan struct{}), make(chan error, 1)
				settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
					<-release
					_, err := hello(ctx, req)
					if _, werr := req.Stdout.Write(make([]byte, 1<<20)); err == nil {
						err = werr
					}
					req.Stderr.Write([]byte("message"))
					ended <- errors.Join(err, ctx.Err())
					return 0, nil
				})
				settings.OnAbort = AbortIgnore
				s := serve(t, settings)
				p := s.dial()
				p.send(get(1, true))
				p.wantSilence()
				if how != "close" {
					p.send(abort(1))
					p.wantAnswer(1, "", 0)
				}
				if how != "abort" {
					p.nc.Close()
				}
				if r := s.result(); r.Outcome != Aborted {
					t.Errorf("result is %+v", r)
				}
				synctest.Wait()
				connections := 0 // a client that is gone counts no more
				if how == "abort" {
					connections = 1
				}
				if got := s.Snapshot(); got.InFlight != 1 || got.Connections != connections || len(s.Requests()) != 1 || len(ended) != 0 {
					t.Errorf("program has ended; snapshot is %+v", got)
				}
				close(release)
				if err := <-ended; err != nil {
					t.Errorf("program notices: %v", err)
				}
				synctest.Wait()
				if got := s.Snapshot().InFlight; got != 0 {
					t.Errorf("%d are in flight", got)
				}
				s.noMoreResults()
			})
		})
	}
}

// With on_client_abort close a program that runs goes on, and what it writes from then
// on fails; its timeout ends it all the same.
func TestCloseOnAbort(t *testing.T) {
	for _, how := range []string{"abort", "close"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				release, wrote, ended := make(chan struct{}), make(chan error, 1), make(chan error, 1)
				settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
					<-release
					_, err := hello(ctx, req)
					wrote <- errors.Join(err, ctx.Err())
					<-ctx.Done()
					ended <- context.Cause(ctx)
					return 0, err
				})
				settings.OnAbort, settings.Timeout = AbortClose, time.Hour
				s := serve(t, settings)
				p := s.dial()
				p.send(get(1, true))
				p.wantSilence()
				if how == "abort" {
					p.send(abort(1))
					p.wantAnswer(1, "", 0)
				} else {
					p.nc.Close()
				}
				if r := s.result(); r.Outcome != Aborted {
					t.Errorf("result is %+v", r)
				}
				synctest.Wait()
				close(release)
				if err := <-wrote; !errors.Is(err, protocol.ErrClientLeft) {
					t.Errorf("the program's write: %v", err)
				}
				if got := s.Snapshot().InFlight; got != 1 {
					t.Errorf("%d are in flight", got)
				}
				if err := <-ended; !errors.Is(err, ErrTimeout) {
					t.Errorf("it was ended with %v", err)
				}
				synctest.Wait()
				s.noMoreResults()
			})
		})
	}
}

// A program that writes when its client goes must not notice either.
func TestIgnoreAbortWhileWriting(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan error, 1)
		wait := make(chan struct{})
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			hello(ctx, req)
			<-wait
			for range 100 {
				if _, err := req.Stdout.Write(make([]byte, 100_000)); err != nil {
					ended <- err
					return 1, err
				}
			}
			ended <- ctx.Err()
			return 0, nil
		})
		settings.OnAbort = AbortIgnore
		s := serve(t, settings)
		p := s.dial()
		p.send(get(1, true))
		if got := p.next(); got.Content != helloAnswer {
			t.Fatalf("got %v", got)
		}
		close(wait)
		p.next()
		p.nc.Close()
		if err := <-ended; err != nil {
			t.Errorf("program notices: %v", err)
		}
	})
}

// What has not begun to run is not begun for a client that has gone.
func TestIgnoreAbortOfWhatDoesNotRun(t *testing.T) {
	for i, st := range inStages[:3] {
		t.Run(st.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := startStage(t, i, true)
				s.p.send(abort(2))
				s.p.wantAnswer(2, "", 0)
				s.wantCause(t, i, nil)
				if got := s.Snapshot().Queued; got != 0 {
					t.Errorf("%d wait", got)
				}
			})
		})
	}
}

// A body that will not be whole ends its program, whatever the setting.
func TestIgnoreAbortInTheBody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan error, 1)
		settings := liveSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			_, err := req.Stdin.Read(make([]byte, 8))
			for err == nil {
				_, err = req.Stdin.Read(make([]byte, 8))
			}
			ended <- err
			return untilDone(ctx, req)
		})
		settings.OnAbort, settings.Limits.BodyMemory = AbortIgnore, 8
		p := serve(t, settings).dial()
		p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100"), part(1, "12345678"))
		p.wantSilence()
		p.nc.Close()
		if err := <-ended; err != ErrClientGone {
			t.Errorf("STDIN ends with %v", err)
		}
	})
}

// What a Runner has asked for when its request is cancelled is done once, then, and
// not after it has said that it is not wanted any more.
func TestAfterCancel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		called := make(chan string, 3)
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			if !req.AfterCancel(ctx, func() { called <- "forgotten" })() {
				t.Error("a call before the end has prevented nothing")
			}
			stop := req.AfterCancel(ctx, func() { called <- "asked for" })
			<-ctx.Done()
			synctest.Wait()
			if stop() {
				t.Error("a call after the end has prevented something")
			}
			if req.AfterCancel(ctx, func() { called <- "asked for too late" })() {
				t.Error("a call after the end has prevented something")
			}
			return 0, context.Cause(ctx)
		})
		ts := serve(t, settings)
		p := ts.dial()
		p.send(get(1, true))
		synctest.Wait()
		if len(called) > 0 {
			t.Errorf("called before the end: %s", <-called)
		}
		p.send(abort(1))
		p.wantAnswer(1, "", 0)
		if got := []string{<-called, <-called}; len(called) > 0 || got[0] != "asked for" || got[1] != "asked for too late" {
			t.Errorf("called %q and %d more", got, len(called))
		}
	})
}

// A request that ends by itself calls nothing.
func TestAfterCancelOfWhatEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ts := serve(t, testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			stop := req.AfterCancel(ctx, func() { t.Error("called") })
			defer stop()
			return hello(ctx, req)
		}))
		p := ts.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
	})
}
