package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Numbers are what a pool has counted by itself, and what is so at this moment.
type Numbers struct {
	Pool                             string
	Serving                          bool // no order holds or refuses requests
	Connections, InFlight, Queued    int
	Overdue                          int   // functions that run though their requests have ended
	MaxConns, MaxReqs, Queue         int   // limits in force; 0 is none
	Spooled, Spool                   int64 // bytes in files, and their limit
	ConnectionsTotal, Received, Sent int64
	AcceptQueues                     map[string]uint32 // by address, where the kernel tells
	Workers                          *WorkerNumbers    // nil but in a pool of workers
	Cgroup                           *CgroupNumbers    // nil: it has none
}

// CgroupNumbers are those of a pool's cgroup, as far as the kernel counts: nil is not known,
// or no limit.
type CgroupNumbers struct{ Memory, MemoryLimit, Pids *int64 }

// WorkerNumbers are those of a pool's workers.
type WorkerNumbers struct {
	States       map[string]int
	Direct       bool // they accept connections themselves: only they know what they do
	Max, Waiting int
	Degraded     bool
	RSS          int64 // bytes, with descendants
	AtMax        uint64
	AtMaxTime    time.Duration
}

// Sources tell what is asked for whenever Prometheus asks.
type Sources struct {
	Pools      func() []Numbers
	Memory     func() (used, limit int64)        // that requests of all pools have, and may have
	LogDropped func() (records map[string]int64) // that were dropped, by log
}

// Collect asks the sources from now on. It is called once.
func (m *Metrics) Collect(from Sources) { m.registry.MustRegister(collector{from}) }

type collector struct{ from Sources }

func poolDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"pool"}, labels...), nil)
}

var (
	descConnections      = poolDesc("fcgid_connections", "Connections that are open.")
	descConnectionsTotal = poolDesc("fcgid_connections_total", "Connections accepted.")
	descInFlight         = poolDesc("fcgid_requests_in_flight", "Requests that are running.")
	descQueued           = poolDesc("fcgid_requests_queued", "Requests that wait for their turn.")
	descServing          = poolDesc("fcgid_pool_serving", "Whether requests are begun: 0 while an order holds or refuses them.")
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
	descResident     = poolDesc("fcgid_workers_resident_bytes", "Memory that workers have, with their descendants: what they share counts for each.")
	descAtMax        = poolDesc("fcgid_workers_at_max_total", "Times that as many workers as there may be have become busy.")
	descAtMaxSeconds = poolDesc("fcgid_workers_at_max_seconds_total", "Time for which as many workers as there may be were busy.")

	descCgroupMemory      = poolDesc("fcgid_cgroup_memory_bytes", "Memory of the pool's cgroup.")
	descCgroupMemoryLimit = poolDesc("fcgid_cgroup_memory_limit_bytes", "Memory that it may have.")
	descCgroupTasks       = poolDesc("fcgid_cgroup_tasks", "Processes and threads in the pool's cgroup.")
)

// Those of the daemon.
var (
	descMemory      = prometheus.NewDesc("fcgid_memory_bytes", "Memory that requests of all pools hold.", nil, nil)
	descMemoryLimit = prometheus.NewDesc("fcgid_memory_limit_bytes", "Memory that they may hold.", nil, nil)
	descLogDropped  = prometheus.NewDesc("fcgid_log_dropped_records_total", "Records that a log did not take.", []string{"log"}, nil)
)

// Describe sends nothing: which series there are depends on the pools.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the numbers of each pool.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	used, limit := c.from.Memory()
	ch <- prometheus.MustNewConstMetric(descMemory, prometheus.GaugeValue, float64(used))
	ch <- prometheus.MustNewConstMetric(descMemoryLimit, prometheus.GaugeValue, float64(limit))
	for log, records := range c.from.LogDropped() {
		ch <- prometheus.MustNewConstMetric(descLogDropped, prometheus.CounterValue, float64(records), log)
	}
	for _, n := range c.from.Pools() {
		s := series{ch, n.Pool}
		for address, waiting := range n.AcceptQueues {
			s.gauge(descAcceptQueue, float64(waiting), address)
		}
		if n.Workers != nil {
			s.workers(n.Workers)
		}
		if n.Cgroup != nil {
			s.cgroup(n.Cgroup)
		}
		if n.Workers != nil && n.Workers.Direct {
			continue
		}
		s.gauge(descConnections, float64(n.Connections))
		s.gauge(descInFlight, float64(n.InFlight))
		s.gauge(descQueued, float64(n.Queued))
		s.gauge(descServing, oneIf(n.Serving))
		s.gauge(descOverdue, float64(n.Overdue))
		s.gauge(descLimit, float64(n.MaxConns), "max_conns")
		s.gauge(descLimit, float64(n.MaxReqs), "max_reqs")
		s.gauge(descLimit, float64(n.Queue), "queue")
		s.gauge(descLimit, float64(n.Spool), "spool")
		s.gauge(descSpool, float64(n.Spooled))
		s.count(descConnectionsTotal, float64(n.ConnectionsTotal))
		s.count(descReceived, float64(n.Received))
		s.count(descSent, float64(n.Sent))
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
	s.gauge(descWorkersMax, float64(n.Max))
	s.gauge(descDegraded, oneIf(n.Degraded))
	s.gauge(descResident, float64(n.RSS))
	if n.Direct {
		return
	}
	s.gauge(descWaiting, float64(n.Waiting))
	s.count(descAtMax, float64(n.AtMax))
	s.count(descAtMaxSeconds, n.AtMaxTime.Seconds())
}

func (s series) cgroup(n *CgroupNumbers) {
	for desc, value := range map[*prometheus.Desc]*int64{descCgroupMemory: n.Memory, descCgroupMemoryLimit: n.MemoryLimit, descCgroupTasks: n.Pids} {
		if value != nil {
			s.gauge(desc, float64(*value))
		}
	}
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

func (s series) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.pool}, labels...)...)
}

func (s series) count(d *prometheus.Desc, v float64) {
	s.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, s.pool)
}
