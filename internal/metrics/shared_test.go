package metrics

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/wiretest"
)

// What a request adds to the numbers of its pool, on as many connections as -cpu says.
func BenchmarkShared(b *testing.B) {
	p := New(Kinds{Outcomes: []string{"ok", "error"}, Lanes: 16}).Pool("p")
	var conns atomic.Uint32
	defer wiretest.CPUTime(b)()
	b.RunParallel(func(pb *testing.PB) {
		conn := conns.Add(1)
		for took := time.Duration(0); pb.Next(); took += 100 {
			p.Queued(conn, 0)
			p.Done(conn, "ok", 200, time.Millisecond+took%time.Millisecond)
		}
	})
}
