package metrics

import (
	"testing"
	"time"
)

// What is counted in several places is one number, and one histogram.
func TestLanes(t *testing.T) {
	kinds := Kinds{Outcomes: []string{"ok", "error"}}
	one := New(kinds).Pool("p")
	kinds.Lanes = 64
	many := New(kinds).Pool("p")
	if len(many.duration.parts) < 2 {
		t.Fatalf("a histogram has %d parts", len(many.duration.parts))
	}
	for conn := range uint32(1000) {
		took := time.Duration(1+conn%50) * time.Millisecond
		for _, p := range []*Pool{one, many} {
			p.Done(conn, kinds.Outcomes[conn%2], 200, took)
		}
	}
	if got := many.Ended(); got["ok"] != 500 || got["error"] != 500 {
		t.Errorf("ended: %v", got)
	}
	want, got := one.Latencies(), many.Latencies()
	if len(want) != len(got) {
		t.Fatalf("%d buckets, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("bucket %v, want %v", got[i], want[i])
		}
	}
	a, b := one.duration.sum(), many.duration.sum()
	if a.GetSampleCount() != b.GetSampleCount() || a.Bucket[6].GetCumulativeCount() != b.Bucket[6].GetCumulativeCount() {
		t.Errorf("%v\nwant %v", b, a)
	}
	many.Done(0, "unknown", 200, 0) // is in no kind
}
