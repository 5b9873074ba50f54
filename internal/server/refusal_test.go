package server

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// want checks outcome, HTTP status and END_REQUEST of the next result.
func (ts *testServer) want(outcome Outcome, httpStatus int, end protocol.End) Result {
	ts.t.Helper()
	r := ts.result()
	if r.Outcome != outcome || r.HTTPStatus != httpStatus || r.End != end || r.Reason == nil && outcome != OK && r.End.AppStatus == 0 {
		ts.t.Fatalf("result is %+v, want %v %d %+v", r, outcome, httpStatus, end)
	}
	return r
}

// Section 5.5. The refusal comes with the end of STDIN, like any other.
func TestUnknownRoles(t *testing.T) {
	for _, role := range []protocol.Role{protocol.RoleFilter, 0, 4, 65535} {
		t.Run(role.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, testSettings(hello))
				p := s.dial()
				unknown := protocol.End{AppStatus: 501, Status: protocol.StatusUnknownRole}
				p.send(protocol.AppendBegin(nil, 1, protocol.Begin{Role: role, Keep: true}))
				p.send(params(1, "SCRIPT_FILENAME", "/a"), part(1, "x"))
				if role == protocol.RoleFilter {
					p.send(rec(protocol.TypeData, 1, "x"), rec(protocol.TypeData, 1, ""))
				}
				p.wantSilence()
				p.send(part(1, ""))
				p.wantOwn(1, 501, unknown)
				if r := s.want(Rejected, 501, unknown); r.Params.Get("SCRIPT_FILENAME") != "/a" {
					t.Errorf("result is %+v", r)
				}
				p.send(get(1, true))
				p.wantAnswer(1, helloAnswer, 0)
				s.want(OK, 200, complete(0))

				p.send(protocol.AppendBegin(nil, 1, protocol.Begin{Role: role}), params(1), part(1, ""))
				p.wantOwn(1, 501, unknown)
				p.wantClosed()
				s.want(Rejected, 501, unknown)
				s.noMoreResults()
				s.wantErrors()
			})
		})
	}
}

func TestMultiplexOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(echo)
		settings.Limits.Multiplex = false
		s := serve(t, settings)
		p := s.dial()
		p.send(begin(1, true), get(2, true))
		cant := protocol.End{AppStatus: 503, Status: protocol.StatusCantMpxConn}
		p.wantOwn(2, 503, cant)
		s.want(Rejected, 503, cant)
		p.send(params(1), part(1, "one"), part(1, ""))
		p.wantAnswer(1, plainHeader+"one", 0)
		p.send(get(2, true))
		p.wantAnswer(2, plainHeader, 0)
		other := s.dial()
		other.send(get(1, true))
		other.wantAnswer(1, plainHeader, 0)
	})
}

// What is to be refused is refused when STDIN has ended, and nothing is run.
func TestRefusedWithoutRunning(t *testing.T) {
	tests := []struct {
		name   string
		params []byte
		status int
	}{
		{"CONTENT_LENGTH over limits.body", params(1, "CONTENT_LENGTH", "1048577"), 413},
		{"PARAMS over limits.params", params(1, "A", strings.Repeat("a", 10<<10), "B", strings.Repeat("b", 6<<10)), 431},
		{"PARAMS end in a pair", append(rec(protocol.TypeParams, 1, "\x03\x09abcd"), params(1)...), 400},
		{"PARAMS end in a length", append(rec(protocol.TypeParams, 1, "\x80\x00"), params(1)...), 400},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, testSettings(func(context.Context, *protocol.Request) (uint32, error) {
					t.Error("runs")
					return 0, nil
				}))
				p := s.dial()
				p.send(begin(1, true), tt.params)
				p.wantSilence()
				p.send(part(1, "something"))
				p.wantSilence()
				p.send(part(1, ""))
				p.wantOwn(1, tt.status, complete(uint32(tt.status)))
				if r := s.want(Rejected, tt.status, complete(uint32(tt.status))); r.Run != 0 || r.Received != 9 {
					t.Errorf("result is %+v", r)
				}
				p.wantSilence()
			})
		})
	}
}

// PARAMS of exactly limits.params are served.
func TestParamsAtTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		all := pairs("A", strings.Repeat("a", 300))
		settings.Limits.Params = int64(len(all))
		p := serve(t, settings).dial()
		p.send(begin(1, true), rec(protocol.TypeParams, 1, all[:100]), rec(protocol.TypeParams, 1, all[100:]), params(1), part(1, ""))
		p.wantAnswer(1, helloAnswer, 0)
		p.send(begin(1, true), rec(protocol.TypeParams, 1, all), rec(protocol.TypeParams, 1, "\x00"), params(1), part(1, ""))
		p.wantOwn(1, 431, complete(431))
	})
}

