package server

import (
	"context"
	"net"
	"testing"
	"testing/synctest"

	"github.com/fcgid/fcgid/internal/protocol"
)

func anyName(net.Addr) bool { return true }

// A connection goes on at the Address that its listener was replaced by, under the
// Server of that one, and what had begun ends where it was. What its listener still
// accepts goes there, too. The end of the old Address is none of it.
func TestYield(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		one := serve(t, testSettings(func(ctx context.Context, req *protocol.Request) (uint32, error) {
			<-release
			return hello(ctx, req)
		}))
		two := serve(t, testSettings(writes(0, helloFromTwo)))
		p := one.dial()
		p.send(get(1, true))
		synctest.Wait()
		one.at.Yield(two.at, anyName)
		late := one.dial()
		one.stop()
		for _, p := range []*peer{p, late} {
			p.send(get(2, true))
			p.wantAnswer(2, helloFromTwo, 0)
		}
		if a, b := one.Snapshot().Connections, two.Snapshot().Connections; a != 0 || b != 2 {
			t.Errorf("the old one has %d connections, the new one %d", a, b)
		}
		if err := <-one.served; err != nil { // it does not wait for its request: Drain does
			t.Error(err)
		}
		close(release)
		p.wantAnswer(1, helloAnswer, 0)
		p.send(get(3, true))
		p.wantAnswer(3, helloFromTwo, 0)
		late.nc.Close()
		p.nc.Close()
		synctest.Wait()
		if n := len(two.conns) + len(one.conns); n != 0 {
			t.Errorf("%d connections are left", n)
		}
	})
}

// Only connections by a name that the new one has go over. The others end with the old
// one, and so do those of a new one that has come to its end itself.
func TestYieldOfSome(t *testing.T) {
	bubble(t, func(t *testing.T) {
		one, two := serve(t, testSettings(hello)), serve(t, testSettings(writes(0, helloFromTwo)))
		p := one.dial()
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		one.at.Yield(two.at, func(net.Addr) bool { return false })
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)

		three := serve(t, testSettings(writes(0, helloFromTwo)))
		two.at.Yield(three.at, anyName)
		two.stop()
		<-two.served
		one.at.Yield(two.at, anyName) // it comes too late for the one, and another has its place
		p.send(get(1, true))
		p.wantAnswer(1, helloAnswer, 0)
		q := one.dial()
		q.send(get(1, true))
		q.wantAnswer(1, helloFromTwo, 0)

		three.stop()
		<-three.served
		q.wantClosed()
		q = one.dial() // nobody else is there
		q.send(get(1, true))
		q.wantAnswer(1, helloAnswer, 0)
		one.stop()
		p.wantClosed()
		q.wantClosed()
	})
}

// While connections go from one Address to the next, no request is lost.
func TestYieldUnderLoad(t *testing.T) {
	bubble(t, func(t *testing.T) {
		servers := []*testServer{serve(t, testSettings(hello))}
		p := servers[0].dial()
		for range 20 {
			last := servers[len(servers)-1]
			next := serve(t, testSettings(hello))
			servers = append(servers, next)
			moved := make(chan struct{})
			go func() {
				defer close(moved)
				last.at.Yield(next.at, anyName)
				last.stop()
			}()
			for range 20 {
				p.send(get(1, true))
				p.wantAnswer(1, helloAnswer, 0)
			}
			<-moved
		}
		synctest.Wait()
		for i, s := range servers {
			if n := s.Snapshot().Connections; n != i/(len(servers)-1) {
				t.Errorf("number %d has %d connections", i, n)
			}
		}
	})
}
