package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// accounting is a server that tells of what programs have used.
func accounting(t *testing.T, settings Settings) (s *testServer, accounts chan Result) {
	s = serve(t, settings)
	accounts = make(chan Result, 8)
	s.opt.Hooks.Accounts = func() bool { return true }
	s.opt.Hooks.Account = func(r *Result) { accounts <- *r }
	return s, accounts
}

// What is told when a request is over: its id, which its program has, when the answer
// began, its header, and what the program has used.
func TestAccount(t *testing.T) {
	bubble(t, func(t *testing.T) {
		used := protocol.Usage{CPU: 3, User: 2, System: 1, MaxRSS: 4096}
		var id string
		s, accounts := accounting(t, testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			time.Sleep(2 * time.Second)
			id = req.ID.String()
			status, err := hello(ctx, req)
			time.Sleep(time.Second)
			*req.Usage = used
			return status, err
		}))
		p := s.dial()
		p.send(begin(1, true), params(1, "HTTP_X_REQUEST_ID", "a-1"), part(1, ""))
		p.wantAnswer(1, helloAnswer, 0)
		r := <-accounts
		if r.Usage != used || r.ID.String() != "a-1" || id != "a-1" || r.FirstByte != 2*time.Second || r.Run != 3*time.Second {
			t.Errorf("account is %+v, id %q", r, id)
		}
		if string(r.Header)+"hello" != helloAnswer || r.Body != 5 || r.Sent != int64(len(helloAnswer)) || r.Ended.Sub(r.Begun) != 3*time.Second {
			t.Errorf("header %q, body %d, sent %d", r.Header, r.Body, r.Sent)
		}
	})
}

// An id that does harm is not what the program is told.
func TestUnfitID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var told, id string
		s, accounts := accounting(t, testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			told, id = req.Params.Get("REQUEST_ID"), req.ID.String()
			return hello(ctx, req)
		}))
		p := s.dial()
		p.send(begin(1, true), params(1, "REQUEST_ID", "a\nb"), part(1, ""))
		p.wantAnswer(1, helloAnswer, 0)
		if r := <-accounts; told != id || len(id) != 32 || r.ID.String() != id || r.Params.Get("REQUEST_ID") != "a\nb" {
			t.Errorf("told is %q, id %q", told, id)
		}
	})
}

// A program that is being ended is accounted for when it has ended, and one that goes on
// behind its answer is not waited for.
func TestAccountOfWhatEndsLate(t *testing.T) {
	for name, test := range map[string]struct {
		run   runnerFunc
		after time.Duration // END_REQUEST
		used  time.Duration
	}{
		"timeout": {func(ctx context.Context, req *protocol.Request) (uint32, error) {
			<-ctx.Done()
			time.Sleep(2 * time.Second)
			req.Usage.CPU = 7
			return 143, nil
		}, 2 * time.Second, 7},
		"goes on": {func(ctx context.Context, req *protocol.Request) (uint32, error) {
			hello(ctx, req)
			req.Answered(0)
			time.Sleep(2 * time.Second)
			req.Usage.CPU = 7
			return 0, nil
		}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				settings := testSettings(test.run)
				settings.Timeout = 5 * time.Second
				s, accounts := accounting(t, settings)
				p := s.dial()
				p.send(begin(1, true), params(1), part(1, ""))
				done := s.result()
				ended := time.Now()
				r := <-accounts
				if r.Usage.CPU != test.used || time.Since(ended) != test.after || r.Outcome != done.Outcome {
					t.Errorf("used %v, told %v after its end, %v and %v", r.Usage.CPU, time.Since(ended), r.Outcome, done.Outcome)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if len(accounts) > 0 {
					t.Errorf("told again: %+v", <-accounts)
				}
			})
		})
	}
}

// A request that has not run has an id all the same.
func TestAccountOfRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, accounts := accounting(t, testSettings(hello))
		p := s.dial()
		p.send(begin(1, true)) // and no PARAMS
		time.Sleep(time.Hour)
		if r := <-accounts; r.Outcome != TimedOut || len(r.ID.String()) != 32 || r.FirstByte != 0 || r.Usage != (protocol.Usage{}) {
			t.Errorf("account is %+v", r)
		}
	})
}