// One byte more than limits.body on the way.
func TestBodyOverTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(echo)
		settings.Limits.Body, settings.Limits.BodyMemory = 10, 4
		s := serve(t, settings)
		p := s.dial()

		p.send(begin(1, true), params(1), part(1, "0123456789"), part(1, ""))
		p.wantAnswer(1, plainHeader+"0123456789", 0)
		s.want(OK, 200, complete(0))

		p.send(begin(1, true), params(1), part(1, "0123456789"), part(1, "x"))
		p.wantSilence()
		p.send(part(1, "y"), part(1, ""))
		p.wantOwn(1, 413, complete(413))
		if r := s.want(Rejected, 413, complete(413)); r.Run != 0 || r.Received != 12 {
			t.Errorf("result is %+v", r)
		}
	})
}

// The same for a program that runs, and one that has begun to answer: what it makes of
// the part does not come before the reason.
func TestLiveBodyOverTheLimit(t *testing.T) {
	for _, begun := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			settings := liveSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
				if begun {
					return echo(ctx, req)
				}
				if _, err := io.Copy(io.Discard, req.Stdin); err != nil {
					return 1, err
				}
				return hello(ctx, req)
			})
			settings.Limits.Body, settings.Limits.BodyMemory = 10, 4
			s := serve(t, settings)
			p := s.dial()
			p.send(begin(1, true), params(1), part(1, "0123456789"))
			synctest.Wait()
			p.send(part(1, "x"), part(1, ""))
			if begun {
				p.wantAnswer(1, plainHeader+"0123456789", 413)
				s.want(Rejected, 200, complete(413))
			} else {
				p.wantOwn(1, 413, complete(413))
				s.want(Rejected, 413, complete(413))
			}
		})
	}
}

// An answer of our own waits for the end of STDIN, but not for long: a client that has
// stopped gets it soon, one that goes on sending later. Then the connection is closed,
// since the rest of the body may still come.
func TestOwnAnswerIsNotLost(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pause time.Duration // between two bytes; 0 sends none
		want  time.Duration
	}{
		{"silent", 0, endSilence},
		{"trickles", time.Second, endWait},
		{"trickles slowly", endSilence + time.Second, endSilence},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				settings := testSettings(echo)
				settings.Limits.Body = 10
				s := serve(t, settings)
				p := s.dial()
				p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100"))
				began := time.Now()
				var sending sync.WaitGroup
				if tt.pause > 0 {
					sending.Go(func() {
						for {
							time.Sleep(tt.pause)
							if _, err := p.nc.Write(part(1, "x")); err != nil {
								return
							}
						}
					})
				}
				p.wantOwn(1, 413, complete(413))
				took(t, began, tt.want)
				s.want(Rejected, 413, complete(413))
				p.wantClosed()
				sending.Wait()
			})
		})
	}
}

// What a program does wrong before its answer has begun.
func TestBadAnswersAre502(t *testing.T) {
	tests := []struct {
		name      string
		run       runnerFunc
		appStatus uint32
	}{
		{"nothing", writes(0), 500},
		{"nothing, exit status 3", writes(3), 3},
		{"no header", writes(0, "\n", "text"), 500},
		{"unfinished", writes(9, "Content-Type: text/plain\r\n"), 9},
		{"no header at all", writes(0, "just text\n\n"), 500},
		{"endless", writes(0, "A: "+strings.Repeat("a", 40_000), strings.Repeat("a", 40_000)), 500},
		{"error", func(context.Context, *protocol.Request) (uint32, error) { return 0, errors.New("broke") }, 500},
		{"error, exit status 7", func(context.Context, *protocol.Request) (uint32, error) { return 7, errors.New("broke") }, 7},
		{"error with an answer that has not left", func(_ context.Context, req *protocol.Request) (uint32, error) {
			req.Stdout.Write([]byte("Status: 201"))
			return 0, errors.New("broke")
		}, 500},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, testSettings(tt.run))
				p := s.dial()
				p.send(get(1, true))
				p.wantOwn(1, 502, complete(tt.appStatus))
				s.want(Failed, 502, complete(tt.appStatus))
				p.wantSilence()
			})
		})
	}
}

// A runner may know the answer better.
func TestRefusalOfTheRunner(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var refusal *protocol.Refusal
		var before string
		s := serve(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			req.Stdout.Write([]byte(before))
			return 1, refusal
		}))
		p := s.dial()
		refusal = &protocol.Refusal{HTTPStatus: 404, AppStatus: 404, Reason: errors.New("no such script")}
		p.send(get(1, true))
		p.wantOwn(1, 404, complete(404))
		s.want(Rejected, 404, complete(404))

		refusal = &protocol.Refusal{HTTPStatus: 502, AppStatus: 77, Reason: errors.New("cannot start")}
		p.send(get(1, true))
		p.wantOwn(1, 502, complete(77))
		s.want(Failed, 502, complete(77))

		before = helloAnswer // has left when the refusal comes: only END_REQUEST tells
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 77)
		s.want(Failed, 200, complete(77))
	})
}

