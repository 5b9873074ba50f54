// Package status is what fcgid tells of itself: the types that /status has as
// JSON, that `fcgid status` prints as tables and the function fcgid.status as text.
// It knows nobody that could tell it. The names in the JSON are a promise.
package status

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Page is the whole daemon.
type Page struct {
	Version string `json:"version"`
	PID     int    `json:"pid"`
	// Leaving is the pid of the daemon before, which still has requests after an upgrade.
	Leaving int `json:"leaving_pid,omitempty"`
	// LeavingRequests are those, and those of daemons before it.
	LeavingRequests []OpenRequest `json:"leaving_requests,omitempty"`
	Started         time.Time     `json:"started"`
	Time            time.Time     `json:"time"` // of this page
	File            string        `json:"config_file"`
	Reload          Reload        `json:"last_reload"`
	Memory          int64         `json:"memory_bytes"` // that requests of all pools hold
	// MemoryLimit is what they may.
	MemoryLimit int64  `json:"memory_limit_bytes"`
	Pools       []Pool `json:"pools"`
}

// A Reload is how the last reading of the configuration went.
type Reload struct {
	Time  time.Time `json:"time"`
	OK    bool      `json:"ok"`
	Error string    `json:"error,omitempty"` // a line for each fault
	// InForce is when the configuration that is in force was read.
	InForce time.Time `json:"in_force_since"`
}

// A Pool is what a pool does now.
type Pool struct {
	Name             string     `json:"name"`
	Runner           string     `json:"runner"`
	User             string     `json:"user,omitempty"` // that its programs run as; "" is the daemon's
	State            string     `json:"state"`          // one of the five below
	Listeners        []Listener `json:"listeners"`
	Limits           Limits     `json:"limits"`
	Connections      int        `json:"connections"`
	ConnectionsTotal int64      `json:"connections_total"`
	Workers          *Workers   `json:"workers,omitempty"`
	Running          int        `json:"requests_running"`
	Overdue          int        `json:"functions_overdue,omitempty"` // of these: their requests have ended
	Queued           int        `json:"requests_queued"`
	Spooled          int64      `json:"spool_bytes"` // in files of bodies and answers
	ReceivedTotal    int64      `json:"received_bytes_total"`
	SentTotal        int64      `json:"sent_bytes_total"`
	// Ended are the requests that have ended, by outcome, and Latencies how long they took.
	// What counts them outlives the pool, until one of its name is in no configuration.
	Ended     map[string]int64 `json:"requests_total,omitempty"`
	Latencies Latencies        `json:"request_seconds,omitempty"`
	// LastFailure is nil as long as there was none.
	LastFailure *Failure `json:"last_failure,omitempty"`

	Cgroup   *Cgroup   `json:"cgroup,omitempty"`   // nil: there is none
	Outdated *Outdated `json:"outdated,omitempty"` // nil: there are none
	Requests []Request `json:"requests,omitzero"`

	Started time.Time `json:"-"`
}

// The states of a pool.
const (
	Serving  = "serving"
	Leaving  = "leaving"  // by an order: requests run, and soon they will be refused
	Paused   = "paused"   // by an order: requests wait
	Drained  = "drained"  // by an order: requests are refused
	Draining = "draining" // it is no more in the configuration, and its last requests end
)

// A Listener is an address of a pool.
type Listener struct {
	Address     string  `json:"address"`
	AcceptQueue *uint32 `json:"accept_queue,omitempty"` // nil: the kernel does not say
}

// A Cgroup is what the kernel counts of a pool's programs together. What it does not
// count is not there.
type Cgroup struct {
	Path        string `json:"path"` // in the file system
	Memory      *int64 `json:"memory_bytes,omitempty"`
	MemoryLimit *int64 `json:"memory_limit_bytes,omitempty"`
	Pids        *int64 `json:"pids,omitempty"` // processes and threads
}

// Limits are those in force; 0 is none.
type Limits struct {
	MaxConns  int  `json:"max_conns"`
	MaxReqs   int  `json:"max_reqs"`
	Multiplex bool `json:"multiplex"`
	Queue     int  `json:"queue"`

	Spool int64 `json:"spool_bytes"`
}

