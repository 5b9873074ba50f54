package fcgi

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/fcgid/fcgid/internal/protocol"
)

// The first request on a connection reads for itself until it has a neighbour:
// while it waits for the answer, inside a record of it, and while its Stdout is
// slow, with records behind that one already read.
func TestLeadTakeOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		for range 3 {
			one := start(t.Context(), c, &Request{})
			p.wantRequest(1)
			half := protocol.AppendRecord(nil, protocol.TypeStdout, 1, []byte("one"))
			p.write(half[:10])
			synctest.Wait()
			two := start(t.Context(), c, &Request{})
			p.wantRequest(2)
			synctest.Wait()
			p.write(half[10:])
			p.endOf(2)
			two.want(t, "", 2)
			p.endOf(1)
			one.want(t, "one", 1)

			slow := &blockedWriter{open: make(chan struct{})}
			one = start(t.Context(), c, &Request{Stdout: slow})
			p.wantRequest(1)
			records := protocol.AppendRecord(nil, protocol.TypeStdout, 1, []byte("one, "))
			records = protocol.AppendRecord(records, protocol.TypeStdout, 1, []byte("one, "))
			records = append(records, half[:10]...)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				p.write(records)
			}()
			synctest.Wait()
			two = start(t.Context(), c, &Request{})
			p.wantRequest(2)
			<-sent
			p.write(half[10:])
			p.send(protocol.TypeStdout, 2, "two")
			p.endOf(2)
			two.want(t, "two", 2)
			p.endOf(1)
			close(slow.open)
			<-one.done
			if one.err != nil || slow.String() != "one, one, one" {
				t.Errorf("got %q, %v", slow, one.err)
			}
		}
	})
}

// The leader is given up while another call still writes its Stdout: the
// connection stays, and the next one leads.
func TestLeadGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		slow := &blockedWriter{open: make(chan struct{})}
		one := start(t.Context(), c, &Request{Stdout: slow})
		p.wantRequest(1)
		p.send(protocol.TypeStdout, 1, "one")
		synctest.Wait()
		two := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		p.endOf(1)
		p.endOf(2)
		two.want(t, "", 2)

		ctx, cancel := context.WithCancelCause(t.Context())
		three := start(ctx, c, &Request{})
		p.wantRequest(1)
		synctest.Wait()
		cancel(errEnough)
		p.want(protocol.TypeAbortRequest, "")
		three.wantError(t, errEnough)

		four := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		p.send(protocol.TypeStdout, 1, "too late")
		p.send(protocol.TypeStdout, 2, "four")
		p.endOf(1)
		p.endOf(2)
		four.want(t, "four", 2)
		close(slow.open)
		if <-one.done; one.err != nil || slow.String() != "one" {
			t.Errorf("got %q, %v", slow, one.err)
		}
	})
}

// A connection that ends while the leader's Stdout is slow ends the neighbour,
// and the leader when it has written.
func TestLeadLostPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		slow := &blockedWriter{open: make(chan struct{})}
		one := start(t.Context(), c, &Request{Stdout: slow})
		p.wantRequest(1)
		p.send(protocol.TypeStdout, 1, strings.Repeat("x", 100))
		synctest.Wait()
		two := start(t.Context(), c, &Request{})
		p.wantRequest(2)
		p.conn.Close()
		two.wantError(t, ErrNoEnd)
		close(slow.open)
		one.wantError(t, ErrNoEnd)
	})
}
