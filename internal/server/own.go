package server

import (
	"errors"
	"sync/atomic"
)

// maxOwn is how many requests run at once that Settings.Own has a Runner for. Who asks for a
// page that tells of all requests asks for as much work as there are requests.
const maxOwn = 8

var errOwn = errors.New("too many requests for the pool's own pages run")

// ownPlaces counts the requests that run so.
type ownPlaces struct{ taken atomic.Int32 }

// enter takes a place. If it returns no error, leave must follow.
func (o *ownPlaces) enter() error {
	if o.taken.Add(1) > maxOwn {
		o.taken.Add(-1)
		return errOwn
	}
	return nil
}

func (o *ownPlaces) leave() { o.taken.Add(-1) }
