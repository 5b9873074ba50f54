package metrics

import (
	"sync/atomic"
	"time"
)

// Workers count what happens to the workers of a pool. They are used by many
// goroutines at once. What is, and what only the pool counts, the collector asks for.
type Workers struct {
	metrics *Metrics
	pool    string

	starts, repeated atomic.Uint64
	exits            []atomic.Uint64 // by reason
	starting, wait   *histogram
}

// Workers are the metrics of the workers of a pool.
func (m *Metrics) Workers(pool string) *Workers {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.workers[pool]
	if w == nil {
		w = &Workers{
			metrics: m, pool: pool, exits: make([]atomic.Uint64, len(m.kinds.WorkerExits)),
			starting: newHistogram(1), wait: newHistogram(1),
		}
		m.workers[pool] = w
	}
	return w
}

// Started counts a worker that became ready.
func (w *Workers) Started(took time.Duration) {
	w.starts.Add(1)
	w.starting.observe(0, took)
}

// Exited counts one that has ended.
func (w *Workers) Exited(reason string) { inc(w.exits, w.metrics.kinds.WorkerExits, reason) }

// Used counts CPU time that one has used, unless the pool was forgotten.
func (w *Workers) Used(cpu time.Duration) {
	w.metrics.mu.Lock()
	defer w.metrics.mu.Unlock()
	if p := w.metrics.pools[w.pool]; p != nil {
		p.used(cpu)
	}
}

// Waited counts a request that has waited for a worker.
func (w *Workers) Waited(d time.Duration) { w.wait.observe(0, d) }

// Repeated counts a request that was given to another worker.
func (w *Workers) Repeated() { w.repeated.Add(1) }

// ForgetWorkers drops the series of the workers of a pool that has none any more.
func (m *Metrics) ForgetWorkers(pool string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.workers, pool)
}

var (
	descWorkerStarts        = poolDesc("fcgid_worker_starts_total", "Workers that were started and became ready.")
	descWorkerStartDuration = poolDesc("fcgid_worker_start_duration_seconds", "From a worker's start until it was ready.")
	descWorkerExits         = poolDesc("fcgid_worker_exits_total", "Workers that have ended.", "reason")
	descWorkerWait          = poolDesc("fcgid_worker_wait_seconds", "Time that requests have waited for a worker.")
	descWorkerRepeated      = poolDesc("fcgid_worker_repeated_total", "Requests given to another worker because their first one died.")
)

func (w *Workers) collect(s series) {
	s.each(descWorkerExits, w.metrics.kinds.WorkerExits, loaded(w.exits))
	s.count(descWorkerStarts, float64(w.starts.Load()))
	s.count(descWorkerRepeated, float64(w.repeated.Load()))
	s.histogram(descWorkerStartDuration, w.starting)
	s.histogram(descWorkerWait, w.wait)
}
