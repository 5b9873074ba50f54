package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A program that answers before it has read its body is held until the body has
// ended, and its place to run is free meanwhile.
func TestSmallAnswerIsHeldForTheEndOfStdin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			io.WriteString(req.Stderr, "message")
			return hello(context.Background(), req)
		})
		settings.Limits.MaxReqs, settings.Limits.BodyMemory = 1, 8
		s := serve(t, settings)
		p := s.dial()
		p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100"), part(1, "12345678"))
		p.wantSilence()
		if got := s.Snapshot(); got.InFlight != 0 {
			t.Errorf("snapshot is %+v", got)
		}
		p.send(get(2, true))
		if a := p.answer(2); a.stdout != helloAnswer || a.stderr != "message" {
			t.Errorf("answer is %+v", a)
		}
		p.send(part(1, "the rest"))
		p.wantSilence()
		time.Sleep(time.Second)
		p.send(part(1, ""))
		if a := p.answer(1); a.stdout != helloAnswer || a.stderr != "message" || a.end != complete(0) {
			t.Errorf("answer is %+v", a)
		}
		s.result()
		if r := s.want(OK, 200, complete(0)); r.Received != 16 || r.Run != time.Second {
			t.Errorf("result is %+v", r)
		}
	})
}

// A program with a large answer has to wait for the end of STDIN.
func TestLargeAnswerWaitsForTheEndOfStdin(t *testing.T) {
	for _, stderr := range []bool{false, true} {
		t.Run(fmt.Sprint("stderr ", stderr), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				large := strings.Repeat("x", maxHeld+1)
				settings := testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
					if stderr {
						io.WriteString(req.Stderr, large)
						return hello(context.Background(), req)
					}
					return writes(0, plainHeader, large, "end")(context.Background(), req)
				})
				settings.Limits.BodyMemory = 1
				s := serve(t, settings)
				p := s.dial()
				p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100"), part(1, "1"))
				p.wantSilence()
				if got := s.Snapshot().InFlight; got != 1 {
					t.Errorf("%d in flight", got)
				}
				p.send(part(1, ""))
				a := p.answer(1)
				if !stderr && a.stdout != plainHeader+large+"end" || stderr && (a.stderr != large || a.stdout != helloAnswer) {
					t.Errorf("answer is %d bytes, STDERR %d", len(a.stdout), len(a.stderr))
				}
			})
		})
	}
}

// One that waits so is ended like any other.
func TestWaitingAnswerIsAborted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ended := make(chan error, 1)
		settings := testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			_, err := io.WriteString(req.Stdout, plainHeader+strings.Repeat("x", maxHeld))
			ended <- err
			return 0, err
		})
		settings.Limits.BodyMemory = 1
		s := serve(t, settings)
		p := s.dial()
		p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100"), part(1, "1"))
		p.wantSilence()
		p.send(abort(1))
		p.wantAnswer(1, "", 0)
		if err := <-ended; err == nil {
			t.Error("program is not told")
		}
	})
}

func TestEarlyResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		settings.Limits.EarlyResponse = true
		settings.Limits.ReadTimeout = 0
		s := serve(t, settings)
		p := s.dial()
		for range 3 {
			p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100"))
			p.wantAnswer(1, helloAnswer, 0)
		}
		p.send(part(1, "late"), part(1, ""), get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		s.wantErrors()
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			if n := len(c.receiving); n != 0 { // the read loop is blocked: ours to look at
				t.Errorf("%d requests that have ended are still watched", n)
			}
		}
	})
}

// The rest of a body is not stored once its program has returned.
func TestRestOfABodyIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		settings.Limits.BodyMemory, settings.SpoolDir = 8, "/nonexistent" // storing would fail
		p := serve(t, settings).dial()
		p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100000"), part(1, "12345678"))
		synctest.Wait()
		for range 10 {
			p.send(part(1, strings.Repeat("x", 10_000)))
		}
		p.send(part(1, ""))
		p.wantAnswer(1, helloAnswer, 0)
	})
}

func TestHead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(writes(0, "Content-Length: 5\nX: y\n\nhe", "llo")))
		p := s.dial()
		p.send(get(1, true, "REQUEST_METHOD", "HEAD"))
		p.wantAnswer(1, "Content-Length: 5\r\nX: y\r\n\r\n", 0)
		if r := s.want(OK, 200, complete(0)); r.Sent != 27 {
			t.Errorf("result is %+v", r)
		}
	})
}

// Section 6.3: mod_authnz_fcgi sends no STDIN record at all, lighttpd an empty one.
func TestAuthorizer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			if req.Role != protocol.RoleAuthorizer || req.Stdin != nil {
				return 1, errors.New("not an authorizer's request")
			}
			return writes(0, "Status: 200\n\n")(ctx, req)
		}))
		p := s.dial()
		for _, stdin := range [][]byte{nil, part(1, "")} {
			p.send(protocol.AppendBegin(nil, 1, protocol.Begin{Role: protocol.RoleAuthorizer, Keep: true}), params(1, "A", "b"), stdin)
			p.wantAnswer(1, "Status: 200\r\n\r\n", 0)
		}
		s.wantErrors()
	})
}