// A Request is one that has not ended.
type Request struct {
	ID     uint64  `json:"request"`      // its number, of this daemon
	Name   string  `json:"id,omitempty"` // by which the web server and programs know it; "" while its params come
	Stage  string  `json:"stage"`        // params, body, queued, running or ending
	Age    float64 `json:"age_seconds"`
	PID    int     `json:"pid,omitempty"`
	Script string  `json:"script,omitempty"`
	Method string  `json:"method,omitempty"`
	URI    string  `json:"uri,omitempty"`
	Remote string  `json:"remote,omitempty"` // who has sent it: a web server, as a rule
	Client string  `json:"client,omitempty"` // REMOTE_ADDR
}

// A Failure is a request that had no good answer since its program failed, took too long
// or had no room: its outcome is error, timeout or overloaded.
type Failure struct {
	Time    time.Time `json:"time"` // of its end
	Outcome string    `json:"outcome"`
	Reason  string    `json:"reason"`
	ID      uint64    `json:"request"`
	Name    string    `json:"id,omitempty"`
	Script  string    `json:"script,omitempty"`
	Method  string    `json:"method,omitempty"`
	URI     string    `json:"uri,omitempty"`
}

// Workers are those of a pool.
type Workers struct {
	Scale        string            `json:"scale"`
	Direct       bool              `json:"direct,omitempty"` // they accept connections themselves: nobody counts requests
	Max          int               `json:"max"`
	States       map[string]int    `json:"states"`
	Waiting      int               `json:"requests_waiting"` // for a worker
	Degraded     string            `json:"degraded,omitempty"`
	Starts       uint64            `json:"starts_total"`
	Exits        map[string]uint64 `json:"exits_total"` // by reason
	AtMax        uint64            `json:"at_max_total"`
	AtMaxSeconds float64           `json:"at_max_seconds_total"`
	List         []Worker          `json:"list,omitzero"`
}

// Outdated are the workers of a pool that run what a reload has replaced.
type Outdated struct {
	Workers int    `json:"workers"`
	Why     string `json:"why"` // they are still there
}

// A Worker is one of a pool.
type Worker struct {
	PID      int              `json:"pid"`
	State    string           `json:"state"` // one of WorkerStates
	Leaving  string           `json:"leaving,omitempty"`
	Requests int              `json:"requests"`
	Age      float64          `json:"age_seconds"`
	CPU      float64          `json:"cpu_seconds"`
	RSS      int64            `json:"rss_bytes"`
	Current  []CurrentRequest `json:"current,omitempty"`

	Started, LastUsed time.Time `json:"-"`
}

// A CurrentRequest is one that a worker has.
type CurrentRequest struct {
	ID     uint64  `json:"request"`
	Method string  `json:"method,omitempty"`
	URI    string  `json:"uri,omitempty"`
	Script string  `json:"script,omitempty"`
	Age    float64 `json:"age_seconds"`
}

// WorkerStates are the states of a worker, in the order of its life. One that is direct is
// never idle or busy but serving.
var WorkerStates = []string{"starting", "idle", "busy", "serving", "stopping"}

// IsDirect reports whether workers accept the pool's connections themselves.
func (s *Pool) IsDirect() bool { return s.Workers != nil && s.Workers.Direct }

// acceptQueue is how many connections wait in the kernel.
func (s *Pool) acceptQueue() (n int) {
	for _, l := range s.Listeners {
		if l.AcceptQueue != nil {
			n += int(*l.AcceptQueue)
		}
	}
	return n
}

// Named are the pools of a name: two, while one drains and another has taken over.
func (p *Page) Named(name string) ([]Pool, error) {
	var names []string
	for _, pool := range p.Pools {
		names = append(names, pool.Name)
	}
	found := slices.DeleteFunc(slices.Clone(p.Pools), func(s Pool) bool { return s.Name != name })
	if len(found) == 0 {
		return nil, fmt.Errorf("no pool %q; there is %s", name, strings.Join(names, ", "))
	}
	return found, nil
}

// total is how many workers there are, in all states.
func (w *Workers) total() (n int) {
	for _, in := range w.States {
		n += in
	}
	return n
}

// current are the requests that the worker has, for a person: the first, and how
// many more.
func (w *Worker) current() string {
	if len(w.Current) == 0 {
		return ""
	}
	first := w.Current[0].Method + " " + w.Current[0].URI
	if more := len(w.Current) - 1; more > 0 {
		return fmt.Sprintf("%s and %d more", first, more)
	}
	return first
}

// Printable quotes what could be taken for the end of a line, is not seen or turns
// the text around it, and what is no UTF-8.
func Printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
