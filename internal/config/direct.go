package config

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/fcgid/fcgid/internal/address"
)

// IsDirect reports whether the pool's workers accept the connections of web servers
// themselves.
func (p *Pool) IsDirect() bool { return p.Worker != nil && p.Worker.Connections == "direct" }

const (
	noRequests    = "is for requests that the daemon sees, and with connections: direct the web server's go to the workers themselves"
	noConnections = "is for connections that the daemon accepts, and with connections: direct the workers do"
	onlyStatic    = "is for workers that come and go with demand, which the daemon does not see with connections: direct"
	noCounting    = "is for what the daemon counts or asks, and with connections: direct it sees no request"
)

// undirectKeys are the keys that mean nothing to a pool with connections: direct.
var undirectKeys = []struct{ key, why string }{
	{"limits.max_conns", noConnections}, {"limits.max_reqs", noRequests}, {"limits.multiplex", noConnections},
	{"limits.queue", noRequests}, {"limits.queue_timeout", noRequests}, {"limits.params", noRequests},
	{"limits.body", noRequests}, {"limits.body_memory", noRequests}, {"limits.request_buffering", noRequests},
	{"limits.answer_spool", noRequests}, {"limits.spool", noRequests}, {"limits.single_fields", noRequests},
	{"limits.read_timeout", noConnections}, {"limits.write_timeout", noConnections}, {"limits.idle_timeout", noConnections},
	{"timeout", noRequests}, {"silence", noRequests}, {"on_client_abort", noRequests}, {"pass_params", noRequests},
	{"status_path", noRequests}, {"ping_path", noRequests}, {"ping_response", noRequests}, {"slow", noRequests},
	{"worker.root", noRequests}, {"worker.extensions", noRequests}, {"worker.concurrency", noRequests},
	{"worker.dispatch", noRequests}, {"worker.stderr", noRequests}, {"worker.long_params", noRequests},
	{"worker.min", onlyStatic}, {"worker.min_spare", onlyStatic}, {"worker.max_spare", onlyStatic}, {"worker.idle_timeout", onlyStatic},
	{"worker.max_requests", noCounting}, {"worker.max_memory", noCounting}, {"worker.warm_up", noCounting}, {"worker.start_timeout", noCounting},
}

// direct reports what a pool cannot have whose workers accept the connections themselves.
func (r *report) direct(key string, p *Pool) {
	if !p.IsDirect() {
		return
	}
	for _, k := range undirectKeys {
		if path := key + "." + k.key; r.given(path) {
			r.add(path, "%s", k.why)
		}
	}
	if w := p.Worker; w.Scale != "static" {
		r.add(key+".worker.scale", "connections: direct needs static: the daemon does not see how busy workers are")
	}
	if len(p.Listen) > 1 {
		r.add(key+".listen[1]", "connections: direct needs one address: a worker accepts on descriptor 0 alone")
	}
	for i, l := range p.Listen {
		r.directListen(fmt.Sprintf("%s.listen[%d]", key, i), l)
	}
}

// directListen reports addresses whose clients somebody has to look at, or that are not ours.
func (r *report) directListen(key string, l Listen) {
	if len(l.AllowUIDs) > 0 {
		r.add(key+".allow_uids", "%s", noConnections)
	}
	if len(l.Allow) > 0 {
		r.add(key+".allow", "%s", noConnections)
	}
	switch a, err := address.Parse(l.Address); {
	case err != nil:
	case a.Kind == address.Systemd:
		r.add(key+".address", "connections: direct is for sockets that the daemon makes: systemd and others may have this one")
	case a.Kind == address.TCP && !a.IsLoopback:
		r.add(key+".address", "%q is open to other machines, and with connections: direct nobody looks at who connects: use a loopback address", l.Address)
	}
}

// warnOfDirect tells what web servers must not do to pools whose workers accept themselves: once for
// each program, and at its first pool.
func (r *report) warnOfDirect(c *Config) {
	first, named := make(map[string]string), make(map[string][]string) // by program
	var programs, all []string
	at := ""
	for i := range c.Pools {
		p := &c.Pools[i]
		if !p.IsDirect() || len(p.Worker.Command) == 0 {
			continue
		}
		program, key := p.Worker.Command[0], fmt.Sprintf("pools[%d].worker.connections", i)
		if first[program] == "" {
			programs, first[program] = append(programs, program), key
		}
		named[program], all, at = append(named[program], p.Name), append(all, p.Name), cmp.Or(at, key)
	}
	for _, program := range programs {
		text := "keep connections of web servers closed between requests (nginx: no fastcgi_keep_conn; Apache: no enablereuse): an idle one holds a worker"
		if isPHP(program) {
			text += ", and what PHP before 8.2.36, 8.3.37, 8.4.28 and 8.5.13 has not read of a body it takes for the next request (CVE-2026-129289)"
		}
		r.warn(first[program], "%s, in all pools of %s: %s", text, program, strings.Join(named[program], ", "))
	}
	if c.AccessLog.Output != "" && at != "" {
		r.warn(at, "the access log (access_log.output) gets no line of the requests of pools with connections: direct, of which the daemon sees none: %s", strings.Join(all, ", "))
	}
}
