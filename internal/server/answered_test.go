package server

import (
	"context"
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
