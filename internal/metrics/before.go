package metrics

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// Before tells what the daemon has counted whose place this one has taken, as its Export
// returns it, and whether it is still there.
type Before func() (exported []byte, isThere bool)

// Continue has the counters go on from those of another daemon. What both have at this
// moment, such as connections, is added up as long as the other one is there.
func (m *Metrics) Continue(before Before) { m.before.Store(&before) }

// Export is all that Handler shows, for another daemon's Before.
func (m *Metrics) Export() []byte {
	families, err := m.gather()
	if err != nil && len(families) == 0 {
		return nil
	}
	families = slices.DeleteFunc(families, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "fcgid_") })
	exported, err := json.Marshal(families)
	if err != nil {
		return nil
	}
	return exported
}

// shared are the gauges whose values of two daemons together are those of the machine. Of
// all others the new daemon's hold.
var shared = []string{
	"fcgid_connections", "fcgid_requests_in_flight", "fcgid_requests_queued", "fcgid_functions_overdue", "fcgid_spool_bytes",
	"fcgid_memory_bytes", "fcgid_workers", "fcgid_worker_requests_waiting", "fcgid_workers_resident_bytes",
}

func (m *Metrics) gather() ([]*dto.MetricFamily, error) {
	families, err := m.registry.Gather()
	before := m.before.Load()
	if before == nil {
		return families, err
	}
	exported, isThere := (*before)()
	var old []*dto.MetricFamily
	if json.Unmarshal(exported, &old) != nil {
		return families, err // it has counted nothing that can be told
	}
	return merge(families, old, isThere), err
}

// merge adds what an old daemon has counted to what a new one has. When the old one is not
// there any more, series of pools that the new one does not have are left out.
func merge(families, old []*dto.MetricFamily, isThere bool) []*dto.MetricFamily {
	byName := make(map[string]*dto.MetricFamily, len(families))
	pools := make(map[string]bool)
	for _, f := range families {
		byName[f.GetName()] = f
		for _, series := range f.Metric {
			pools[poolOf(series)] = true
		}
	}
	for _, f := range old {
		isGauge := f.GetType() == dto.MetricType_GAUGE
		if isGauge && (!isThere || !slices.Contains(shared, f.GetName())) {
			continue
		}
		f.Metric = slices.DeleteFunc(f.Metric, func(series *dto.Metric) bool {
			return !isThere && poolOf(series) != "" && !pools[poolOf(series)]
		})
		switch to := byName[f.GetName()]; {
		case len(f.Metric) == 0:
		case to == nil:
			families = append(families, f)
		case to.GetType() == f.GetType():
			mergeSeries(to, f)
		}
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	return families
}

func poolOf(series *dto.Metric) string {
	for _, label := range series.Label {
		if label.GetName() == "pool" {
			return label.GetValue()
		}
	}
	return ""
}

// mergeSeries adds the series of a family to those of the same one.
func mergeSeries(to, from *dto.MetricFamily) {
	byLabels := make(map[string]*dto.Metric, len(to.Metric))
	for _, series := range to.Metric {
		byLabels[labelsOf(series)] = series
	}
	for _, series := range from.Metric {
		same := byLabels[labelsOf(series)]
		switch {
		case same == nil:
			to.Metric = append(to.Metric, series)
		case series.Counter != nil && same.Counter != nil:
			*same.Counter.Value += series.Counter.GetValue()
		case series.Gauge != nil && same.Gauge != nil:
			*same.Gauge.Value += series.Gauge.GetValue()
		case series.Histogram != nil && same.Histogram != nil:
			mergeHistogram(same.Histogram, series.Histogram)
		}
	}
}

// labelsOf is one text for one set of labels, which are in the order of their names.
func labelsOf(series *dto.Metric) string {
	var text strings.Builder
	for _, label := range series.Label {
		text.WriteString(label.GetName() + "\x00" + label.GetValue() + "\x00")
	}
	return text.String()
}

// mergeHistogram adds a histogram to another one with the same classic buckets.
func mergeHistogram(to, from *dto.Histogram) {
	if since := from.CreatedTimestamp; since != nil && since.AsTime().Before(to.CreatedTimestamp.AsTime()) {
		to.CreatedTimestamp = since // or the samples would be new ones
	}
	*to.SampleCount += from.GetSampleCount()
	*to.SampleSum += from.GetSampleSum()
	for i, bucket := range to.Bucket {
		if i < len(from.Bucket) {
			*bucket.CumulativeCount += from.Bucket[i].GetCumulativeCount()
		}
	}
	if to.Schema == nil || from.Schema == nil {
		return
	}
	schema := min(to.GetSchema(), from.GetSchema())
	counts := make(map[int32]int64)
	for _, h := range []*dto.Histogram{to, from} {
		addNative(counts, h, h.GetSchema()-schema)
	}
	zeros := to.GetZeroCount() + from.GetZeroCount()
	to.Schema, to.ZeroCount = &schema, &zeros
	to.PositiveSpan, to.PositiveDelta = spansOf(counts)
}

// addNative adds the native buckets of a histogram, by their index at a resolution that is
// lower by so many steps: each halves the number of buckets. A span is how many indexes are
// skipped before it, and how many follow; each count is the difference to the one before:
// https://prometheus.io/docs/specs/native_histograms/.
func addNative(counts map[int32]int64, h *dto.Histogram, steps int32) {
	var index int32
	var count int64
	deltas := h.PositiveDelta
	for _, span := range h.PositiveSpan {
		index += span.GetOffset()
		for range span.GetLength() {
			if len(deltas) == 0 {
				return
			}
			count += deltas[0]
			deltas = deltas[1:]
			counts[(index-1)>>steps+1] += count
			index++
		}
	}
}

// spansOf is how native buckets are written: runs of them, each count as its difference to
// the one before.
func spansOf(counts map[int32]int64) (spans []*dto.BucketSpan, deltas []int64) {
	var next int32
	var before int64
	for _, index := range slices.Sorted(maps.Keys(counts)) {
		if offset := index - next; len(spans) == 0 || offset > 0 {
			spans = append(spans, &dto.BucketSpan{Offset: &offset, Length: new(uint32)})
		}
		*spans[len(spans)-1].Length++
		deltas = append(deltas, counts[index]-before)
		before, next = counts[index], index+1
	}
	if len(spans) == 0 { // marks a native histogram that has no bucket
		spans = []*dto.BucketSpan{{Offset: new(int32), Length: new(uint32)}}
	}
	return spans, deltas
}
