package daemon

import (
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fcgid/fcgid/internal/runner/worker"
)

// workerMetrics are those of worker pools that count what happens. What is, and
// what only the pool counts, poolCollector asks for.
type workerMetrics struct {
	starts        *prometheus.CounterVec
	startDuration *prometheus.HistogramVec
	exits         *prometheus.CounterVec
	wait          *prometheus.HistogramVec
	repeated      *prometheus.CounterVec
}

func newWorkerMetrics() workerMetrics {
	return workerMetrics{
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

func (m *workerMetrics) vectors() []vector {
	return []vector{m.starts, m.startDuration, m.exits, m.wait, m.repeated}
}

// workerHooks count what happens to the workers of a pool.
func (m *metrics) workerHooks(pool string) worker.Hooks {
	starts, duration := m.worker.starts.WithLabelValues(pool), m.worker.startDuration.WithLabelValues(pool)
	exits, cpu := m.worker.exits.MustCurryWith(prometheus.Labels{"pool": pool}), m.cpu.WithLabelValues(pool)
	for _, reason := range worker.ExitReasons {
		exits.WithLabelValues(reason) // a series that is there from the start shows its first increase
	}
	wait := m.worker.wait.WithLabelValues(pool)
	return worker.Hooks{
		Started: func(took time.Duration) {
			starts.Inc()
			duration.Observe(took.Seconds())
		},
		Exited: func(reason string, usage *syscall.Rusage) {
			exits.WithLabelValues(reason).Inc()
			if usage != nil {
				cpu.Add(cpuTime(usage).Seconds())
			}
		},
		Waited:   func(d time.Duration) { wait.Observe(d.Seconds()) },
		Repeated: m.worker.repeated.WithLabelValues(pool).Inc,
	}
}

var (
	descWorkers      = poolDesc("fcgid_workers", "Workers by state.", "state")
	descWorkersMax   = poolDesc("fcgid_workers_max", "Workers that there may be.")
	descWaiting      = poolDesc("fcgid_worker_requests_waiting", "Requests that wait for a worker.")
	descDegraded     = poolDesc("fcgid_workers_degraded", "Whether workers cannot be started.")
	descAtMax        = poolDesc("fcgid_workers_at_max_total", "Times that as many workers as there may be have become busy.")
	descAtMaxSeconds = poolDesc("fcgid_workers_at_max_seconds_total", "Time for which as many workers as there may be were busy.")
)

// collectWorkers sends the numbers of a pool's workers.
func collectWorkers(ch chan<- prometheus.Metric, pool string, w *workerPool) {
	s := w.Snapshot()
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, append([]string{pool}, labels...)...)
	}
	for state, n := range workerCounts(&s) {
		send(descWorkers, prometheus.GaugeValue, float64(n), state)
	}
	degraded := 0.
	if s.Degraded {
		degraded = 1
	}
	send(descWorkersMax, prometheus.GaugeValue, float64(s.Max))
	send(descWaiting, prometheus.GaugeValue, float64(s.Waiting))
	send(descDegraded, prometheus.GaugeValue, degraded)
	send(descAtMax, prometheus.CounterValue, float64(s.AtMax))
	send(descAtMaxSeconds, prometheus.CounterValue, s.AtMaxTime.Seconds())
}
