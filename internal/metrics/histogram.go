package metrics

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// A histogram is one of a pool. Its parts are the library's, one for so many lanes, and each
// is made when something is to be counted in it: most of hundreds of pools are idle.
type histogram struct {
	parts   []atomic.Pointer[prometheus.Histogram]
	created *timestamppb.Timestamp // a part may be younger
}

// lanesOfHistogram is how many lanes have a part together: one takes kilobytes.
const lanesOfHistogram = 8

func newHistogram(lanes int) *histogram {
	return &histogram{make([]atomic.Pointer[prometheus.Histogram], max(1, lanes/lanesOfHistogram)), timestamppb.Now()}
}

// newPart has classic buckets, from half a millisecond to a minute, and native ones.
func newPart() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name:                           "part",
		Buckets:                        []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		NativeHistogramBucketFactor:    1.1,
		NativeHistogramMaxBucketNumber: 100,
	})
}

func (h *histogram) observe(conn uint32, took time.Duration) {
	at := &h.parts[conn%uint32(len(h.parts))]
	part := at.Load()
	if part == nil {
		made := newPart()
		at.CompareAndSwap(nil, &made)
		part = at.Load()
	}
	(*part).Observe(took.Seconds())
}

// sum is that of all parts.
func (h *histogram) sum() *dto.Histogram {
	var sum *dto.Histogram
	for i := range h.parts {
		part := h.parts[i].Load()
		switch {
		case part == nil:
		case sum == nil:
			sum = read(*part).GetHistogram()
		default:
			mergeHistogram(sum, read(*part).GetHistogram())
		}
	}
	if sum == nil {
		sum = read(unused).GetHistogram()
	}
	sum.CreatedTimestamp = h.created
	return sum
}

// unused is what a histogram without parts is written as.
var unused = newPart()

func read(m prometheus.Metric) *dto.Metric {
	var into dto.Metric
	m.Write(&into) // fails for no histogram that has no labels of its own
	return &into
}

// A snapshot is what a histogram was, with its labels.
type snapshot struct {
	prometheus.Metric // of its labels
	histogram         *dto.Histogram
}

// Write writes it.
func (s snapshot) Write(to *dto.Metric) error {
	if err := s.Metric.Write(to); err != nil {
		return err
	}
	to.Untyped, to.Histogram = nil, s.histogram
	return nil
}

func (s series) histogram(d *prometheus.Desc, h *histogram) {
	s.ch <- snapshot{prometheus.MustNewConstMetric(d, prometheus.UntypedValue, 0, s.pool), h.sum()}
}

// lanes are counters, each in several places.
type lanes struct {
	counts []atomic.Uint64
	stride int // of the places
	size   int // how many counters there are
}

// laneGap is how many counters are between two places: two cache lines, since CPUs fetch pairs.
const laneGap = 16

func newLanes(n, size int) lanes {
	stride := size + laneGap
	return lanes{counts: make([]atomic.Uint64, max(1, n)*stride), stride: stride, size: size}
}

// lane are the counters for the connections that have a number.
func (l *lanes) lane(conn uint32) []atomic.Uint64 {
	at := int(conn%uint32(len(l.counts)/l.stride)) * l.stride // an int may be too small for conn
	return l.counts[at : at+l.size]
}

func (l *lanes) sum() []uint64 {
	all := make([]uint64, l.size)
	for at := 0; at < len(l.counts); at += l.stride {
		for i := range all {
			all[i] += l.counts[at+i].Load()
		}
	}
	return all
}
