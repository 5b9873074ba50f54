// Package metrics counts what happens and shows it to Prometheus; every metric's
// name is here. Whoever knows of something that happens calls a method, and what
// is so at this moment comes from a function: the package knows nobody.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fcgid/fcgid/internal/version"
)

// Kinds are the values that labels may have. A series that is there from the start
// shows its first increase.
type Kinds struct {
	Outcomes       []string // of requests
	ProtocolErrors []string
	ProcessExits   []string // reasons
	WorkerExits    []string // reasons
}

// Metrics are all that fcgid exposes to Prometheus. They are used by many
// goroutines at once.
type Metrics struct {
	kinds    Kinds
	registry *prometheus.Registry
	before   atomic.Pointer[Before]

	reloadOK      prometheus.Gauge
	reloadTime    prometheus.Gauge
	reloads       *prometheus.CounterVec
	upgrades      *prometheus.CounterVec
	requests      *prometheus.CounterVec
	own           *prometheus.CounterVec
	stderrDropped *prometheus.CounterVec
	responses     *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	queueWait     *prometheus.HistogramVec
	starts        *prometheus.CounterVec
	startDuration *prometheus.HistogramVec
	exits         *prometheus.CounterVec
	cpu           *prometheus.CounterVec
	protocol      *prometheus.CounterVec
	refused       *prometheus.CounterVec
	slow          *prometheus.CounterVec
	slowDropped   *prometheus.CounterVec
	worker        workerVectors
}

// New returns Metrics that have counted nothing.
func New(kinds Kinds) *Metrics {
	m := &Metrics{
		kinds:    kinds,
		registry: prometheus.NewRegistry(),
		reloadOK: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fcgid_config_last_reload_successful", Help: "Whether the last (re)load of the configuration was successful.",
		}),
		reloadTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fcgid_config_last_reload_success_timestamp_seconds", Help: "When the configuration was last (re)loaded with success.",
		}),
		reloads:       counter("fcgid_config_reloads_total", "Reloads of the configuration.", "result"),
		upgrades:      counter("fcgid_upgrades_total", "Attempts to have another daemon take the place of this one.", "result"),
		requests:      counter("fcgid_requests_total", "Requests that have ended.", "pool", "outcome"),
		own:           counter("fcgid_own_requests_total", "Requests for status_path and ping_path, which count nowhere else.", "pool"),
		stderrDropped: counter("fcgid_stderr_dropped_bytes_total", "What programs wrote to STDERR beyond limits.stderr_rate, and was not logged.", "pool"),
		responses:     counter("fcgid_responses_total", "Responses by class of HTTP status.", "pool", "code"),
		duration:      histogram("fcgid_request_duration_seconds", "From BEGIN_REQUEST to END_REQUEST."),
		queueWait:     histogram("fcgid_queue_wait_seconds", "Time that admitted requests have waited for their turn."),
		starts:        counter("fcgid_process_starts_total", "Programs started.", "pool"),
		startDuration: histogram("fcgid_process_start_duration_seconds", "Time that starting a program took."),
		exits:         counter("fcgid_process_exits_total", "Programs that have exited.", "pool", "reason"),
		cpu:           counter("fcgid_process_cpu_seconds_total", "CPU time of programs, user and system: of workers as they use it, of others when they have exited.", "pool"),
		protocol:      counter("fcgid_protocol_errors_total", "Input that breaks the FastCGI protocol.", "pool", "kind"),
		refused:       counter("fcgid_connections_refused_total", "Connections that allow or allow_uids did not let in.", "pool"),
		slow:          counter("fcgid_slow_requests_total", "Requests that have run for longer than slow.after.", "pool"),
		slowDropped:   counter("fcgid_slow_requests_dropped_total", "Slow requests that were not recorded, since too many waited for that.", "pool"),
		worker:        newWorkerVectors(),
	}
	m.registry.MustRegister(
		buildInfo(), m.reloadOK, m.reloadTime, m.reloads, m.upgrades, m.requests, m.own, m.stderrDropped, m.responses, m.duration, m.queueWait, m.starts,
		m.startDuration, m.exits, m.cpu, m.protocol, m.refused, m.slow, m.slowDropped,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	for _, result := range []string{succeeded, failed} {
		m.reloads.WithLabelValues(result)
		m.upgrades.WithLabelValues(result)
	}
	for _, v := range m.worker.all() {
		m.registry.MustRegister(v)
	}
	return m
}

// Handler answers Prometheus.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(prometheus.GathererFunc(m.gather), promhttp.HandlerOpts{EnableOpenMetrics: true})
}

func buildInfo() prometheus.Gauge {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "fcgid_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": version.Version, "commit": version.Commit(), "goversion": runtime.Version()},
	})
	info.Set(1)
	return info
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// histogram has classic buckets, from half a millisecond to a minute, and native ones.
func histogram(name, help string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help,
		Buckets:                        []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		NativeHistogramBucketFactor:    1.1,
		NativeHistogramMaxBucketNumber: 100,
	}, []string{"pool"})
}

