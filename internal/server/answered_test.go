package server

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// answers is a Runner that has answered an hour before it returns, or until its
// context ends. It says why it has returned.
func answers(why chan<- error) runnerFunc {
	return func(ctx context.Context, req *protocol.Request) (uint32, error) {
		hello(ctx, req)
		req.Answered(0)
		select {
		case <-time.After(time.Hour):
			why <- nil
		case <-ctx.Done():
			why <- context.Cause(ctx)
		}
		return 3, nil
	}
}

// A request whose program goes on is over for its client, who may leave, but keeps
// its place to run.
func TestAnsweredBeforeTheExit(t *testing.T) {
	for _, keep := range []bool{true, false} {
		bubble(t, func(t *testing.T) {
			why := make(chan error, 1)
			s := serve(t, testSettings(answers(why)))
			p, began := s.dial(), time.Now()
			p.send(get(1, keep))
			p.wantAnswer(1, helloAnswer, 0)
			if took := time.Since(began); took > time.Second {
				t.Errorf("answered after %v", took)
			}
			p.nc.Close()
			synctest.Wait()
			if got := s.Snapshot().InFlight; got != 1 {
				t.Errorf("%d run", got)
			}
			if err := <-why; err != nil {
				t.Errorf("its context has ended: %v", err)
			}
		})
	}
}

// It is under the timeout.
func TestTimeoutAfterTheAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		why := make(chan error, 1)
		settings := testSettings(answers(why))
		settings.Timeout = time.Minute
		p := serve(t, settings).dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		if err := <-why; err != ErrTimeout {
			t.Errorf("its context has ended with %v", err)
		}
		p.wantSilence()
	})
}

// IsWhole tells whether what the header has announced is there.
func TestIsWhole(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := serve(t, testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			isWhole := req.Stdout.(protocol.WholeWriter).IsWhole
			for _, step := range []struct {
				text string
				want bool
			}{{"Content-Length: 5\n", false}, {"\n", false}, {"1234", false}, {"5", true}, {"6", true}} {
				req.Stdout.Write([]byte(step.text))
				if got := isWhole(); got != step.want {
					t.Errorf("after %q: %v", step.text, got)
				}
			}
			return 0, nil
		})).dial()
		p.send(get(1, true))
		p.wantAnswer(1, "Content-Length: 5\r\n\r\n123456", 0)
	})
}

// An answer that ends before its Content-Length is not a good one, whatever its program
// says; one that has no body, or says more, is.
func TestShortAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		method, answer string
		appStatus      uint32
		status         int
		outcome        Outcome
		reason         string
	}{
		"short":                {"GET", "Content-Length: 5\n\n1234", 0, 200, Failed, "answer ended 1 byte before its Content-Length of 5"},
		"short, and a crash":   {"GET", "Content-Length: 5\n\n1234", 139, 200, Failed, "answer ended 1 byte before its Content-Length of 5 (killed by SIGSEGV)"},
		"nothing":              {"GET", "Content-Length: 5\n\n", 0, 200, Failed, "answer ended 5 bytes before its Content-Length of 5"},
		"whole":                {"GET", "Content-Length: 5\n\n12345", 0, 200, OK, ""},
		"more":                 {"GET", "Content-Length: 5\n\n123456", 3, 200, OK, ""},
		"no length":            {"GET", "A: b\n\n", 139, 200, OK, ""},
		"HEAD":                 {"HEAD", "Content-Length: 5\n\n", 0, 200, OK, ""},
		"not modified":         {"GET", "Status: 304\nContent-Length: 5\n\n", 0, 304, OK, ""},
		"in two, and a length": {"GET", "Content-Length: 5\n|\n123|45", 0, 200, OK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, testSettings(writes(test.appStatus, strings.Split(test.answer, "|")...)))
				p := s.dial()
				p.send(get(1, true, "REQUEST_METHOD", test.method))
				p.answer(1)
				reason := ""
				if r := s.want(test.outcome, test.status, complete(test.appStatus)); r.Reason != nil {
					reason = r.Reason.Error()
				}
				if reason != test.reason {
					t.Errorf("reason %q", reason)
				}
			})
		})
	}
}
