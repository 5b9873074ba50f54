package metrics

import (
	"math"
	"testing"
	"time"
)

// When a histogram was made is the same at each scrape, whichever parts there are by then.
func TestHistogramCreated(t *testing.T) {
	h := newHistogram(4 * lanesOfHistogram)
	created := func() time.Time { return h.sum().GetCreatedTimestamp().AsTime() }
	first := created()
	for conn := uint32(4); conn > 0; conn-- {
		if got := created(); !got.Equal(first) {
			t.Errorf("part %d: created %v, and %v before", conn, got, first)
		}
		h.observe(conn-1, time.Millisecond)
	}
	if n := h.sum().GetSampleCount(); n != 4 {
		t.Errorf("%d samples", n)
	}
}

// What goes on from another daemon's was created when that was.
func TestContinueCreated(t *testing.T) {
	old := made(Numbers{Pool: "a"})
	old.Pool("a").Done(0, "ok", 200, time.Millisecond)
	now := made(Numbers{Pool: "a"})
	now.Pool("a").Done(0, "ok", 200, time.Millisecond)
	const name = "fcgid_request_duration_seconds"
	want := find(t, old, name, "a").GetHistogram().GetCreatedTimestamp().AsTime()
	now.Continue(func() ([]byte, bool) { return old.Export(), true })
	if got := find(t, now, name, "a").GetHistogram().GetCreatedTimestamp().AsTime(); !got.Equal(want) {
		t.Errorf("created %v, want %v", got, want)
	}
}

// A connection's number has 32 bits, and an int may have no more.
func TestLaneOfTheLastConnection(t *testing.T) {
	l := newLanes(3, 1)
	l.lane(math.MaxUint32)[0].Add(1)
	if got := l.sum(); got[0] != 1 {
		t.Error(got)
	}
}

// A worker that is looked at once more does not bring its pool back.
func TestUsedAfterForget(t *testing.T) {
	m := New(Kinds{})
	m.Pool("a")
	w := m.Workers("a")
	w.Used(time.Second)
	if got := value(t, m, "fcgid_process_cpu_seconds_total", "a"); got != 1 {
		t.Errorf("%v seconds", got)
	}
	m.Forget("a")
	w.Used(time.Second)
	if got := value(t, m, "fcgid_process_cpu_seconds_total", "a"); got != -1 {
		t.Errorf("%v seconds of a pool that is gone", got)
	}
}
