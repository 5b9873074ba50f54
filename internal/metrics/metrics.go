// Package metrics counts what happens and shows it to Prometheus; every metric's
// name is here. Whoever knows of something that happens calls a method, and what
// is so at this moment comes from a function: the package knows nobody.
package metrics

import (
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"

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
	// Lanes is in how many places requests are counted, so that CPUs which serve different
	// connections do not write to the same; 0 is one.
	Lanes int
}

// Metrics are all that fcgid exposes to Prometheus. They are used by many
// goroutines at once.
type Metrics struct {
	kinds    Kinds
	registry *prometheus.Registry
	before   atomic.Pointer[Before]

	reloadOK   prometheus.Gauge
	reloadTime prometheus.Gauge
	reloads    *prometheus.CounterVec
	upgrades   *prometheus.CounterVec

	mu      sync.Mutex // guards the fields below
	pools   map[string]*Pool
	workers map[string]*Workers
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
		reloads:  counter("fcgid_config_reloads_total", "Reloads of the configuration."),
		upgrades: counter("fcgid_upgrades_total", "Attempts to have another daemon take the place of this one."),
		pools:    make(map[string]*Pool),
		workers:  make(map[string]*Workers),
	}
	m.registry.MustRegister(
		buildInfo(), m.reloadOK, m.reloadTime, m.reloads, m.upgrades, pools{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	for _, result := range []string{succeeded, failed} {
		m.reloads.WithLabelValues(result)
		m.upgrades.WithLabelValues(result)
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

// The results of a reload and of an upgrade.
const (
	succeeded = "success"
	failed    = "failure"
)

// counter counts by result.
func counter(name, help string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"result"})
}

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