// The results of a reload and of an upgrade.
const (
	succeeded = "success"
	failed    = "failure"
)

func resultOf(err error) string {
	if err != nil {
		return failed
	}
	return succeeded
}

// Reloaded notes how a (re)load of the configuration went.
func (m *Metrics) Reloaded(err error) {
	m.reloads.WithLabelValues(resultOf(err)).Inc()
	if err != nil {
		m.reloadOK.Set(0)
		return
	}
	m.reloadOK.Set(1)
	m.reloadTime.SetToCurrentTime()
}

// Upgraded counts an attempt to have another daemon take the place of this one. What has
// succeeded is counted here too: that one goes on from these counters.
func (m *Metrics) Upgraded(err error) { m.upgrades.WithLabelValues(resultOf(err)).Inc() }

// A Pool counts what happens in a pool.
type Pool struct {
	requests  map[string]prometheus.Counter // by outcome
	responses [6]prometheus.Counter         // by the first digit of the status
	duration  prometheus.Histogram
	queueWait prometheus.Observer
	starts    prometheus.Counter
	starting  prometheus.Observer
	cpu       prometheus.Counter
	exits     *prometheus.CounterVec
	protocol  *prometheus.CounterVec
	refused   prometheus.Counter
	own       prometheus.Counter
	stderr    prometheus.Counter // dropped

	slow, slowDropped prometheus.Counter
}

// Pool is that of a pool, looked up once.
func (m *Metrics) Pool(name string) *Pool {
	by := prometheus.Labels{"pool": name}
	p := &Pool{
		requests:  make(map[string]prometheus.Counter),
		duration:  m.duration.With(by).(prometheus.Histogram),
		queueWait: m.queueWait.With(by),
		starts:    m.starts.With(by),
		starting:  m.startDuration.With(by),
		cpu:       m.cpu.With(by),
		exits:     m.exits.MustCurryWith(by),
		protocol:  m.protocol.MustCurryWith(by),
		refused:   m.refused.With(by),
		own:       m.own.With(by),
		stderr:    m.stderrDropped.With(by),

		slow: m.slow.With(by), slowDropped: m.slowDropped.With(by),
	}
	for _, o := range m.kinds.Outcomes {
		p.requests[o] = m.requests.WithLabelValues(name, o)
	}
	for i := 1; i <= 5; i++ {
		p.responses[i] = m.responses.WithLabelValues(name, strconv.Itoa(i)+"xx")
	}
	for _, kind := range m.kinds.ProtocolErrors {
		p.protocol.WithLabelValues(kind)
	}
	for _, reason := range m.kinds.ProcessExits {
		p.exits.WithLabelValues(reason)
	}
	return p
}

// Done counts a request that has ended, with the status of its response or 0, and
// the time that it took.
func (p *Pool) Done(outcome string, httpStatus int, took time.Duration) {
	p.requests[outcome].Inc()
	if class := httpStatus / 100; class >= 1 && class <= 5 {
		p.responses[class].Inc()
	}
	p.duration.Observe(took.Seconds())
}

// Own counts a request that the daemon itself has answered.
func (p *Pool) Own() { p.own.Inc() }

// StderrDropped counts what was not logged.
func (p *Pool) StderrDropped(bytes int) { p.stderr.Add(float64(bytes)) }

// Queued counts a request that has waited for its turn.
func (p *Pool) Queued(wait time.Duration) { p.queueWait.Observe(wait.Seconds()) }

// Started counts a program, with the time that starting it took.
func (p *Pool) Started(took time.Duration) {
	p.starts.Inc()
	p.starting.Observe(took.Seconds())
}

// Exited counts a program that has exited.
func (p *Pool) Exited(reason string, usage *syscall.Rusage) {
	p.exits.WithLabelValues(reason).Inc()
	p.cpu.Add(cpuTime(usage).Seconds())
}

// ProtocolError counts input that breaks the protocol.
func (p *Pool) ProtocolError(kind string) { p.protocol.WithLabelValues(kind).Inc() }

// Refused counts a connection that was not let in.
func (p *Pool) Refused() { p.refused.Inc() }

// Slow counts a request that has run for too long, and whether it was recorded.
func (p *Pool) Slow(recorded bool) {
	p.slow.Inc()
	if !recorded {
		p.slowDropped.Inc()
	}
}

// cpuTime is that of a process that has exited, user and system.
func cpuTime(usage *syscall.Rusage) time.Duration {
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Forget drops the series of a pool that is gone.
func (m *Metrics) Forget(pool string) {
	by := prometheus.Labels{"pool": pool}
	for _, v := range append(m.worker.all(),
		m.requests, m.own, m.stderrDropped, m.responses, m.duration, m.queueWait, m.starts, m.startDuration, m.exits, m.cpu, m.protocol, m.refused,
		m.slow, m.slowDropped,
	) {
		v.DeletePartialMatch(by)
	}
}
