package metrics

import (
	"maps"
	"math"
	"slices"
)

// A Bucket is how many requests took at most UpTo seconds, and longer than the bounds
// below it.
type Bucket struct {
	UpTo float64
	N    uint64
}

// Ended are how many requests have ended, by outcome.
func (p *Pool) Ended() map[string]int64 {
	ended, counts := make(map[string]int64), p.ended.sum()
	for i, outcome := range p.kinds.Outcomes {
		ended[outcome] = int64(counts[i])
	}
	return ended
}

// Latencies are how long they took: the native buckets, in the order of their bounds.
func (p *Pool) Latencies() []Bucket {
	h := p.duration.sum()
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
