package metrics

import (
	"maps"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A Pool counts what happens in a pool. A kind of which Kinds does not know is not counted.
//
// Of a counter there is the number alone, and what Prometheus gets is made when it asks: each
// pool has dozens of them, most of which stay 0 for ever. Those of each request are in lanes.
type Pool struct {
	name  string
	kinds *Kinds

	ended               lanes // by outcome, and then by the class of their status
	duration, queueWait *histogram

	protocol []atomic.Uint64 // by kind
	exits    []atomic.Uint64 // by reason
	starts   atomic.Uint64
	starting *histogram
	cpu      atomic.Int64 // nanoseconds
	refused  atomic.Uint64
	own      atomic.Uint64
	stderr   atomic.Uint64 // bytes dropped

	slow, slowDropped atomic.Uint64
}

// classes are those of a status.
var classes = []string{"1xx", "2xx", "3xx", "4xx", "5xx"}

// Pool is that of a pool's name.
func (m *Metrics) Pool(name string) *Pool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pools[name]
	if p == nil {
		p = &Pool{
			name: name, kinds: &m.kinds, ended: newLanes(m.kinds.Lanes, len(m.kinds.Outcomes)+len(classes)),
			duration: newHistogram(m.kinds.Lanes), queueWait: newHistogram(m.kinds.Lanes), starting: newHistogram(1),
			protocol: make([]atomic.Uint64, len(m.kinds.ProtocolErrors)), exits: make([]atomic.Uint64, len(m.kinds.ProcessExits)),
		}
		m.pools[name] = p
	}
	return p
}

// Done counts a request that has ended, with the status of its response or 0, and
// the time that it took. conn is the number of its connection.
func (p *Pool) Done(conn uint32, outcome string, httpStatus int, took time.Duration) {
	counts := p.ended.lane(conn)
	inc(counts, p.kinds.Outcomes, outcome)
	if class := httpStatus / 100; class >= 1 && class <= len(classes) {
		counts[len(p.kinds.Outcomes)+class-1].Add(1)
	}
	p.duration.observe(conn, took)
}

// inc counts one of a kind.
func inc(counts []atomic.Uint64, kinds []string, kind string) {
	if i := slices.Index(kinds, kind); i >= 0 {
		counts[i].Add(1)
	}
}

// Own counts a request that the daemon itself has answered.
func (p *Pool) Own() { p.own.Add(1) }

// StderrDropped counts what was not logged.
func (p *Pool) StderrDropped(bytes int) { p.stderr.Add(uint64(bytes)) }

// Queued counts a request that has waited for its turn, on the connection of that number.
func (p *Pool) Queued(conn uint32, wait time.Duration) { p.queueWait.observe(conn, wait) }

// Started counts a program, with the time that starting it took.
func (p *Pool) Started(took time.Duration) {
	p.starts.Add(1)
	p.starting.observe(0, took)
}

// Exited counts a program that has exited.
func (p *Pool) Exited(reason string, usage *syscall.Rusage) {
	inc(p.exits, p.kinds.ProcessExits, reason)
	p.used(cpuTime(usage))
}

func (p *Pool) used(cpu time.Duration) { p.cpu.Add(int64(cpu)) }

// ProtocolError counts input that breaks the protocol.
func (p *Pool) ProtocolError(kind string) { inc(p.protocol, p.kinds.ProtocolErrors, kind) }

// Refused counts a connection that was not let in.
func (p *Pool) Refused() { p.refused.Add(1) }

// Slow counts a request that has run for too long, and whether it was recorded.
func (p *Pool) Slow(recorded bool) {
	p.slow.Add(1)
	if !recorded {
		p.slowDropped.Add(1)
	}
}

// cpuTime is that of a process that has exited, user and system.
func cpuTime(usage *syscall.Rusage) time.Duration {
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Forget drops the series of a pool that is gone.
func (m *Metrics) Forget(pool string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pools, pool)
	delete(m.workers, pool)
}

var (
	descRequests      = poolDesc("fcgid_requests_total", "Requests that have ended.", "outcome")
	descOwn           = poolDesc("fcgid_own_requests_total", "Requests for status_path and ping_path, which count nowhere else.")
	descStderrDropped = poolDesc("fcgid_stderr_dropped_bytes_total", "What programs wrote to STDERR beyond limits.stderr_rate, and was not logged.")
	descResponses     = poolDesc("fcgid_responses_total", "Responses by class of HTTP status.", "code")
	descDuration      = poolDesc("fcgid_request_duration_seconds", "From BEGIN_REQUEST to END_REQUEST.")
	descQueueWait     = poolDesc("fcgid_queue_wait_seconds", "Time that admitted requests have waited for their turn.")
	descStarts        = poolDesc("fcgid_process_starts_total", "Programs started.")
	descStartDuration = poolDesc("fcgid_process_start_duration_seconds", "Time that starting a program took.")
	descExits         = poolDesc("fcgid_process_exits_total", "Programs that have exited.", "reason")
	descCPU           = poolDesc("fcgid_process_cpu_seconds_total", "CPU time of programs, user and system: of workers as they use it, of others when they have exited.")
	descProtocol      = poolDesc("fcgid_protocol_errors_total", "Input that breaks the FastCGI protocol.", "kind")
	descRefused       = poolDesc("fcgid_connections_refused_total", "Connections that allow or allow_uids did not let in.")
	descSlow          = poolDesc("fcgid_slow_requests_total", "Requests that have run for longer than slow.after.")
	descSlowDropped   = poolDesc("fcgid_slow_requests_dropped_total", "Slow requests that were not recorded, since too many waited for that.")
)

// pools are what Prometheus gets of all pools.
type pools struct{ of *Metrics }

// Describe sends nothing: which series there are depends on the pools.
func (c pools) Describe(chan<- *prometheus.Desc) {}

// Collect sends what was counted. A series is there from the start, so that it shows its
// first increase.
func (c pools) Collect(ch chan<- prometheus.Metric) {
	c.of.mu.Lock()
	all, workers := slices.Collect(maps.Values(c.of.pools)), slices.Collect(maps.Values(c.of.workers))
	c.of.mu.Unlock()
	for _, p := range all {
		p.collect(series{ch, p.name})
	}
	for _, w := range workers {
		w.collect(series{ch, w.pool})
	}
}

func (p *Pool) collect(s series) {
	ended := p.ended.sum()
	s.each(descRequests, p.kinds.Outcomes, ended)
	s.each(descResponses, classes, ended[len(p.kinds.Outcomes):])
	s.each(descExits, p.kinds.ProcessExits, loaded(p.exits))
	s.each(descProtocol, p.kinds.ProtocolErrors, loaded(p.protocol))
	s.count(descOwn, float64(p.own.Load()))
	s.count(descStderrDropped, float64(p.stderr.Load()))
	s.count(descStarts, float64(p.starts.Load()))
	s.count(descCPU, time.Duration(p.cpu.Load()).Seconds())
	s.count(descRefused, float64(p.refused.Load()))
	s.count(descSlow, float64(p.slow.Load()))
	s.count(descSlowDropped, float64(p.slowDropped.Load()))
	s.histogram(descDuration, p.duration)
	s.histogram(descQueueWait, p.queueWait)
	s.histogram(descStartDuration, p.starting)
}

func loaded(counts []atomic.Uint64) []uint64 {
	all := make([]uint64, len(counts))
	for i := range counts {
		all[i] = counts[i].Load()
	}
	return all
}

// each sends the counters of some kinds.
func (s series) each(d *prometheus.Desc, kinds []string, counts []uint64) {
	for i, kind := range kinds {
		s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(counts[i]), s.pool, kind)
	}
}
