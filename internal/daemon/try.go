package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/address"
	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/logs"
	"github.com/fcgid/fcgid/internal/privsep"
	"github.com/fcgid/fcgid/internal/runner/worker"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A trial finds out why a daemon would not start, by what decides that at the start.
type trial struct {
	cfg       *config.Config
	daemon    *spawn.Identity // who it would be; nil: this process
	isRunning bool
	opens     []string // if so

	refusals, doubts config.Faults
}

// Try is why a daemon would not start with a configuration, if this process's user started it here
// and now, and what only the start can tell; file is the configuration's. If one runs with it, that
// would listen on opens after a reload, and does not yet. Nothing is left behind.
func Try(cfg *config.Config, file string, isRunning bool, opens []string) (refusals, doubts config.Faults) {
	t := &trial{cfg: cfg, isRunning: isRunning, opens: opens}
	if id := cfg.RunsAs; id != nil {
		t.daemon = &spawn.Identity{UID: id.UID, GID: id.GID, Groups: id.Groups}
	}
	t.program()
	t.logs()
	t.sockets(file)
	t.workers()
	t.sandboxes()
	t.spool()
	return t.refusals, t.doubts
}

// refuse notes that the value at a key is why.
func (t *trial) refuse(key string, err error) {
	switch {
	case err == nil:
	case errors.Is(err, listen.ErrInUse) && !t.isRunning: // maybe it is the daemon that this file is to be for
		t.doubt(key, "%v: a daemon does not start as long as that is so", err)
	default:
		t.refusals = append(t.refusals, t.cfg.FaultAt(key, err.Error()))
	}
}

func (t *trial) doubt(key, format string, args ...any) {
	t.doubts = append(t.doubts, t.cfg.FaultAt(key, fmt.Sprintf(format, args...)))
}

// place is refuse for a file that is to be at a path. A folder that is missing may be there when the
// daemon is started.
func (t *trial) place(key, path string, err error) {
	folder := filepath.Dir(path)
	if errors.Is(err, fs.ErrNotExist) && isOfUnit(folder) {
		t.doubt(key, "there is no folder %q: the daemon does not start without it (a unit's RuntimeDirectory= and LogsDirectory= make one)", folder)
		return
	}
	t.refuse(key, err)
}

// isOfUnit reports whether a folder is of those that whoever starts the daemon may make before:
// systemd does it for a unit (systemd.exec(5)).
func isOfUnit(folder string) bool {
	for _, parent := range []string{"/run/", "/var/run/", "/var/lib/", "/var/cache/", "/var/log/"} {
		if strings.HasPrefix(filepath.Clean(folder), parent) {
			return true
		}
	}
	return false
}

// program looks whether the daemon's user may execute this program.
func (t *trial) program() {
	if t.daemon == nil {
		return
	}
	err := t.daemon.Look(func() error {
		return unix.Faccessat(unix.AT_FDCWD, "/proc/self/exe", unix.X_OK, unix.AT_EACCESS)
	})
	if errors.Is(err, unix.EACCES) {
		path, _ := os.Executable()
		t.refuse("user", fmt.Errorf("%s may not execute this program, %s: %w", t.cfg.User, path, err))
	}
}

func (t *trial) logs() {
	o := logOptions(t.cfg)
	t.log("log.output", o.Output)
	t.log("access_log.output", o.Access.Output)
	for i := range t.cfg.Pools {
		t.log(fmt.Sprintf("pools[%d].slow.log", i), o.Slow[t.cfg.Pools[i].Name])
	}
}

func (t *trial) log(key, output string) {
	for _, own := range []string{"/dev/std", "/dev/fd/", "/proc/self/"} {
		if strings.HasPrefix(output, own) { // the daemon's is another one than ours
			t.doubt(key, "%q cannot be opened by name where it is the journal's, or a pipe of another user's: write stderr or stdout", output)
			return
		}
	}
	err := t.daemon.Look(func() error { return logs.Try(output) })
	if err != nil && t.daemon != nil {
		err = fmt.Errorf("%w: the daemon opens it, as user %s", err, t.cfg.User)
	}
	t.place(key, output, err)
}

