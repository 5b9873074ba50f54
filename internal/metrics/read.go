package metrics

import (
	"maps"
	"math"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// A Bucket is how many requests took at most UpTo seconds, and longer than the bounds
// below it.
type Bucket struct {
	UpTo float64
	N    uint64
}

// Ended are how many requests have ended, by outcome.
func (p *Pool) Ended() map[string]int64 {
	ended := make(map[string]int64, len(p.requests))
	for outcome, counter := range p.requests {
		ended[outcome] = int64(read(counter).GetCounter().GetValue())
	}
	return ended
}

// Latencies are how long they took: the native buckets, in the order of their bounds.
func (p *Pool) Latencies() []Bucket {
	h := read(p.duration).GetHistogram()
	var buckets []Bucket
	if n := h.GetZeroCount(); n > 0 {
		buckets = append(buckets, Bucket{0, n})
	}
	counts := make(map[int32]int64)
	addNative(counts, h, 0)
	for _, index := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[index]; n > 0 {
			buckets = append(buckets, Bucket{math.Exp2(math.Ldexp(float64(index), -int(h.GetSchema()))), uint64(n)})
		}
	}
	return buckets
}

func read(m prometheus.Metric) *dto.Metric {
	var into dto.Metric
	m.Write(&into) // fails for no counter and no histogram that has no labels of its own
	return &into
}
