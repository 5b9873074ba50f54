package metrics

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// Each request is in the bucket of its time, also when there are so many times that
// the buckets have become wider.
func TestLatencies(t *testing.T) {
	p := New(Kinds{Outcomes: []string{"ok", "error"}}).Pool("p")
	if got := p.Latencies(); len(got) != 0 {
		t.Errorf("of no request: %v", got)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var times []float64
	for _, span := range []float64{1, 4, 18} { // in powers of ten
		for range 1000 {
			took := time.Duration(10 * math.Pow(10, span*random.Float64()))
			times = append(times, took.Seconds())
			p.Done(0, "ok", 200, took)
		}
		below, last := 0., 0.
		for _, b := range p.Latencies() {
			var n uint64
			for _, took := range times {
				if took > below && took <= b.UpTo {
					n++
				}
			}
			if b.UpTo <= last || n != b.N {
				t.Fatalf("up to %g from %g: %d, want %d", b.UpTo, below, b.N, n)
			}
			below, last = b.UpTo, b.UpTo
		}
		if below < times[len(times)-1] {
			t.Errorf("the last bucket ends at %g", below)
		}
	}
	p.Done(0, "error", 502, 0)
	if got := p.Latencies(); got[0] != (Bucket{0, 1}) {
		t.Errorf("a request that took no time: %v", got[0])
	}
	if got := p.Ended(); got["ok"] != 3000 || got["error"] != 1 || len(got) != 2 {
		t.Errorf("ended: %v", got)
	}
}
