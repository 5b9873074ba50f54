package daemon

import (
	"os"
	"slices"
	"strconv"

	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/upgrade"
)

// newStore is systemd's store, if it keeps something for this unit: FDSTORE says how many
// descriptors (systemd.exec(5); before version 254 the unit has to set it).
func (d *daemon) newStore(names []string) *listen.Store {
	most, err := strconv.Atoi(os.Getenv("FDSTORE"))
	if err != nil || most < 1 || !isHeard() {
		return nil
	}
	return &listen.Store{Send: d.tellSystemd, Most: most, Names: names}
}

// storable are the sockets that are worth keeping: nobody waits for the next daemon to take
// an order. One may be nil.
func (d *daemon) storable() []*listen.Listener {
	return append(d.pools.Listeners(), d.admin.Listener())
}

// keepSockets has systemd keep the sockets that there are, and no others.
func (d *daemon) keepSockets() {
	if d.store == nil {
		return
	}
	if err := d.store.Keep(d.storable()); err != nil {
		d.logs.Warn("systemd does not keep sockets over a restart", "error", err)
	}
}

// leaveSockets has the stop that follows leave the sockets that systemd keeps to the next
// process: of a restart's nobody can tell a stop.
func (d *daemon) leaveSockets() {
	if d.store == nil {
		return
	}
	for _, l := range d.storable() {
		if l != nil && slices.Contains(d.store.Names, l.StoreName()) {
			l.Leave()
		}
	}
}

// stored are the names of what is in systemd's store when this daemon begins.
func stored(before *upgrade.Predecessor) []string {
	if before != nil {
		return before.Hello.Stored
	}
	return listen.Stored()
}
