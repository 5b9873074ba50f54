package fcgi_test

import (
	"context"
	"net"
	"net/http"
	stdlib "net/http/fcgi"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// ours serves h, as it would be used.
func ours(tb testing.TB, h fcgi.Handler) net.Addr {
	l := listen(tb, "unix")
	ctx, stop := context.WithCancel(context.Background())
	end := make(chan error)
	s := &fcgi.Server{Handler: h}
	go func() { end <- s.Serve(ctx, l) }()
	tb.Cleanup(func() {
		stop()
		if err := <-end; err != nil {
			tb.Error(err)
		}
	})
	return l.Addr()
}

// theirs serves httpHello with the standard library.
func theirs(tb testing.TB) net.Addr {
	l := listen(tb, "unix")
	end := make(chan struct{})
	go func() { defer close(end); stdlib.Serve(l, http.HandlerFunc(httpHello)) }()
	tb.Cleanup(func() { l.Close(); <-end })
	return l.Addr()
}

// A page over a Unix socket, on connections that are kept. One client asks all
// three servers.
func BenchmarkHello(b *testing.B) {
	for _, load := range []struct {
		name               string
		conns, multiplexed int
	}{{"1conn", 1, 1}, {"8conns", 8, 1}, {"1conn64multiplexed", 1, 64}} {
		b.Run(load.name, func(b *testing.B) {
			b.Run("function", func(b *testing.B) { wiretest.Bench(b, ours(b, fcgi.HandlerFunc(hello)), load.conns, load.multiplexed) })
			b.Run("http", func(b *testing.B) {
				wiretest.Bench(b, ours(b, fcgi.HTTP(http.HandlerFunc(httpHello))), load.conns, load.multiplexed)
			})
			b.Run("net-http-fcgi", func(b *testing.B) { wiretest.Bench(b, theirs(b), load.conns, load.multiplexed) })
		})
	}
}

// The steady state stays as lean as it is.
func TestAllocations(t *testing.T) {
	if wiretest.UnderRace() {
		t.Skip("the race detector allocates too")
	}
	for name, tt := range map[string]struct {
		h   fcgi.Handler
		max float64
	}{"function": {fcgi.HandlerFunc(hello), 15}, "http": {fcgi.HTTP(http.HandlerFunc(httpHello)), 34}} {
		c := wiretest.Dial(t, ours(t, tt.h))
		c.Get(t)
		if got := testing.AllocsPerRun(500, func() { c.Get(t) }); got > tt.max {
			t.Errorf("%s: %v allocations, want %v at most", name, got, tt.max)
		}
	}
}
