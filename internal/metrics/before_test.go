package metrics

import (
	"errors"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
)

func made(pools ...Numbers) *Metrics {
	m := New(Kinds{Outcomes: []string{"ok"}})
	m.Collect(Sources{
		Pools:      func() []Numbers { return pools },
		Memory:     func() (used, limit int64) { return 10, 100 },
		LogDropped: func() map[string]int64 { return map[string]int64{"access": 3} },
	})
	return m
}

// value is what a metric has that is a counter or gauge, of one pool or of none.
func value(t *testing.T, m *Metrics, name, pool string) float64 {
	t.Helper()
	if s := find(t, m, name, pool); s != nil {
		return s.GetCounter().GetValue() + s.GetGauge().GetValue()
	}
	return -1
}

func find(t *testing.T, m *Metrics, name, pool string) *dto.Metric {
	t.Helper()
	families, err := m.gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, s := range f.Metric {
			if poolOf(s) == pool {
				return s
			}
		}
	}
	return nil
}

// Counters go on where the daemon before has come to; what is so now is that of both as
// long as that one is there.
func TestContinue(t *testing.T) {
	old := made(Numbers{Pool: "a", Connections: 3, ConnectionsTotal: 100, MaxConns: 7}, Numbers{Pool: "gone", ConnectionsTotal: 5})
	for range 4 {
		old.Pool("a").Done(0, "ok", 200, 3*time.Millisecond)
	}
	old.Pool("gone").Done(0, "ok", 200, time.Second)
	now := made(Numbers{Pool: "a", Connections: 2, ConnectionsTotal: 20, MaxConns: 9})
	now.Pool("a").Done(0, "ok", 200, 3*time.Millisecond)
	now.Pool("a").Done(0, "ok", 200, 500*time.Millisecond)
	isThere := true
	now.Continue(func() ([]byte, bool) { return old.Export(), isThere })

	check := func(what string, want map[[2]string]float64) {
		t.Helper()
		for series, want := range want {
			if got := value(t, now, series[0], series[1]); got != want {
				t.Errorf("%s: %v is %v, want %v", what, series, got, want)
			}
		}
	}
	old.Upgraded(errors.New("no"))
	old.Upgraded(nil)
	check("both", map[[2]string]float64{
		{"fcgid_log_dropped_records_total", ""}: 6, {"fcgid_upgrades_total", ""}: 1,
		{"fcgid_requests_total", "a"}: 6, {"fcgid_requests_total", "gone"}: 1, {"fcgid_connections_total", "a"}: 120,
		{"fcgid_connections", "a"}: 5, {"fcgid_limit", "a"}: 9, {"fcgid_memory_bytes", ""}: 20, {"fcgid_memory_limit_bytes", ""}: 100,
	})
	isThere = false
	check("one", map[[2]string]float64{
		{"fcgid_requests_total", "a"}: 6, {"fcgid_requests_total", "gone"}: -1, {"fcgid_connections_total", "a"}: 120,
		{"fcgid_connections", "a"}: 2, {"fcgid_memory_bytes", ""}: 10,
	})
	h := find(t, now, "fcgid_request_duration_seconds", "a").GetHistogram()
	counts := make(map[int32]int64)
	addNative(counts, h, 0)
	var native int64
	for _, n := range counts {
		native += n
	}
	if h.GetSampleCount() != 6 || native != 6 || len(counts) != 2 {
		t.Errorf("%d samples, %d in the native buckets %v", h.GetSampleCount(), native, counts)
	}
	for _, b := range h.Bucket {
		if want := map[bool]uint64{true: 5}[b.GetUpperBound() == .1]; want != 0 && b.GetCumulativeCount() != want {
			t.Errorf("bucket %v has %d", b.GetUpperBound(), b.GetCumulativeCount())
		}
	}

	// And on to the next one.
	third := made(Numbers{Pool: "a"})
	third.Continue(func() ([]byte, bool) { return now.Export(), false })
	if got := value(t, third, "fcgid_requests_total", "a"); got != 6 {
		t.Errorf("the third daemon begins with %v requests", got)
	}
}

// What an old daemon says that is no metrics is left out.
func TestContinueGarbage(t *testing.T) {
	for _, text := range []string{"", "null", "{", `[{"name":"fcgid_requests_total","type":4,"metric":[{}]}]`} {
		m := made(Numbers{Pool: "a"})
		m.Pool("a").Done(0, "ok", 200, time.Second)
		m.Continue(func() ([]byte, bool) { return []byte(text), true })
		if got := value(t, m, "fcgid_requests_total", "a"); got != 1 {
			t.Errorf("%q: %v requests", text, got)
		}
	}
}

// Native buckets of another resolution: each of the lower one is two of the higher one.
func TestMergeNative(t *testing.T) {
	histogram := func(schema int32, counts map[int32]int64) *dto.Histogram {
		h := &dto.Histogram{Schema: &schema, SampleCount: new(uint64), SampleSum: new(float64)}
		h.PositiveSpan, h.PositiveDelta = spansOf(counts)
		return h
	}
	to, from := histogram(1, map[int32]int64{-1: 2, 0: 3, 7: 1}), histogram(2, map[int32]int64{-3: 1, -2: 1, 0: 4, 13: 5, 14: 1, 15: 9})
	mergeHistogram(to, from)
	counts := make(map[int32]int64)
	addNative(counts, to, 0)
	want := map[int32]int64{-1: 4, 0: 7, 7: 7, 8: 9}
	if to.GetSchema() != 1 || len(counts) != len(want) {
		t.Fatalf("schema %d, %v, want %v", to.GetSchema(), counts, want)
	}
	for index, n := range want {
		if counts[index] != n {
			t.Errorf("bucket %d has %d, want %d", index, counts[index], n)
		}
	}
}
