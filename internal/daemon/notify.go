package daemon

import (
	"fmt"
	"os"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/fcgid/fcgid/internal/listen"
)

// isHeard reports whether somebody hears what the daemon says of itself (sd_notify(3)).
func isHeard() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// notify tells systemd something. If that is not heard, nothing changes.
func (d *daemon) notify(state string) {
	if isHeard() {
		_ = d.tellSystemd(state, -1)
	}
}

// tellSystemd sends a descriptor with it, if fd is not negative. Where there is a spawner, it
// speaks: systemd hears the process alone that it has started, so that no program speaks for the daemon.
func (d *daemon) tellSystemd(state string, fd int) error {
	if d.opt.Spawner != nil {
		return d.opt.Spawner.Notify(state, fd)
	}
	return listen.SendTo(os.Getenv("NOTIFY_SOCKET"), state, fd)
}

// notifyReady tells systemd that the daemon serves, or that a reload has ended.
func (d *daemon) notifyReady() { d.notify(systemd.SdNotifyReady) }

// notifyReloading tells systemd that a reload has begun.
func (d *daemon) notifyReloading() {
	d.notify(systemd.SdNotifyReloading + "\n" + strings.TrimSpace(systemd.SdNotifyMonotonicUsec()))
}

// stopMargin is what a stop may take beside what pools may: to remove files, on a busy
// machine.
const stopMargin = 15 * time.Second

// notifyStopping tells systemd that the end has begun, and how long it may take: a
// unit's TimeoutStopSec does not know shutdown_timeout.
func (d *daemon) notifyStopping() {
	usec := (d.pools.StopTime() + stopMargin).Microseconds()
	d.notify(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", systemd.SdNotifyStopping, usec))
}
