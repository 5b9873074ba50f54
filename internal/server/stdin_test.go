package server

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// With buffering a request waits for the end of STDIN and holds no place to run
// meanwhile, however large its body is; so nothing of an answer comes before.
func TestBuffered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			io.WriteString(req.Stderr, "message")
			return echo(ctx, req)
		})
		settings.Limits.MaxReqs, settings.Limits.BodyMemory = 1, 8
		settings.SpoolDir = t.TempDir()
		s := serve(t, settings)
		p := s.dial()
		p.send(begin(1, true), params(1, "CONTENT_LENGTH", "17"), part(1, "12345678"), part(1, "the rest"))
		p.wantSilence()
		if got := s.Snapshot(); got.InFlight != 0 {
			t.Errorf("snapshot is %+v", got)
		}
		p.send(get(2, true))
		p.wantAnswer2(2, plainHeader, "message")
		time.Sleep(time.Second)
		p.send(part(1, "."), part(1, ""))
		p.wantAnswer2(1, plainHeader+"12345678the rest.", "message")
		s.result()
		if r := s.want(OK, 200, complete(0)); r.Received != 17 || r.Run != 0 || r.Queue != time.Second {
			t.Errorf("result is %+v", r)
		}
	})
}

// wantAnswer2 checks an answer with STDERR.
func (p *peer) wantAnswer2(id uint16, stdout, stderr string) {
	p.t.Helper()
	if a := p.answer(id); a.stdout != stdout || a.stderr != stderr || a.end != complete(0) {
		p.t.Fatalf("answer is %+v", a)
	}
}

// Without it STDIN and the answer are a live pipe in both directions.
func TestLive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, liveSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			io.WriteString(req.Stdout, plainHeader)
			b := make([]byte, 100)
			for {
				n, err := req.Stdin.Read(b)
				req.Stdout.Write(b[:n])
				if err == io.EOF {
					return 0, nil
				}
				if err != nil {
					return 1, err
				}
			}
		}))
		p := s.dial()
		p.send(begin(1, true), params(1))
		if rec := p.next(); rec.Content != plainHeader {
			t.Fatalf("got %v", rec)
		}
		for _, text := range []string{"one", "two"} {
			p.send(part(1, text))
			if rec := p.next(); rec.Content != text {
				t.Fatalf("got %v", rec)
			}
		}
		p.send(part(1, ""))
		p.wantAnswer(1, "", 0)
	})
}

// An answer that is over before STDIN has ended leaves nothing to watch.
func TestLiveAnswerBeforeTheEndOfStdin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := liveSettings(hello)
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
			if n := len(c.table.receiving); n != 0 { // the read loop is blocked: ours to look at
				t.Errorf("%d requests that have ended are still watched", n)
			}
		}
	})
}

// The rest of a body is not stored once its program has returned.
func TestRestOfABodyIsDropped(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := liveSettings(hello)
		settings.Limits.BodyMemory, settings.SpoolDir = 8, "/nonexistent" // storing would fail
		p := serve(t, settings).dial()
		p.send(begin(1, true), params(1, "CONTENT_LENGTH", "100000"), part(1, "12345678"))
		p.wantAnswer(1, helloAnswer, 0)
		for range 10 {
			p.send(part(1, strings.Repeat("x", 10_000)))
		}
		p.send(part(1, ""), get(1, true))
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

// With buffering CONTENT_LENGTH is what came: a CGI program reads so much.
func TestContentLength(t *testing.T) {
	tests := []struct {
		name   string
		params []byte
		body   string
		length string
		isGone bool
	}{
		{name: "none", params: params(1), body: "12345678", length: "8"},
		{name: "-1", params: params(1, "CONTENT_LENGTH", "-1"), body: "12345678", length: "8"},
		{name: "empty", params: params(1, "CONTENT_LENGTH", ""), body: "12345678", length: "8"},
		{name: "abc", params: params(1, "CONTENT_LENGTH", "abc"), body: "12345678", length: "8"},
		{name: "too large a number", params: params(1, "CONTENT_LENGTH", strings.Repeat("9", 30)), body: "12345678", length: "8"},
		{name: "repeated", params: params(1, "CONTENT_LENGTH", "5", "A", "b", "CONTENT_LENGTH", "x"), body: "12345678", length: "8"},
		{name: "too large", params: params(1, "CONTENT_LENGTH", "100"), body: "12345678", length: "8"},
		{name: "too small", params: params(1, "CONTENT_LENGTH", "1"), body: "12345678", length: "8"},
		{name: "right", params: params(1, "CONTENT_LENGTH", "8"), body: "12345678", length: "8"},
		{name: "none, no body", params: params(1), isGone: true},
		{name: "empty, no body", params: params(1, "CONTENT_LENGTH", "")},
		{name: "-1, no body", params: params(1, "CONTENT_LENGTH", "-1"), length: "0"},
		{name: "a number, no body", params: params(1, "CONTENT_LENGTH", "9"), length: "0"},
		{name: "0", params: params(1, "CONTENT_LENGTH", "0"), length: "0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				var got protocol.Request
				s := serve(t, testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
					got = *req
					return echo(ctx, req)
				}))
				p := s.dial()
				p.send(begin(1, true), tt.params)
				if tt.body != "" {
					p.send(part(1, tt.body[:4]), part(1, tt.body[4:]))
				}
				p.wantSilence()
				if open := s.Requests(); open[0].Stage != "body" {
					t.Errorf("stage is %q", open[0].Stage)
				}
				p.send(part(1, ""))
				p.wantAnswer(1, plainHeader+tt.body, 0)
				length, ok := got.Params.Lookup("CONTENT_LENGTH")
				if length != tt.length || ok == tt.isGone || (got.Stdin == nil) != (tt.body == "") {
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
		settings := liveSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
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
