package pool

import (
	"slices"
	"strings"
	"time"

	"github.com/fcgid/fcgid/internal/metrics"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/status"
)

// Status tells of all pools, and then of those that drain.
func (s *Set) Status() []status.Pool {
	pools := []status.Pool{}
	for _, p := range s.withDraining() {
		pools = append(pools, p.status(true))
	}
	return pools
}

// Requests are those of all pools, also of those that drain.
func (s *Set) Requests() []status.OpenRequest {
	all := []status.OpenRequest{}
	for _, p := range s.withDraining() {
		for _, r := range p.server.Requests() {
			all = append(all, status.OpenRequest{Pool: p.name, Request: describeRequest(r)})
		}
	}
	return all
}

// Serial is the number of the last request of all pools.
func (s *Set) Serial() uint64 { return s.serials.Load() }

// CountFrom gives the next request that number. It is called before there is one.
func (s *Set) CountFrom(serial uint64) { s.serials.Store(max(s.serials.Load()+1, serial) - 1) }

// Memory is how much requests of all pools hold in memory, and how much they may.
func (s *Set) Memory() (used, limit int64) { return s.memory.Used(), s.memory.Limit() }

// Numbers are those of all pools, for the metrics.
func (s *Set) Numbers() []metrics.Numbers {
	var all []metrics.Numbers
	for _, p := range s.list() {
		all = append(all, p.numbers())
	}
	return all
}

func (p *pool) numbers() metrics.Numbers {
	s := p.server.Snapshot()
	n := metrics.Numbers{
		Pool: p.name, Serving: gateStates[s.Gate] == "", Connections: s.Connections, InFlight: s.InFlight, Queued: s.Queued, Overdue: s.Overdue,
		MaxConns: s.Limits.MaxConns, MaxReqs: s.Limits.MaxReqs, Queue: s.Limits.Queue,
		Spooled: s.Spooled, Spool: s.Limits.Spool,
		ConnectionsTotal: s.ConnectionsTotal, Received: s.Received, Sent: s.Sent,
		AcceptQueues: p.acceptQueues(),
	}
	if g := p.describeCgroup(); g != nil {
		n.Cgroup = &metrics.CgroupNumbers{Memory: g.Memory, MemoryLimit: g.MemoryLimit, Pids: g.Pids}
	}
	if w := p.workersNow(); w != nil {
		s := w.Numbers()
		n.Workers = &metrics.WorkerNumbers{
			States: workerCounts(&s), Direct: s.Direct, Max: s.Max, Waiting: s.Waiting, Degraded: s.Degraded, AtMax: s.AtMax, AtMaxTime: s.AtMaxTime,
			RSS: w.Measure(),
		}
	}
	return n
}

// status is what is told of the pool; if it is to be full also of each request and each
// worker, whose process is looked at then.
func (p *pool) status(full bool) status.Pool {
	s := p.server.Snapshot()
	state := status.Pool{
		Name: p.name, State: p.state(s.Gate), Started: p.started, Listeners: []status.Listener{},
		Limits: status.Limits{
			MaxConns: s.Limits.MaxConns, MaxReqs: s.Limits.MaxReqs, Multiplex: s.Limits.Multiplex, Queue: s.Limits.Queue, Spool: s.Limits.Spool,
		},
		Connections: s.Connections, ConnectionsTotal: s.ConnectionsTotal,
		Running: s.InFlight, Overdue: s.Overdue, Queued: s.Queued, Spooled: s.Spooled,
		ReceivedTotal: s.Received, SentTotal: s.Sent,
	}
	waiting := p.acceptQueues()
	p.mu.Lock()
	state.Runner = p.cfg.Runner()
	switch {
	case p.cfg.Sandbox.Owner:
		state.User = "the script's owner"
	case p.cfg.RunsAs != nil:
		state.User = p.cfg.RunsAs.Name
	}
	workers, replaced := p.workers, slices.Clone(p.replaced)
	for _, l := range p.cfg.Listen {
		ls := status.Listener{Address: l.Address}
		if n, ok := waiting[l.Address]; ok {
			ls.AcceptQueue = &n
		}
		state.Listeners = append(state.Listeners, ls)
	}
	if p.cfg.IsDirect() {
		state.Limits = status.Limits{}
	}
	p.mu.Unlock()
	if workers != nil {
		state.Workers = workers.status(full)
	}
	state.Cgroup = p.describeCgroup()
	state.Outdated = outdated(workers, replaced)
	if !full {
		return state
	}
	state.Ended = p.metrics.Ended()
	for _, b := range p.metrics.Latencies() {
		state.Latencies = append(state.Latencies, status.Bucket(b))
	}
	state.LastFailure = p.failed.Load()
	state.Requests = []status.Request{}
	for _, r := range p.server.Requests() {
		state.Requests = append(state.Requests, describeRequest(r))
	}
	return state
}

