package config

import "runtime"

// What one of these holds at once of descriptors, at most.
const (
	ofDaemon  = 64 // logs, listeners, the poller
	ofProcess = 6  // three pipes, what stands for the process, files of body and answer
	ofWorker  = 6  // its socket, a connection, a pipe, what stands for it, files of body and answer
)

// Descriptors is how many descriptors all pools may hold at once, at most; a
// max_conns of 0, which is no limit, counts for none.
func (c *Config) Descriptors() int {
	n := ofDaemon
	for i := range c.Pools {
		n += c.Pools[i].descriptors()
	}
	return n
}

func (p *Pool) descriptors() int {
	l := p.Limits
	n := len(p.Listen) + l.MaxConns + l.Queue // a body that waits may be a file
	switch {
	case p.Worker != nil:
		return n + p.Worker.Max*(ofWorker+p.Worker.Concurrency)
	case p.Process != nil:
		return n + p.Places()*ofProcess
	}
	return n + p.Places()
}

// PlacesKey is the key that says how many those are.
func (p *Pool) PlacesKey() string {
	if p.Limits.MaxReqs == 0 && p.Worker != nil {
		return "worker.max"
	}
	return "limits.max_reqs"
}

// processors are those that the process began with: a spawner takes more.
var processors = runtime.GOMAXPROCS(0)

// Places is how many requests the pool does at once.
func (p *Pool) Places() int {
	switch {
	case p.Limits.MaxReqs > 0:
		return p.Limits.MaxReqs
	case p.Worker != nil:
		return p.Worker.Max * p.Worker.Concurrency
	case p.Process != nil:
		return 4 * processors
	}
	return 1024
}
