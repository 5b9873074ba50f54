package worker

import (
	"fmt"
	"testing"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// To choose a worker, and to take it back, takes as long however many there are. -cpu says how
// many requests come at once: all of a pool hold the same lock for it. docs/performance.md.
func BenchmarkChoice(b *testing.B) {
	for _, dispatch := range []string{DispatchLIFO, DispatchFIFO} {
		for _, concurrency := range []int{1, 4} {
			for _, n := range []int{32, 1000} {
				b.Run(fmt.Sprintf("%s,concurrency=%d,workers=%d", dispatch, concurrency, n), func(b *testing.B) {
					p, stop := fakeWorkers(b, Options{Scale: ScaleStatic, Max: n, Concurrency: concurrency, Dispatch: dispatch}, launchFakes)
					defer stop()
					polltest.Until(b, "idle workers", func() bool { idle, _ := numbers(p); return idle == n })
					b.ResetTimer()
					defer wiretest.CPUTime(b)()
					b.RunParallel(func(pb *testing.PB) {
						req := new(protocol.Request)
						for pb.Next() {
							s, place := p.queue(req)
							if place != nil {
								b.Error("no worker is free")
								return
							}
							p.vacate(s, &exchange{pool: p, seat: s, req: req, fate: fateFit, keep: true})
						}
					})
				})
			}
		}
	}
}
