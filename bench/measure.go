package main

import (
	"errors"
	"fmt"
	"time"
)

// A metric names what is measured, with its unit.
type metric string

const (
	requestRate      metric = "requests/s"
	received         metric = "MB/s received"
	sent             metric = "MB/s sent"
	daemonPerGB      metric = "daemon CPU s/GB"
	daemonPerRequest metric = "daemon CPU ms/request"
	// treePerRequest holds the programs too, of servers that wait for them: the
	// kernel counts the time of a child that nobody waited for nowhere.
	treePerRequest metric = "CPU ms/request"
	medianLatency  metric = "median latency, ms"
	p99            metric = "p99 latency, ms"
	threads        metric = "threads"
	moreThreads    metric = "threads beyond an idle daemon's"
	memoryEach     metric = "KiB each"
	poolMemory     metric = "MiB of all processes (PSS)"
	cloneTime      metric = "ms/clone"
	firstByte      metric = "first byte, ms"
	longestGap     metric = "longest gap, ms"
	resident       metric = "MiB resident"
	readyAfter     metric = "s until it serves"
	checkTime      metric = "s for check"
)

// A sample is one measurement of one side.
type sample map[metric]float64

// warmUp is how long a server works before what it does counts.
func (r *rig) warmUp() time.Duration { return max(100*time.Millisecond, r.duration/8) }

// measureLoad puts a load onto a server. A request that fails is an error: a
// number with errors in it compares nothing.
func (r *rig) measureLoad(s *server, ld load) (sample, error) {
	before := usageOf(s.pid())
	duration := r.duration
	if ld.rate > 0 || ld.timed {
		duration *= 2 // a percentile needs more requests than a mean
	}
	res, err := ld.run(r.ctx, r.warmUp(), duration)
	if err != nil {
		return nil, err
	}
	used := usageOf(s.pid()).minus(before)
	if res.failures > 0 {
		return nil, fmt.Errorf("%d of %d requests failed: %w", res.failures, res.requests+int64(res.failures), res.failure)
	}
	if res.requests == 0 {
		return nil, errors.New("no request was answered")
	}
	seconds := res.window.Seconds()
	m := sample{
		requestRate:      float64(res.windowRequests) / seconds,
		daemonPerRequest: used.daemon.Seconds() * 1e3 / float64(res.requests),
		treePerRequest:   used.tree.Seconds() * 1e3 / float64(res.requests),
		received:         float64(res.windowIn) / 1e6 / seconds,
		sent:             float64(res.windowOut) / 1e6 / seconds,
		daemonPerGB:      used.daemon.Seconds() / (float64(res.in+res.out) / 1e9),
	}
	if ld.rate > 0 || ld.timed {
		if len(res.latencies) == 0 {
			return nil, errors.New("no request was answered in the time")
		}
		m[medianLatency], m[p99] = percentile(res.latencies, 0.5), percentile(res.latencies, 0.99)
	}
	return m, nil
}

// percentile is that of sorted nanoseconds, in milliseconds.
func percentile(sorted []int64, p float64) float64 {
	i := int(p * float64(len(sorted)))
	return float64(sorted[min(i, len(sorted)-1)]) / 1e6
}
