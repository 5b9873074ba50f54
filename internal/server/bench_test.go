package server

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/fcgid/fcgid/internal/wiretest"
)

// benchServer is a Server as it runs, with all limits and no logs.
func benchServer(tb testing.TB) net.Listener {
	settings := testSettings(hello)
	settings.Limits.MaxReqs, settings.Limits.Queue = 64, 256
	l, err := net.Listen("unix", filepath.Join(tb.TempDir(), "s"))
	if err != nil {
		tb.Fatal(err)
	}
	s := startServer(tb, l, settings)
	s.opt.Hooks.Done = func(*Result) {}
	return l
}

// The steady state stays as lean as it is.
func TestAllocationsOfARequest(t *testing.T) {
	if wiretest.UnderRace() {
		t.Skip("the race detector allocates too")
	}
	c := wiretest.Dial(t, benchServer(t).Addr())
	c.Get(t)
	if got := testing.AllocsPerRun(500, func() { c.Get(t) }); got > 14 {
		t.Errorf("%v allocations, want 14 at most", got)
	}
}

// What a request costs without anything around the server: package fcgi has more.
func BenchmarkHello(b *testing.B) {
	for name, conns := range map[string]int{"1conn": 1, "8conns": 8} {
		b.Run(name, func(b *testing.B) { wiretest.Bench(b, benchServer(b).Addr(), conns, 1) })
	}
}
