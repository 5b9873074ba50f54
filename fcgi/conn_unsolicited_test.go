package fcgi

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fcgid/fcgid/internal/protocol"
)

// What comes behind the end of a request is not taken for the answer to the next.
func TestUnsolicitedRecords(t *testing.T) {
	right := protocol.AppendRecord(nil, protocol.TypeStdout, 1, []byte("right"))
	end := protocol.AppendEnd(nil, 1, protocol.End{})
	wrong := protocol.AppendRecord(nil, protocol.TypeStdout, 1, []byte("SECRET"))
	for _, tt := range []struct {
		name  string
		extra []byte
	}{
		{"end", end},
		{"stdout and end", append(wrong, end...)},
		{"a part of a record", wrong[:5]},
		{"of another id", protocol.AppendRecord(nil, protocol.TypeStdout, 7, []byte("SECRET"))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newPeer(t)
				one := start(t.Context(), c, &Request{})
				p.wantRequest(1)
				p.write(append(append(append([]byte(nil), right...), end...), tt.extra...))
				one.want(t, "right", 0)
				p.gone()
				start(t.Context(), c, &Request{}).wantError(t, net.ErrClosed)
			})
		})
	}
}

// A record of a request that has ended, or of none at all, breaks the connection
// for those that are on it.
func TestUnsolicitedRecordAmongOthers(t *testing.T) {
	for name, id := range map[string]uint16{"ended": 1, "never used": 5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p := newSharedPeer(t)
				one := start(t.Context(), c, &Request{})
				p.wantRequest(1)
				two := start(t.Context(), c, &Request{})
				p.wantRequest(2)
				p.endOf(1)
				one.want(t, "", 1)
				p.send(protocol.TypeStdout, id, "SECRET")
				p.gone()
				two.wantError(t, ErrNoEnd)
				if !strings.Contains(two.err.Error(), errUnsolicited.Error()) {
					t.Errorf("got %v", two.err)
				}
			})
		})
	}
}

// An answer to a request that the application cannot have heard of is none.
func TestUnsolicitedBeforeBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		one := start(t.Context(), c, &Request{}) // is being written
		synctest.Wait()
		two := start(t.Context(), c, &Request{})
		synctest.Wait()
		p.write(append(protocol.AppendRecord(nil, protocol.TypeStdout, 2, []byte("SECRET")), protocol.AppendEnd(nil, 2, protocol.End{})...))
		one.wantError(t, ErrNoEnd)
		two.wantError(t, ErrNoEnd)
		if two.stdout.Len() > 0 {
			t.Errorf("got %q", &two.stdout)
		}
	})
}

// When given-up requests have taken all ids, the connection is of no use any more.
func TestNoIDIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		given := start(ctx, c, &Request{})
		p.wantRequest(1)
		two := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		cancel(errEnough)
		p.want(protocol.TypeAbortRequest, "")
		given.wantError(t, errEnough)

		p.endOf(2)
		two.want(t, "", 2)
		synctest.Wait() // the sender has ended
		c.mu.Lock()
		for c.requests.used < maxRequests {
			c.requests.used++
			c.requests.slots = append(c.requests.slots[:c.requests.used-1], c.requests.slots[0])
		}
		c.mu.Unlock()
		if _, err := c.Do(t.Context(), &Request{}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want %v", err, net.ErrClosed)
		}
		p.gone()
	})
}
