package daemon

import (
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/server"
)

// metrics are all that fcgid exposes to Prometheus.
type metrics struct {
	registry *prometheus.Registry

	reloadOK      prometheus.Gauge
	reloadTime    prometheus.Gauge
	reloads       *prometheus.CounterVec
	requests      *prometheus.CounterVec
	responses     *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	queueWait     *prometheus.HistogramVec
	starts        *prometheus.CounterVec
	startDuration *prometheus.HistogramVec
	exits         *prometheus.CounterVec
	cpu           *prometheus.CounterVec
	protocol      *prometheus.CounterVec
	refused       *prometheus.CounterVec
	overdue       *prometheus.GaugeVec
	slow          *prometheus.CounterVec
	slowDropped   *prometheus.CounterVec
	worker        workerMetrics
}

func newMetrics() *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		reloadOK: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fcgid_config_last_reload_successful", Help: "Whether the last (re)load of the configuration was successful.",
		}),
		reloadTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "fcgid_config_last_reload_success_timestamp_seconds", Help: "When the configuration was last (re)loaded with success.",
		}),
		reloads:       counter("fcgid_config_reloads_total", "Reloads of the configuration.", "result"),
		requests:      counter("fcgid_requests_total", "Requests that have ended.", "pool", "outcome"),
		responses:     counter("fcgid_responses_total", "Responses by class of HTTP status.", "pool", "code"),
		duration:      histogram("fcgid_request_duration_seconds", "From BEGIN_REQUEST to END_REQUEST."),
		queueWait:     histogram("fcgid_queue_wait_seconds", "Time that admitted requests have waited for their turn."),
		starts:        counter("fcgid_process_starts_total", "Programs started.", "pool"),
		startDuration: histogram("fcgid_process_start_duration_seconds", "Time that starting a program took."),
		exits:         counter("fcgid_process_exits_total", "Programs that have exited.", "pool", "reason"),
		cpu:           counter("fcgid_process_cpu_seconds_total", "CPU time of programs that have exited, user and system.", "pool"),
		protocol:      counter("fcgid_protocol_errors_total", "Input that breaks the FastCGI protocol.", "pool", "kind"),
		refused:       counter("fcgid_connections_refused_total", "Connections that allow or allow_uids did not let in.", "pool"),
		overdue: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "fcgid_functions_overdue", Help: "Functions that still run though their requests have ended.",
		}, []string{"pool"}),
		slow:        counter("fcgid_slow_requests_total", "Requests that have run for longer than slow.after.", "pool"),
		slowDropped: counter("fcgid_slow_requests_dropped_total", "Slow requests that were not recorded, since too many waited for that.", "pool"),
		worker:      newWorkerMetrics(),
	}
	m.registry.MustRegister(
		buildInfo(), m.reloadOK, m.reloadTime, m.reloads, m.requests, m.responses, m.duration, m.queueWait, m.starts,
		m.startDuration, m.exits, m.cpu, m.protocol, m.refused, m.overdue, m.slow, m.slowDropped,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.reloads.WithLabelValues("success")
	m.reloads.WithLabelValues("failure")
	for _, v := range m.worker.vectors() {
		m.registry.MustRegister(v)
	}
	return m
}

func buildInfo() prometheus.Gauge {
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "fcgid_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": version, "commit": builtFrom(), "goversion": runtime.Version()},
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

// reloaded notes how a (re)load of the configuration went.
func (m *metrics) reloaded(err error) {
	if err != nil {
		m.reloads.WithLabelValues("failure").Inc()
		m.reloadOK.Set(0)
		return
	}
	m.reloads.WithLabelValues("success").Inc()
	m.reloadOK.Set(1)
	m.reloadTime.SetToCurrentTime()
}

// poolMetrics are the metrics of one pool, looked up once.
type poolMetrics struct {
	requests  map[server.Outcome]prometheus.Counter
	responses [6]prometheus.Counter // by the first digit of the status
	duration  prometheus.Observer
	queueWait prometheus.Observer
	starts    prometheus.Counter
	starting  prometheus.Observer
	cpu       prometheus.Counter
	exits     *prometheus.CounterVec
	protocol  *prometheus.CounterVec
	refused   prometheus.Counter

	slow, slowDropped prometheus.Counter
}

