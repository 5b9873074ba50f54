package server

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/wiretest"
)

// benchServer is a Server as it runs, with all limits and no logs.
func benchServer(tb testing.TB, maxReqs int) net.Listener {
	settings := testSettings(hello)
	settings.InPlace = false
	settings.Limits.MaxReqs, settings.Limits.Queue, settings.Limits.QueueTimeout = maxReqs, 256, time.Hour
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
	c := wiretest.Dial(t, benchServer(t, 64).Addr())
	c.Get(t)
	if got := testing.AllocsPerRun(500, func() { c.Get(t) }); got > 11 {
		t.Errorf("%v allocations, want 11 at most", got)
	}
}

// A connection for one request takes little more, half of it for package net and the
// client.
func TestAllocationsOfAConnection(t *testing.T) {
	if wiretest.UnderRace() {
		t.Skip("the race detector allocates too")
	}
	l := benchServer(t, 64)
	wire := wiretest.Get(1, false, wiretest.TypicalParams...)
	var answer [4 << 10]byte
	got := testing.AllocsPerRun(200, func() {
		nc, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		nc.Write(wire)
		for err == nil {
			_, err = nc.Read(answer[:])
		}
	})
	if got > 45 {
		t.Errorf("%v allocations, want 45 at most", got)
	}
}

// One that waits for its turn takes a place in a list besides, and nothing more.
func TestAllocationsOfARequestThatWaits(t *testing.T) {
	if wiretest.UnderRace() {
		t.Skip("the race detector allocates too")
	}
	const many = 50
	var wire []byte
	for id := range uint16(many) {
		wire = append(wire, wiretest.Get(id+1, true, wiretest.TypicalParams...)...)
	}
	c := wiretest.Dial(t, benchServer(t, 1).Addr())
	ask := func() { c.GetMany(t, wire, many) }
	ask()
	if got := testing.AllocsPerRun(50, ask) / many; got > 12.5 {
		t.Errorf("%v allocations, want 12 at most", got)
	}
}

// What a request costs without anything around the server: package fcgi has more.
func BenchmarkHello(b *testing.B) {
	for name, conns := range map[string]int{"1conn": 1, "8conns": 8} {
		b.Run(name, func(b *testing.B) { wiretest.Bench(b, benchServer(b, 64).Addr(), conns, 1) })
	}
}
