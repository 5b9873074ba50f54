package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Numbers are what a pool has counted by itself, and what is so at this moment.
type Numbers struct {
	Pool                             string
	Connections, InFlight, Queued    int
	Overdue                          int   // functions that run though their requests have ended
	MaxConns, MaxReqs, Queue         int   // limits in force; 0 is none
	Spooled, Spool                   int64 // bytes in files, and their limit
	ConnectionsTotal, Received, Sent int64
	AcceptQueues                     map[string]uint32 // by address, where the kernel tells
	Workers                          *WorkerNumbers    // nil but in a pool of workers
}

// WorkerNumbers are those of a pool's workers.
type WorkerNumbers struct {
	States       map[string]int
	Max, Waiting int
	Degraded     bool
	AtMax        uint64
	AtMaxTime    time.Duration
}

// Collect asks for the numbers of each pool, and for the memory that requests of all have
// and may have, whenever Prometheus asks for them. It is called once.
func (m *Metrics) Collect(pools func() []Numbers, memory func() (used, limit int64)) {
	m.registry.MustRegister(collector{pools, memory})
}

type collector struct {
	pools  func() []Numbers
	memory func() (used, limit int64)
}

func poolDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"pool"}, labels...), nil)
}

var (
	descConnections      = poolDesc("fcgid_connections", "Connections that are open.")
	descConnectionsTotal = poolDesc("fcgid_connections_total", "Connections accepted.")
	descInFlight         = poolDesc("fcgid_requests_in_flight", "Requests that are running.")
	descQueued           = poolDesc("fcgid_requests_queued", "Requests that wait for their turn.")
	descOverdue          = poolDesc("fcgid_functions_overdue", "Functions that still run though their requests have ended.")
	descLimit            = poolDesc("fcgid_limit", "Limits in force; 0 is none.", "name")
	descSpool            = poolDesc("fcgid_spool_bytes", "Bytes of bodies and answers in files.")
	descReceived         = poolDesc("fcgid_received_bytes_total", "Bytes received from clients.")
	descSent             = poolDesc("fcgid_sent_bytes_total", "Bytes sent to clients.")
	descAcceptQueue      = poolDesc("fcgid_accept_queue", "Connections that wait in the kernel to be accepted.", "listener")

	descWorkers      = poolDesc("fcgid_workers", "Workers by state.", "state")
	descWorkersMax   = poolDesc("fcgid_workers_max", "Workers that there may be.")
	descWaiting      = poolDesc("fcgid_worker_requests_waiting", "Requests that wait for a worker.")
	descDegraded     = poolDesc("fcgid_workers_degraded", "Whether workers cannot be started.")
	descAtMax        = poolDesc("fcgid_workers_at_max_total", "Times that as many workers as there may be have become busy.")
	descAtMaxSeconds = poolDesc("fcgid_workers_at_max_seconds_total", "Time for which as many workers as there may be were busy.")
)

// Those of the daemon.
var (
	descMemory      = prometheus.NewDesc("fcgid_memory_bytes", "Memory that requests of all pools hold.", nil, nil)
	descMemoryLimit = prometheus.NewDesc("fcgid_memory_limit_bytes", "Memory that they may hold.", nil, nil)
)

// Describe sends nothing: which series there are depends on the pools.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the numbers of each pool.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	used, limit := c.memory()
	ch <- prometheus.MustNewConstMetric(descMemory, prometheus.GaugeValue, float64(used))
	ch <- prometheus.MustNewConstMetric(descMemoryLimit, prometheus.GaugeValue, float64(limit))
	for _, n := range c.pools() {
		s := series{ch, n.Pool}
		s.gauge(descConnections, float64(n.Connections))
		s.gauge(descInFlight, float64(n.InFlight))
		s.gauge(descQueued, float64(n.Queued))
		s.gauge(descOverdue, float64(n.Overdue))
		s.gauge(descLimit, float64(n.MaxConns), "max_conns")
		s.gauge(descLimit, float64(n.MaxReqs), "max_reqs")
		s.gauge(descLimit, float64(n.Queue), "queue")
		s.gauge(descLimit, float64(n.Spool), "spool")
		s.gauge(descSpool, float64(n.Spooled))
		s.count(descConnectionsTotal, float64(n.ConnectionsTotal))
		s.count(descReceived, float64(n.Received))
		s.count(descSent, float64(n.Sent))
		for address, waiting := range n.AcceptQueues {
			s.gauge(descAcceptQueue, float64(waiting), address)
		}
		if n.Workers != nil {
			s.workers(n.Workers)
		}
	}
}

// A series is where the numbers of one pool go.
type series struct {
	ch   chan<- prometheus.Metric
	pool string
}

func (s series) workers(n *WorkerNumbers) {
	for state, workers := range n.States {
		s.gauge(descWorkers, float64(workers), state)
	}
	degraded := 0.
	if n.Degraded {
		degraded = 1
	}
	s.gauge(descWorkersMax, float64(n.Max))
	s.gauge(descWaiting, float64(n.Waiting))
	s.gauge(descDegraded, degraded)
	s.count(descAtMax, float64(n.AtMax))
	s.count(descAtMaxSeconds, n.AtMaxTime.Seconds())
}

func (s series) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.pool}, labels...)...)
}

func (s series) count(d *prometheus.Desc, v float64) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, s.pool)
}
