package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/fcgid/fcgid/internal/admin"
	"github.com/fcgid/fcgid/internal/status"
)

// A killOrder is what a daemon asks of the one whose place it has taken.
type killOrder struct {
	ID uint64
	By admin.Peer
}

// leaving is the pid of the daemon whose place this one has taken, while that is there.
func (d *daemon) leaving() int {
	if d.before == nil {
		return 0
	}
	select {
	case <-d.before.Gone():
		return 0
	default:
		return d.before.Hello.PID
	}
}

// requestsBefore are those that daemons still have which were replaced.
func (d *daemon) requestsBefore() (requests []status.OpenRequest) {
	if d.leaving() != 0 {
		json.Unmarshal(d.before.Requests(), &requests) // none if it does not say
	}
	return requests
}

// tellRequests are this daemon's and its predecessors' requests, for the one that has taken
// its place.
func (d *daemon) tellRequests() []byte {
	requests := d.pools.Requests()
	for i := range requests {
		requests[i].Leaving = os.Getpid()
	}
	told, err := json.Marshal(append(requests, d.requestsBefore()...))
	if err != nil {
		return nil
	}
	return told
}

// killFor ends a request for the daemon that has taken the place of this one.
func (d *daemon) killFor(asked []byte) []byte {
	var o killOrder
	if json.Unmarshal(asked, &o) != nil {
		return nil
	}
	done, err := json.Marshal(d.killOne(o.By, o.ID))
	if err != nil {
		return nil
	}
	return done
}

// killOne ends a request of this daemon or of one before it. The one that has it logs that.
func (d *daemon) killOne(by admin.Peer, id uint64) status.Killed {
	killed := status.Killed{ID: id}
	pool, r, ok := d.pools.Kill(id, fmt.Errorf("killed by uid %d (fcgid kill)", by.UID))
	switch {
	case ok:
		killed.Pool, killed.Script = pool, r.Script
		d.tell(by, status.VerbKill, nil, "request", id, "pool", pool, "stage", r.Stage, "pid", r.PID, "script", r.Script, "uri", r.URI)
	case d.leaving() != 0:
		return d.killBefore(by, id)
	default:
		killed.Error = "no such request: it may have ended"
		d.tell(by, status.VerbKill, errors.New(killed.Error), "request", id)
	}
	return killed
}

// killBefore has the daemon before this one end a request.
func (d *daemon) killBefore(by admin.Peer, id uint64) (killed status.Killed) {
	asked, err := json.Marshal(killOrder{id, by})
	if err == nil {
		err = json.Unmarshal(d.before.Kill(asked), &killed)
	}
	if err != nil {
		killed = status.Killed{ID: id, Error: fmt.Sprintf("no such request here, and process %d, which this daemon has replaced, does not answer", d.before.Hello.PID)}
		d.tell(by, status.VerbKill, errors.New(killed.Error), "request", id)
	}
	return killed
}