// sockets tries all that the daemon listens on.
func (t *trial) sockets(file string) {
	var all listen.Claims
	if a := t.cfg.Admin; a.Listen != "" {
		t.socket("admin.listen", config.Listen{Address: a.Listen, Mode: config.AdminMode}, &all)
	}
	t.control(file, &all)
	for i := range t.cfg.Pools {
		for j, l := range t.cfg.Pools[i].Listen {
			t.socket(fmt.Sprintf("pools[%d].listen[%d].address", i, j), l, &all)
		}
	}
}

// control tries the control socket, without which the daemon runs if nobody has named its place.
func (t *trial) control(file string, all *listen.Claims) {
	uid := os.Geteuid()
	if t.daemon != nil {
		uid = int(t.daemon.UID)
	}
	path := t.cfg.Admin.ControlPathOf(uid, file)
	if path == "" || t.isRunning && t.cfg.Admin.IsControlAuto() {
		return
	}
	l := config.Listen{Address: "unix:" + path, Mode: config.ControlMode}
	if !t.cfg.Admin.IsControlAuto() {
		t.socket("admin.control", l, all)
		return
	}
	if err := t.trySocket(l); errors.Is(err, listen.ErrInUse) {
		t.refuse("admin.control", fmt.Errorf("%s: %w", path, err))
	}
}

func (t *trial) socket(key string, l config.Listen, all *listen.Claims) {
	if taken := all.Add(l.Address); taken != "" {
		t.refuse(key, fmt.Errorf("address in use: %s is the same socket, or in the way of this one", taken))
		return
	}
	a, _ := address.Parse(l.Address)
	if a.Kind == address.Systemd {
		t.doubt(key, "only the start can tell whether systemd passes a socket of this name")
		return
	}
	err := t.trySocket(l)
	if a.Kind == address.Unix {
		t.place(key, a.Name, err)
		return
	}
	t.refuse(key, err)
}

func (t *trial) trySocket(l config.Listen) error {
	isFree := !t.isRunning || slices.Contains(t.opens, l.Address)
	if t.daemon != nil {
		return privsep.TrySocket(t.cfg, l, isFree)
	}
	return listen.Local{}.Try(&listen.Options{Address: l.Address, Mode: l.Mode, Owner: l.Owner, Group: l.Group}, isFree)
}

// workers tries to make the folder of workers' sockets, where that is not made by who starts the
// daemon. One that runs has its own TMPDIR.
func (t *trial) workers() {
	if config.RuntimeFolder() != "" || t.isRunning {
		return
	}
	for i := range t.cfg.Pools {
		if p := &t.cfg.Pools[i]; p.Worker != nil && !p.IsDirect() {
			err := t.daemon.Look(func() error { return worker.TryFolder(privsep.SocketFolder()) })
			t.refuse(fmt.Sprintf("pools[%d].worker", i), err)
			return
		}
	}
}

// limits looks for those of a cgroup that are required. A unit has a cgroup that is not this process's.
func (t *trial) limits(key string, p *config.Pool) {
	required := launch.RequiredBy(&p.Sandbox)
	if required == "" || !launch.UsesCgroup(p) {
		return
	}
	limits := launch.CgroupLimits(&p.Sandbox)
	switch bySystemd, err := cgroup.LookFor(&limits); {
	case err != nil && bySystemd:
		t.doubt(key, "%s, and only a start in a unit can tell whether it can be had there; here: %v", required, err)
	case err != nil:
		t.refuse(key, fmt.Errorf("%s: %w", required, err))
	}
}

// spool looks whether the daemon may make files where bodies and answers are to be.
func (t *trial) spool() {
	if dir := t.cfg.SpoolDir; dir != "" {
		err := t.daemon.Look(func() error { return unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS) })
		if err != nil {
			t.doubt("spool_dir", "the daemon cannot make files in it (%v): what does not fit into memory of bodies and answers is refused", err)
		}
	}
}

// sandboxes takes on those of all pools, in threads that end, and looks for their limits.
func (t *trial) sandboxes() {
	local := new(spawn.Local)
	for i := range t.cfg.Pools {
		p, key := &t.cfg.Pools[i], fmt.Sprintf("pools[%d].sandbox", i)
		t.limits(key, p)
		fits, _, err := launch.FitSandbox(local, p, spawn.Umask())
		if err == nil {
			var release func()
			if release, err = local.Hold(fits, launch.SandboxIdentity(p)); err == nil {
				release()
			}
		}
		t.refuse(key, err)
	}
}