// state is what has been made of the pool: by its gate if it does not drain.
func (p *pool) state(g server.Gate) string {
	switch {
	case p.isDraining():
		return status.Draining
	case gateStates[g] != "":
		return gateStates[g]
	}
	return status.Serving
}

// outdated tells of workers of configurations before this one, or is nil.
func outdated(now *workerPool, replaced []*workerPool) *status.Outdated {
	var o status.Outdated
	if now != nil {
		n := now.Numbers()
		o.Workers, o.Why = n.Outdated+n.Leaving, n.WhyOutdated
	}
	for _, w := range replaced { // of a pool that runs something else now
		n := w.Numbers()
		o.Workers += n.Total()
		o.Why = "requests that have begun before have not ended"
	}
	if o.Workers == 0 {
		return nil
	}
	return &o
}

// describeFailure keeps nothing of the result.
func describeFailure(r *server.Result) *status.Failure {
	f := &status.Failure{
		Time: r.Ended, Outcome: string(r.Outcome), ID: r.Serial, Name: r.ID.String(),
		Script: strings.Clone(r.Params.Get("SCRIPT_FILENAME")), Method: strings.Clone(r.Params.Get("REQUEST_METHOD")),
		URI: strings.Clone(r.Params.Get("REQUEST_URI")),
	}
	if r.Reason != nil {
		f.Reason = r.Reason.Error()
	}
	return f
}

func describeRequest(r server.RequestInfo) status.Request {
	s := status.Request{ID: r.Serial, Stage: r.Stage, Age: r.Age.Seconds(), PID: r.PID, Remote: r.Remote}
	if r.Params != nil {
		s.Name = r.ID.String()
		s.Client = r.Params.Get("REMOTE_ADDR")
		s.Script = r.Params.Get("SCRIPT_FILENAME")
		s.Method = r.Params.Get("REQUEST_METHOD")
		s.URI = r.Params.Get("REQUEST_URI")
	}
	return s
}

// workerCounts are how many workers there are in each of status.WorkerStates that they can be in.
func workerCounts(s *worker.Numbers) map[string]int {
	if s.Direct {
		return map[string]int{"starting": s.Starting, "serving": s.Serving, "stopping": s.Stopping}
	}
	return map[string]int{"starting": s.Starting, "idle": s.Idle, "busy": s.Busy, "stopping": s.Stopping}
}

// status is what is told of the workers.
func (w *workerPool) status(full bool) *status.Workers {
	if !full {
		n := w.Numbers()
		return describeWorkers(&n)
	}
	s, now := w.Snapshot(), time.Now()
	state := describeWorkers(&s.Numbers)
	state.List = []status.Worker{}
	for _, x := range s.Workers {
		ws := status.Worker{
			PID: x.PID, State: x.State, Leaving: x.Leaving, Requests: x.Requests, LastUsed: x.LastUsed,
			Started: x.Started, Age: now.Sub(x.Started).Seconds(), CPU: x.CPU.Seconds(), RSS: x.RSS,
		}
		for _, r := range x.Current {
			ws.Current = append(ws.Current, status.CurrentRequest{
				ID: r.Serial, Method: r.Method, URI: r.URI, Script: r.Script, Age: now.Sub(r.Since).Seconds(),
			})
		}
		state.List = append(state.List, ws)
	}
	return state
}

func describeWorkers(n *worker.Numbers) *status.Workers {
	state := &status.Workers{
		Scale: n.Scale, Direct: n.Direct, Max: n.Max, States: workerCounts(n), Waiting: n.Waiting, Starts: n.Starts, Exits: n.Exits,
		AtMax: n.AtMax, AtMaxSeconds: n.AtMaxTime.Seconds(),
	}
	if n.Degraded {
		state.Degraded = n.Why
	}
	return state
}
