package status

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// Latencies are how long requests have taken, by buckets that get wider with the time:
// the bounds are ten percent apart, or twice that and so on where times vary that much.
// They are in the order of their bounds; those that nothing is in are not there.
type Latencies []Bucket

// A Bucket is how many requests took at most UpTo seconds, and longer than the bounds
// below it.
type Bucket struct {
	UpTo float64
	N    uint64
}

// MarshalJSON writes an object with the bounds as names, in their order.
func (l Latencies) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, bucket := range l {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%s":%d`, strconv.FormatFloat(bucket.UpTo, 'g', 6, 64), bucket.N)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads what MarshalJSON writes, in any order.
func (l *Latencies) UnmarshalJSON(text []byte) error {
	var byName map[string]uint64
	if err := json.Unmarshal(text, &byName); err != nil {
		return err
	}
	*l = nil
	for name, n := range byName {
		bound, err := strconv.ParseFloat(name, 64)
		if err != nil {
			return fmt.Errorf("latencies: %w", err)
		}
		*l = append(*l, Bucket{bound, n})
	}
	slices.SortFunc(*l, func(a, b Bucket) int { return cmp.Compare(a.UpTo, b.UpTo) })
	return nil
}

// Since are those that have come after before was counted. The bounds may have become
// wider meanwhile; each is one that was there before, too.
func (l Latencies) Since(before Latencies) Latencies {
	var since Latencies
	for _, bucket := range l {
		for len(before) > 0 && before[0].UpTo <= bucket.UpTo {
			bucket.N -= min(bucket.N, before[0].N)
			before = before[1:]
		}
		if bucket.N > 0 {
			since = append(since, bucket)
		}
	}
	return since
}

// Quantile is the time, in seconds, within which this part of the requests was done; 0
// if there were none.
func (l Latencies) Quantile(part float64) float64 {
	var total, below float64
	for _, bucket := range l {
		total += float64(bucket.N)
	}
	for i, bucket := range l {
		n := float64(bucket.N)
		if below+n < part*total && i < len(l)-1 {
			below += n
			continue
		}
		// What lies below is not known to be near: a bucket is no wider than its bounds are apart.
		low := bucket.UpTo / bucketFactor
		return low + (bucket.UpTo-low)*min(1, (part*total-below)/n)
	}
	return 0
}

// bucketFactor is by how much the bounds of buckets are apart, at the least.
const bucketFactor = 1.09
