package status

import (
	"math"
	"time"
)

// An Order is what a daemon is asked to do through its control socket.
type Order struct {
	Verb    string        `json:"verb"`           // one of the verbs below
	Pool    string        `json:"pool,omitempty"` // of drain, pause, resume, recycle, scale
	IDs     []uint64      `json:"ids,omitempty"`  // of kill
	N       int           `json:"n,omitempty"`    // of scale
	Queue   bool          `json:"queue,omitempty"`
	Notice  time.Duration `json:"notice,omitempty"`  // of drain: how long requests still run; not counted by Timeout
	Timeout time.Duration `json:"timeout,omitempty"` // of what waits; 0 is for ever
}

// MaxNotice is the longest that a Notice may be.
const MaxNotice = 24 * time.Hour

// Limit is how long all of it may take, if Timeout is not 0.
func (o *Order) Limit() time.Duration {
	return min(o.Timeout, math.MaxInt64/2) + min(o.Notice, MaxNotice)
}

// The verbs of orders. VerbDiff changes nothing: it tells what VerbReload would do.
const (
	VerbReload  = "reload"
	VerbDiff    = "diff"
	VerbKill    = "kill"
	VerbDrain   = "drain"
	VerbPause   = "pause"
	VerbResume  = "resume"
	VerbRecycle = "recycle"
	VerbScale   = "scale"
	VerbUpgrade = "upgrade"
)

// A Reply is what has become of an Order. Error and Faults are empty if it was carried
// out; Left is empty, too, if nothing of it is still to come.
type Reply struct {
	Error   string   `json:"error,omitempty"`  // why nothing was done
	Faults  []string `json:"faults,omitempty"` // of the configuration file: nothing was done
	Left    []string `json:"left,omitempty"`   // what was asked for and is not so yet, and why
	Changes *Changes `json:"changes,omitempty"`
	Workers *Roll    `json:"workers,omitempty"` // of recycle
	Killed  []Killed `json:"killed,omitempty"`
	Text    string   `json:"text,omitempty"` // what was done, for a person
}

// Changes are what a configuration file changes in the daemon.
type Changes struct {
	File string `json:"file"` // absolute
	// Changed are keys of no pool, as "log.level info→debug".
	Changed []string `json:"changed,omitempty"`
	// Opens are addresses on which the daemon would begin to listen, where none of its own sockets is.
	Opens []string     `json:"opens,omitempty"`
	Pools []PoolChange `json:"pools"`
}

// A PoolChange is what becomes of a pool.
type PoolChange struct {
	Name    string   `json:"name"`
	Change  string   `json:"change"`            // one of the four below
	Changed []string `json:"changed,omitempty"` // keys, as "worker.max 10→4"
	Workers *Roll    `json:"workers,omitempty"` // nil: none is replaced
	State   string   `json:"state,omitempty"`   // as of Pool, if it serves no request
}

// What becomes of a pool.
const (
	Added     = "added"
	Removed   = "removed"
	Changed   = "changed"
	Unchanged = "unchanged"
)

// A Roll is the replacement of workers, one after the other.
type Roll struct {
	Replaced int `json:"replaced"`
	Of       int `json:"of"`
}

// A Killed is a request that was to be killed.
type Killed struct {
	ID     uint64 `json:"request"`
	Pool   string `json:"pool,omitempty"`
	Script string `json:"script,omitempty"`
	Error  string `json:"error,omitempty"` // there is no such request
}
