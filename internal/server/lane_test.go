package server

import (
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// withCPUs has what is made in a test be made for as many.
func withCPUs(t *testing.T, n int) {
	before := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
}

// However many lanes take and give back at once, they never have more than the limit, what is
// in their purses is little, and in the end nobody has anything.
func TestMemoryOfLanes(t *testing.T) {
	withCPUs(t, 16)
	for _, limit := range []int64{1000, 1 << 20, 64 << 20, 0} {
		m := NewMemory(limit)
		var held atomic.Int64
		var all sync.WaitGroup
		for number := range uint32(32) {
			all.Go(func() {
				random := rand.New(rand.NewPCG(uint64(number), 0))
				var mine []int64
				for range 5000 {
					n := 1 + random.Int64N(8000)
					switch {
					case len(mine) < 4 && m.take(number, n, limit):
						if has := held.Add(n); limit > 0 && has > limit {
							t.Errorf("%d bytes are held of %d", has, limit)
						}
						mine = append(mine, n)
					case len(mine) > 0:
						last := mine[len(mine)-1]
						mine = mine[:len(mine)-1]
						held.Add(-last)
						m.giveBack(number, last)
					}
				}
				for _, n := range mine {
					held.Add(-n)
					m.giveBack(number, n)
				}
			})
		}
		all.Wait()
		if n := m.Used(); n != 0 {
			t.Errorf("of %d bytes %d are held, and by nobody", limit, n)
		}
		if n := m.used.used.Load(); limit > 0 && n > limit/64 {
			t.Errorf("of %d bytes purses have %d", limit, n)
		}
	}
}

// A full Memory refuses what a purse has no room for, and what one lane has given back another
// one can have.
func TestMemoryOfOtherLanes(t *testing.T) {
	withCPUs(t, 16)
	const limit = 1 << 20
	m := NewMemory(limit)
	var taken int64
	for m.take(1, 4000, limit) {
		taken += 4000
	}
	if least := int64(limit - limit/64 - 4000); taken < least {
		t.Errorf("only %d bytes could be had of %d", taken, limit)
	}
	if m.take(2, 64<<10, limit) {
		t.Error("another lane has more than there is")
	}
	m.giveBack(1, taken)
	if !m.take(2, limit-limit/64, limit) {
		t.Error("another lane cannot have what was given back")
	}
}

// Where several goroutines accept, each connection is served once, all numbers add up, and the
// address ends with all of them.
func TestManyCPUs(t *testing.T) {
	withCPUs(t, 64)
	if acceptors() < 2 || Lanes() != 64 {
		t.Fatalf("%d goroutines accept, %d lanes", acceptors(), Lanes())
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	const clients, each = 50, 10
	settings := testSettings(hello)
	settings.Limits.MaxConns, settings.Limits.MaxReqs = clients*each, clients
	s := startServer(t, l, settings)
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range each / 2 {
				c := wiretest.Dial(t, l.Addr())
				c.Get(t)
				c.Get(t)
			}
		})
	}
	all.Wait()
	polltest.Until(t, "the last request to be over", func() bool { return len(s.Requests()) == 0 })
	got := s.Snapshot()
	if want := int64(clients * each); got.Served != want || got.ConnectionsTotal != want/2 || got.Tally.Admitted != want {
		t.Errorf("%d requests on %d connections, %d admitted; want %d", got.Served, got.ConnectionsTotal, got.Tally.Admitted, want)
	}
	if want := int64(clients * each * len(wiretest.TypicalGet)); got.Received != want || got.Sent == 0 {
		t.Errorf("%d bytes received, %d sent; want %d", got.Received, got.Sent, want)
	}
}
