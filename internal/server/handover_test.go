package server

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// An unclosed is a connection of which somebody else has a copy: to close it closes that of
// one of the two.
type unclosed struct{ net.Conn }

func (unclosed) Close() error { return nil }

// handing has a server give its connections to another one when it stops. The connections
// are pipes, which have no copies: what is given is a pipe that was not closed.
func handing(t *testing.T, from *testServer, to *Address) (given *atomic.Int32) {
	t.Helper()
	given = new(atomic.Int32)
	from.at.HandOver(func(nc net.Conn) bool {
		given.Add(1)
		pipe := nc.(*kept).Conn
		nc.(*kept).Conn = unclosed{pipe}
		pipe.SetReadDeadline(time.Time{})
		return to.Adopt(pipe)
	})
	return given
}

// A kept is a connection whose Conn a test may replace.
type kept struct{ net.Conn }

// dialKept is dial with a connection that can be given away.
func (ts *testServer) dialKept() *peer {
	ours, theirs := net.Pipe()
	ts.at.Adopt(&kept{theirs})
	ts.t.Cleanup(func() { ours.Close() })
	return newPeer(ts.t, ours)
}

// A drain gives idle connections away, each when its last answer is sent; a request that is
// on its way is answered by whoever has the connection then.
func TestHandOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		held := make(chan struct{})
		release := sync.OnceFunc(func() { close(held) })
		defer release()
		settings := testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			if req.Params.Get("SCRIPT_FILENAME") == "slow" {
				<-held
			}
			return hello(ctx, req)
		})
		one := serve(t, settings)
		two, done := pooled(testSettings(writes(0, helloFromTwo)))
		to := NewAddress(two)
		given := handing(t, one, to)
		idle, never, busy, half := one.dialKept(), one.dialKept(), one.dialKept(), one.dialKept()
		idle.send(get(1, true))
		idle.wantAnswer(1, helloAnswer, 0)
		busy.send(begin(1, true), rec(protocol.TypeParams, 1, pairs("SCRIPT_FILENAME", "slow")), rec(protocol.TypeParams, 1, ""), part(1, ""))
		part1 := begin(1, true)
		half.send(part1[:5])
		synctest.Wait()

		one.stop()
		synctest.Wait()
		if given.Load() != 2 {
			t.Errorf("%d connections were given away, want those that are idle", given.Load())
		}
		for _, p := range []*peer{idle, never} {
			p.send(get(1, true))
			p.wantAnswer(1, helloFromTwo, 0)
		}
		busy.send(get(2, true)) // on its way when it was to be given
		busy.wantAnswer(2, helloAnswer, 0)
		time.Sleep(3 * lastCallTime) // a record that has begun holds the connection
		half.send(part1[5:], params(1), part(1, ""))
		half.wantAnswer(1, helloAnswer, 0)
		release()
		busy.wantAnswer(1, helloAnswer, 0)
		time.Sleep(lastCallTime) // of a pipe it is not always known whether something is on its way
		synctest.Wait()
		for _, p := range []*peer{busy, half} {
			p.send(get(1, false))
			p.wantAnswer(1, helloFromTwo, 0)
			p.wantClosed()
		}
		synctest.Wait() // a request is reported after its end was sent
		if given.Load() != 4 || len(done) != 4 {
			t.Errorf("%d connections were given away, and %d requests answered", given.Load(), len(done))
		}
		one.wantServed(0)
		if s := one.Snapshot(); s.Connections != 0 {
			t.Errorf("the old one has %d connections", s.Connections)
		}
		idle.nc.Close()
		never.nc.Close()
		synctest.Wait()
		if s := two.Snapshot(); s.Connections != 0 || s.ConnectionsTotal != 0 {
			t.Errorf("the new one has %d connections of %d", s.Connections, s.ConnectionsTotal)
		}
	})
}

// Where nobody takes it, an idle connection is closed; one that does not become idle
// ends with the drain.
func TestHandOverToNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := serve(t, testSettings(hello))
		one.at.HandOver(func(net.Conn) bool { return false })
		idle, half := one.dial(), one.dial()
		idle.send(get(1, true))
		idle.wantAnswer(1, helloAnswer, 0)
		half.send(begin(1, true)[:5])
		synctest.Wait()
		one.stop()
		idle.wantClosed()
		half.wantClosed()
		<-one.served
	})
}

// An address that drains adopts nothing.
func TestAdoptWhileDraining(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one := serve(t, testSettings(hello))
		one.stop()
		one.wantServed(0)
		ours, theirs := net.Pipe()
		defer ours.Close()
		if one.at.Adopt(theirs) {
			t.Error("it has adopted a connection")
		}
		theirs.Close()
	})
}

// A record that does not go on keeps its connection, and the drain, for read_timeout.
func TestHandOverOfHalfARecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		settings := testSettings(hello)
		settings.Grace, settings.Limits.ReadTimeout = time.Hour, 10*time.Second
		one := serve(t, settings)
		one.at.HandOver(func(net.Conn) bool { return true })
		half := one.dial()
		half.send(begin(1, true)[:5])
		synctest.Wait()
		began := time.Now()
		one.stop()
		half.wantClosed()
		if d := time.Since(began); d < 10*time.Second || d > 12*time.Second {
			t.Errorf("it was kept for %v", d)
		}
		one.wantServed(0)
	})
}
