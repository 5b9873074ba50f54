package server

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/fcgid/fcgid/internal/protocol"
)

// A hold counts the requests that need settings.
type hold struct {
	mu     sync.Mutex // guards the field below
	needed int
}

func (h *hold) begin() (release func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.needed++
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.needed--
	}
}

// Whoever runs a request is needed from its beginning to its end, in whatever way
// that comes.
func TestHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		h := new(hold)
		count := func() int {
			synctest.Wait()
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.needed
		}
		want := func(n int, when string) {
			t.Helper()
			if got := count(); got != n {
				t.Errorf("%s: the settings are needed %d times, want %d", when, got, n)
			}
		}
		release := make(chan struct{})
		settings := testSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
			<-release
			return hello(t.Context(), req)
		})
		settings.Hold, settings.Limits.MaxReqs = h.begin, 1
		s := serve(t, settings)
		p := s.dial()
		want(0, "without a request")
		p.send(begin(1, true))
		want(1, "PARAMS come")
		p.send(params(1, "A", "b"), rec(protocol.TypeStdin, 1, "part"))
		want(1, "STDIN comes")
		s.Update(testSettings(hello))
		p.send(rec(protocol.TypeStdin, 1, ""))
		want(1, "it runs, and the settings were replaced")
		p.send(get(2, true))
		want(1, "one runs with other settings")
		s.Update(settings)
		p.send(get(3, true), begin(4, true))
		want(3, "it runs, one waits, one has begun")
		p.send(abort(3), abort(4))
		want(1, "these two are aborted")
		close(release)
		p.wantAnswer(1, helloAnswer, 0)
		want(0, "all have ended")

		gone := s.dial()
		gone.send(begin(1, true), params(1, "A", "b"))
		want(1, "one uploads")
		gone.nc.Close()
		want(0, "its client has gone")
	})
}

// A request whose settings are replaced while it begins has the new ones: the old
// ones may have been given up before they were held.
func TestHoldOfReplacedSettings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		old, next := &hold{}, &hold{}
		settings := testSettings(hello)
		settings.Hold = next.begin
		first := testSettings(writes(0, plainHeader+"old"))
		s := serve(t, first)
		first.Hold = func() func() {
			s.Update(settings)
			return old.begin()
		}
		s.Update(first)
		p := s.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		synctest.Wait()
		if old.needed != 0 || next.needed != 0 {
			t.Errorf("the old settings are needed %d times, the new ones %d times", old.needed, next.needed)
		}
	})
}