func (m *metrics) pool(name string) *poolMetrics {
	by := prometheus.Labels{"pool": name}
	p := &poolMetrics{
		requests:  make(map[server.Outcome]prometheus.Counter),
		duration:  m.duration.With(by),
		queueWait: m.queueWait.With(by),
		starts:    m.starts.With(by),
		starting:  m.startDuration.With(by),
		cpu:       m.cpu.With(by),
		exits:     m.exits.MustCurryWith(by),
		protocol:  m.protocol.MustCurryWith(by),
		refused:   m.refused.With(by),

		slow: m.slow.With(by), slowDropped: m.slowDropped.With(by),
	}
	for _, o := range []server.Outcome{server.OK, server.Failed, server.TimedOut, server.Aborted, server.Overloaded, server.Rejected} {
		p.requests[o] = m.requests.WithLabelValues(name, string(o))
	}
	for i := 1; i <= 5; i++ {
		p.responses[i] = m.responses.WithLabelValues(name, strconv.Itoa(i)+"xx")
	}
	// A series that is there from the start shows its first increase.
	for _, kind := range server.ProtocolErrorKinds {
		p.protocol.WithLabelValues(kind)
	}
	for _, reason := range process.ExitReasons {
		p.exits.WithLabelValues(reason)
	}
	return p
}

func (p *poolMetrics) done(r *server.Result) {
	p.requests[r.Outcome].Inc()
	if class := r.HTTPStatus / 100; class >= 1 && class <= 5 {
		p.responses[class].Inc()
	}
	p.duration.Observe((r.Queue + r.Run).Seconds())
}

func (p *poolMetrics) observeQueue(wait time.Duration) { p.queueWait.Observe(wait.Seconds()) }

func (p *poolMetrics) started(took time.Duration) {
	p.starts.Inc()
	p.starting.Observe(took.Seconds())
}

func (p *poolMetrics) exited(reason string, usage *syscall.Rusage) {
	p.exits.WithLabelValues(reason).Inc()
	p.cpu.Add(cpuTime(usage).Seconds())
}

// cpuTime is that of a process that has exited, user and system.
func cpuTime(usage *syscall.Rusage) time.Duration {
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// forget drops the series of a pool that is gone.
func (m *metrics) forget(pool string) {
	by := prometheus.Labels{"pool": pool}
	for _, v := range append(m.worker.vectors(),
		m.requests, m.responses, m.duration, m.queueWait, m.starts, m.startDuration, m.exits, m.cpu, m.protocol, m.refused, m.overdue,
		m.slow, m.slowDropped,
	) {
		v.DeletePartialMatch(by)
	}
}

// forgetWorkers drops the series of the workers of a pool that has none any more.
func (m *metrics) forgetWorkers(pool string) {
	for _, v := range m.worker.vectors() {
		v.DeletePartialMatch(prometheus.Labels{"pool": pool})
	}
}

// poolCollector asks the pools for their numbers when Prometheus asks for them.
type poolCollector struct{ pools func() []*pool }

func poolDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"pool"}, labels...), nil)
}

var (
	descConnections      = poolDesc("fcgid_connections", "Connections that are open.")
	descConnectionsTotal = poolDesc("fcgid_connections_total", "Connections accepted.")
	descInFlight         = poolDesc("fcgid_requests_in_flight", "Requests that are running.")
	descQueued           = poolDesc("fcgid_requests_queued", "Requests that wait for their turn.")
	descLimit            = poolDesc("fcgid_limit", "Limits in force; 0 is none.", "name")
	descReceived         = poolDesc("fcgid_received_bytes_total", "Bytes received from clients.")
	descSent             = poolDesc("fcgid_sent_bytes_total", "Bytes sent to clients.")
	descAcceptQueue      = poolDesc("fcgid_accept_queue", "Connections that wait in the kernel to be accepted.", "listener")
)

// Describe sends nothing: which series there are depends on the pools.
func (c poolCollector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the numbers of each pool.
func (c poolCollector) Collect(ch chan<- prometheus.Metric) {
	for _, p := range c.pools() {
		s := p.server.Snapshot()
		gauge := func(d *prometheus.Desc, v int, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), append([]string{p.name}, labels...)...)
		}
		count := func(d *prometheus.Desc, v int64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), p.name)
		}
		gauge(descConnections, s.Connections)
		gauge(descInFlight, s.InFlight)
		gauge(descQueued, s.Queued)
		gauge(descLimit, s.Limits.MaxConns, "max_conns")
		gauge(descLimit, s.Limits.MaxReqs, "max_reqs")
		gauge(descLimit, s.Limits.Queue, "queue")
		count(descConnectionsTotal, s.ConnectionsTotal)
		count(descReceived, s.Received)
		count(descSent, s.Sent)
		for address, waiting := range p.acceptQueues() {
			gauge(descAcceptQueue, int(waiting), address)
		}
		if w := p.workersNow(); w != nil {
			collectWorkers(ch, p.name, w)
		}
	}
}