// A CGI program needs to know how long its body is.
func TestContentLength(t *testing.T) {
	tests := []struct {
		name         string
		params       []byte
		whole        bool // taken whole before the program runs
		body         string
		length       string
		hasNoBody    bool
		lengthIsGone bool
	}{
		{name: "none", params: params(1), whole: true, body: "12345678", length: "8"},
		{name: "-1", params: params(1, "CONTENT_LENGTH", "-1"), whole: true, body: "12345678", length: "8"},
		{name: "empty", params: params(1, "CONTENT_LENGTH", ""), whole: true, body: "12345678", length: "8"},
		{name: "abc", params: params(1, "CONTENT_LENGTH", "abc"), whole: true, body: "12345678", length: "8"},
		{name: "too large a number", params: params(1, "CONTENT_LENGTH", strings.Repeat("9", 30)), whole: true, body: "12345678", length: "8"},
		{name: "repeated", params: params(1, "CONTENT_LENGTH", "5", "A", "b", "CONTENT_LENGTH", "x"), whole: true, body: "12345678", length: "8"},
		{name: "a number", params: params(1, "CONTENT_LENGTH", "100"), body: "12345678", length: "100"},
		{name: "none, no body", params: params(1), whole: true, hasNoBody: true, lengthIsGone: true},
		{name: "empty, no body", params: params(1, "CONTENT_LENGTH", ""), whole: true, hasNoBody: true},
		{name: "-1, no body", params: params(1, "CONTENT_LENGTH", "-1"), whole: true, hasNoBody: true, length: "0"},
		{name: "0", params: params(1, "CONTENT_LENGTH", "0"), whole: true, hasNoBody: true, length: "0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var got protocol.Request
				settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
					got = *req
					return echo(ctx, req)
				})
				settings.Limits.BodyMemory = 8
				s := serve(t, settings)
				p := s.dial()
				p.send(begin(1, true), tt.params)
				if tt.body != "" {
					p.send(part(1, tt.body[:4]))
					p.wantSilence()
					if open := s.Requests(); open[0].Stage != "body" {
						t.Errorf("stage is %q", open[0].Stage)
					}
					p.send(part(1, tt.body[4:]))
				}
				p.wantSilence()
				want := map[bool]string{true: "body", false: "running"}[tt.whole]
				if open := s.Requests(); open[0].Stage != want {
					t.Errorf("stage is %q, want %q", open[0].Stage, want)
				}
				p.send(part(1, ""))
				p.wantAnswer(1, plainHeader+tt.body, 0)
				length, ok := got.Params.Lookup("CONTENT_LENGTH")
				if length != tt.length || ok == tt.lengthIsGone || (got.Stdin == nil) != tt.hasNoBody {
					t.Errorf("CONTENT_LENGTH is %q (%v), STDIN %v", length, ok, got.Stdin)
				}
			})
		})
	}
}

// A body that cannot be stored is no reason to fail for anything else.
func TestSpoolFailure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(echo)
		settings.SpoolDir = filepath.Join(t.TempDir(), "missing")
		s := serve(t, settings)
		p := s.dial()
		overloaded := protocol.End{AppStatus: 503, Status: protocol.StatusOverloaded}
		p.send(post(1, true, strings.Repeat("x", 10_000)))
		p.wantOwn(1, 503, overloaded)
		s.want(Overloaded, 503, overloaded)
		p.send(post(1, true, "small"))
		p.wantAnswer(1, plainHeader+"small", 0)
	})
}

// A program may close its STDIN, or just return.
func TestProgramThatReadsNoBody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			read := make(chan error)
			go func() {
				_, err := io.Copy(io.Discard, req.Stdin)
				read <- err
			}()
			time.Sleep(time.Second)
			req.Stdin.(io.Closer).Close()
			if err := <-read; err != nil {
				return 1, err
			}
			return hello(ctx, req)
		})
		settings.Limits.BodyMemory = 1
		p := serve(t, settings).dial()
		p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100"), part(1, "1"))
		p.wantSilence()
		time.Sleep(2 * time.Second)
		p.send(part(1, "more"), part(1, ""))
		p.wantAnswer(1, helloAnswer, 0)
	})
}

// With WholeBody a request runs once its body has come, however large: a slow
// upload holds no place to run.
func TestWholeBody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(echo)
		settings.WholeBody = true
		settings.Limits.MaxReqs, settings.Limits.BodyMemory = 1, 8
		settings.SpoolDir = t.TempDir()
		s := serve(t, settings)
		p := s.dial()
		p.send(begin(1, true), params(1, "CONTENT_LENGTH", "17"), part(1, "12345678"), part(1, "the rest"))
		p.wantSilence()
		if got := s.Snapshot().InFlight; got != 0 {
			t.Errorf("%d in flight", got)
		}
		p.send(get(2, true))
		p.answer(2)
		p.send(part(1, "."), part(1, ""))
		if a := p.answer(1); a.end != complete(0) || !strings.HasSuffix(a.stdout, "12345678the rest.") {
			t.Errorf("answer is %+v", a)
		}
	})
}

// A runner without room says so like the server itself.
func TestRunnerIsOverloaded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(func(context.Context, *protocol.Request) (uint32, error) {
			return 0, &protocol.Refusal{HTTPStatus: 503, AppStatus: 503, Reason: errors.New("no room")}
		}))
		p := s.dial()
		p.send(get(1, true))
		end := protocol.End{AppStatus: 503, Status: protocol.StatusOverloaded}
		p.wantOwn(1, 503, end)
		s.want(Overloaded, 503, end)
	})
}