// After output has begun only END_REQUEST can tell what happened.
func TestFailureAfterTheAnswerHasBegun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var appStatus uint32
		var failure error
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			req.Stdout.Write([]byte(helloAnswer))
			if failure == ErrTimeout {
				return untilDone(ctx, req)
			}
			return appStatus, failure
		})
		settings.Timeout = time.Minute
		s := serve(t, settings)
		p := s.dial()
		for _, tt := range []struct {
			appStatus uint32
			failure   error
			want      uint32
			outcome   Outcome
		}{
			{0, errors.New("broke"), 500, Failed},
			{4, errors.New("broke"), 4, Failed},
			{4, nil, 4, OK},
			{0, nil, 0, OK},
			{0, ErrTimeout, 408, TimedOut},
		} {
			appStatus, failure = tt.appStatus, tt.failure
			p.send(get(1, true))
			p.wantAnswer(1, helloAnswer, tt.want)
			s.want(tt.outcome, 200, complete(tt.want))
		}
	})
}

func TestTimeout(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(untilDone)
		settings.Timeout = time.Minute
		s := serve(t, settings)
		p := s.dial()
		began := time.Now()
		p.send(get(1, true))
		p.wantOwn(1, 408, complete(408))
		r := s.want(TimedOut, 408, complete(408))
		if took := time.Since(began); took != time.Minute || r.Run != took || r.Queue != 0 || !errors.Is(r.Reason, ErrTimeout) {
			t.Errorf("took %v, result is %+v", took, r)
		}
	})
}

// A client that does not want the body of an answer gets none of ours either.
func TestOwnAnswerToHead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, testSettings(writes(0))).dial()
		p.send(get(1, true, "REQUEST_METHOD", "HEAD"))
		if a := p.answer(1); a.stdout != "Status: 502 Bad Gateway\r\nContent-Type: text/plain\r\n\r\n" {
			t.Errorf("answer is %q", a.stdout)
		}
	})
}

// At max_conns a new connection makes room by one that nobody uses: one without a
// request first, then the one that has been idle for longest. If there is none it waits.
func TestMaxConns(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(echo)
		settings.Limits.MaxConns = 3
		s := serve(t, settings)
		used, longer, silent := s.dial(), s.dial(), s.dial()
		longer.send(get(1, true))
		longer.wantAnswer(1, plainHeader, 0)
		time.Sleep(time.Millisecond)
		used.send(get(1, true))
		used.wantAnswer(1, plainHeader, 0)
		s.wantErrors()

		began := time.Now()
		next := func(id uint16) *peer {
			p := s.dial()
			p.send(begin(id, true), params(id))
			return p
		}
		var busy []*peer
		dialed := make(chan *peer)
		for _, evicted := range []*peer{silent, longer, used} {
			go func() { dialed <- next(1) }()
			evicted.wantClosed()
			busy = append(busy, <-dialed)
		}
		if took := time.Since(began); took < idleForRoom || took > idleForRoom+4*roomEvery {
			t.Errorf("room is made after %v", took)
		}
		go func() { dialed <- next(1) }()
		time.Sleep(2 * idleForRoom)
		synctest.Wait()
		if got := s.Snapshot().Connections; got != 3 {
			t.Errorf("%d connections", got)
		}
		busy[0].send(part(1, ""))
		busy[0].wantAnswer(1, plainHeader, 0)
		busy[0].nc.Close()
		waited := <-dialed
		waited.send(part(1, "x"), part(1, ""))
		waited.wantAnswer(1, plainHeader+"x", 0)
		for _, p := range busy[1:] {
			p.send(part(1, ""))
			p.wantAnswer(1, plainHeader, 0)
		}
	})
}

// The time that a connection has waited for room is no time without a request.
func TestMaxConnsAfterTheWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(echo)
		settings.Limits.MaxConns = 1
		s := serve(t, settings)
		silent := s.dial()
		dialed := make(chan *peer)
		go func() { dialed <- s.dial() }()
		silent.wantClosed()
		waited := <-dialed
		go func() { dialed <- s.dial() }()
		time.Sleep(idleForRoom / 2)
		waited.send(get(1, false))
		waited.wantAnswer(1, plainHeader, 0)
		last := <-dialed
		last.send(get(1, false))
		last.wantAnswer(1, plainHeader, 0)
	})
}

// What waits for room when the server stops is served.
func TestStopWithAConnectionThatWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(echo)
		settings.Limits.MaxConns = 1
		s := serve(t, settings)
		busy := s.dial()
		busy.send(begin(1, true), params(1))
		waits := s.dial()
		synctest.Wait()
		s.stop()
		waits.send(get(1, false))
		waits.wantAnswer(1, plainHeader, 0)
		busy.send(part(1, ""))
		busy.wantAnswer(1, plainHeader, 0)
	})
}
