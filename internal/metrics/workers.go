package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// workerVectors are those of worker pools that count what happens. What is, and
// what only the pool counts, the collector asks for.
type workerVectors struct {
	starts        *prometheus.CounterVec
	startDuration *prometheus.HistogramVec
	exits         *prometheus.CounterVec
	wait          *prometheus.HistogramVec
	repeated      *prometheus.CounterVec
}

func newWorkerVectors() workerVectors {
	return workerVectors{
		starts:        counter("fcgid_worker_starts_total", "Workers that were started and became ready.", "pool"),
		startDuration: histogram("fcgid_worker_start_duration_seconds", "From a worker's start until it was ready."),
		exits:         counter("fcgid_worker_exits_total", "Workers that have ended.", "pool", "reason"),
		wait:          histogram("fcgid_worker_wait_seconds", "Time that requests have waited for a worker."),
		repeated:      counter("fcgid_worker_repeated_total", "Requests given to another worker because their first one died.", "pool"),
	}
}

// A vector is a metric with labels.
type vector interface {
	prometheus.Collector
	DeletePartialMatch(prometheus.Labels) int
}

func (m *workerVectors) all() []vector {
	return []vector{m.starts, m.startDuration, m.exits, m.wait, m.repeated}
}

// Workers count what happens to the workers of a pool. They are used by many
// goroutines at once.
type Workers struct {
	starts, cpu, repeated prometheus.Counter
	starting, wait        prometheus.Observer
	exits                 *prometheus.CounterVec
}

// Workers are the metrics of the workers of a pool, looked up once.
func (m *Metrics) Workers(pool string) *Workers {
	w := &Workers{
		starts: m.worker.starts.WithLabelValues(pool), starting: m.worker.startDuration.WithLabelValues(pool),
		exits: m.worker.exits.MustCurryWith(prometheus.Labels{"pool": pool}), cpu: m.cpu.WithLabelValues(pool),
		wait: m.worker.wait.WithLabelValues(pool), repeated: m.worker.repeated.WithLabelValues(pool),
	}
	for _, reason := range m.kinds.WorkerExits {
		w.exits.WithLabelValues(reason) // a series that is there from the start shows its first increase
	}
	return w
}

// Started counts a worker that became ready.
func (w *Workers) Started(took time.Duration) {
	w.starts.Inc()
	w.starting.Observe(took.Seconds())
}

// Exited counts one that has ended.
func (w *Workers) Exited(reason string) { w.exits.WithLabelValues(reason).Inc() }

// Used counts CPU time that one has used.
func (w *Workers) Used(cpu time.Duration) { w.cpu.Add(cpu.Seconds()) }

// Waited counts a request that has waited for a worker.
func (w *Workers) Waited(d time.Duration) { w.wait.Observe(d.Seconds()) }

// Repeated counts a request that was given to another worker.
func (w *Workers) Repeated() { w.repeated.Inc() }

// ForgetWorkers drops the series of the workers of a pool that has none any more.
func (m *Metrics) ForgetWorkers(pool string) {
	for _, v := range m.worker.all() {
		v.DeletePartialMatch(prometheus.Labels{"pool": pool})
	}
}
