// Package daemon is the life of the process: its start, signals, systemd, reload as
// a whole, and its stop. Of a pool it knows what the configuration says, and neither
// its sockets nor its programs.
package daemon

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/access"
	"github.com/fcgid/fcgid/internal/admin"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/logs"
	"github.com/fcgid/fcgid/internal/metrics"
	"github.com/fcgid/fcgid/internal/pool"
	"github.com/fcgid/fcgid/internal/spawn"
	"github.com/fcgid/fcgid/internal/status"
	"github.com/fcgid/fcgid/internal/upgrade"
	"github.com/fcgid/fcgid/internal/version"
)

// A daemon is the pools, the logs, the metrics, the admin server and the control
// socket. reload and configure are for one goroutine, which is untilStopped's once the
// daemon serves. Do carries out an order in a goroutine of that order's, and hands over
// what only that one may do (inTurn). stop has a goroutine of its own. Status, Ready,
// IsStopping and broken are for all.
type daemon struct {
	opt      Options
	file     string // opt.File, absolute
	started  time.Time
	logs     *logs.Logs
	metrics  *metrics.Metrics
	programs spawn.Local
	pools    *pool.Set
	admin    *admin.Server
	control  *control
	failed   chan error  // a listener broke, or Options.Beside returned
	orders   chan func() // for the goroutine that reloads
	upgrades chan upgradeOrder
	program  string               // the path that an upgrade starts; "" is not known
	before   *upgrade.Predecessor // whose place this daemon takes or has taken, or nil
	store    *listen.Store        // what systemd keeps for the next process; nil: nothing
	adopting sync.WaitGroup       // what takes the connections that before gives away
	attempt  *attempt             // an upgrade that has begun, or nil; of untilStopped
	ending   chan struct{}        // closed when the stop has begun

	mu         sync.Mutex // guards the field below
	lastReload status.Reload
}

func newDaemon(o Options, cfg *config.Config) (*daemon, error) {
	l, err := logs.New(logOptions(cfg))
	if err != nil {
		return nil, err
	}
	d := &daemon{opt: o, started: time.Now(), logs: l, metrics: metrics.New(pool.Kinds()), failed: make(chan error, 1),
		orders: make(chan func()), upgrades: make(chan upgradeOrder), ending: make(chan struct{})}
	d.programs.Log = l.Logger
	options := pool.Options{
		Functions: o.Functions, Logs: l, Metrics: d.metrics, Spawner: &d.programs, Broken: d.broken, Ended: o.Ended,
	}
	if o.Spawner == nil {
		options.Cgroups = (&launch.Cgroups{Log: l.Logger}).Open
	} else {
		options.Launchers, options.Binder = o.Spawner.Remote, o.Spawner.Binder
	}
	d.pools = pool.NewSet(options)
	d.metrics.Collect(metrics.Sources{Pools: d.pools.Numbers, Memory: d.pools.Memory, LogDropped: l.Dropped})
	if d.file, err = filepath.Abs(o.File); err != nil {
		return nil, err
	}
	d.control = newControl(d, cfg, options.Binder)
	d.admin = admin.New(admin.Options{Daemon: d, Metrics: d.metrics.Handler(), Log: l.Logger, Broken: d.broken, Binder: options.Binder})
	return d, nil
}

// logOptions are what a configuration says of logs.
func logOptions(cfg *config.Config) logs.Options {
	format, _ := access.Parse(cfg.AccessLog.Format) // config has found it to be one
	o := logs.Options{
		Level: cfg.Log.Level, Format: cfg.Log.Format, Output: cfg.Log.Output,
		Access: logs.AccessOptions{Output: cfg.AccessLog.Output, Format: format, Suppress: cfg.AccessLog.Suppress},
		Slow:   make(map[string]string),
	}
	for _, p := range cfg.Pools {
		if p.Slow.After != 0 && p.Slow.Log != "" {
			o.Slow[p.Name] = p.Slow.Log
		}
	}
	return o
}

// adminSettings are what a configuration says of the admin server.
func adminSettings(a config.Admin) admin.Settings {
	return admin.Settings{Address: a.Listen, Allow: a.Allow, Hosts: a.Hosts, FullURIs: a.URIs == "full"}
}

// configure makes cfg the configuration in force, or changes nothing.
func (d *daemon) configure(ctx context.Context, cfg *config.Config) (err error) {
	defer func() { d.noteReload(err) }()
	commitLogs, undoLogs, err := d.logs.Prepare(logOptions(cfg))
	if err != nil {
		return err
	}
	admin, err := d.admin.Listen(ctx, adminSettings(cfg.Admin))
	if err != nil {
		undoLogs()
		return fmt.Errorf("admin: %w", err)
	}
	pools, err := d.pools.Plan(ctx, cfg)
	if err != nil {
		admin.Undo()
		undoLogs()
		return err
	}
	if err := d.commitSpawner(); err != nil {
		pools.Undo()
		admin.Undo()
		undoLogs()
		return err
	}
	commitLogs()
	pools.Commit()
	admin.Commit()
	return nil
}

// try is why configure would fail with cfg, and changes nothing. What the spawner prepares it has
// prepared when it has read the file. opens are addresses that would be listened on, of which who
// asks has to find out whether they can be: it may have the spawner's rights, as this process has not.
func (d *daemon) try(ctx context.Context, cfg *config.Config) (opens []string, err error) {
	o := logOptions(cfg)
	for _, output := range append([]string{o.Output, o.Access.Output}, slices.Collect(maps.Values(o.Slow))...) {
		if err := logs.Try(output); err != nil {
			return nil, err
		}
	}
	isNew, err := d.admin.Try(adminSettings(cfg.Admin))
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	opens, err = d.pools.Try(ctx, cfg)
	if isNew {
		opens = append(opens, cfg.Admin.Listen)
	}
	return opens, err
}

// commitSpawner has the spawner, if there is one, start programs of the new configuration.
func (d *daemon) commitSpawner() error {
	if d.opt.Spawner == nil {
		return nil
	}
	if err := d.opt.Spawner.Commit(); err != nil {
		return fmt.Errorf("commit the configuration: %w", err)
	}
	return nil
}

// abortSpawner has it forget what was loaded, unless that was committed.
func (d *daemon) abortSpawner() {
	if d.opt.Spawner != nil {
		d.opt.Spawner.Abort()
	}
}

// load reads the file, which may not say what only a start can do.
func (d *daemon) load() (*config.Config, error) {
	cfg, err := d.opt.Load()
	if err != nil {
		return nil, err
	}
	if path := cfg.Admin.ControlPath(d.opt.File); path != d.control.path {
		return nil, fmt.Errorf("admin.control cannot change while the daemon runs: restart it, or leave the socket at %q", d.control.path)
	}
	return cfg, nil
}

// reload reads the file again, and returns what it has changed. A bad one changes
// nothing.
func (d *daemon) reload(ctx context.Context) (*status.Changes, error) {
	d.notifyReloading()
	defer d.notifyReady()
	defer d.abortSpawner()
	var changes *status.Changes
	cfg, err := d.load()
	if err != nil {
		d.noteReload(err)
	} else {
		changes = d.changes(cfg)
		err = d.configure(ctx, cfg)
	}
	if err != nil {
		d.logs.Error("reload refused: the old configuration stays", "file", d.opt.File, "error", err)
		return nil, err
	}
	what := changes.String() // workers are yet to be replaced
	d.addRolls(changes, cfg)
	d.control.restore(ctx)
	d.keepSockets()
	d.warnOf(cfg)
	d.reserveThreads() // of which sandboxes take some for themselves
	d.logs.Info("reloaded", "file", d.opt.File, "pools", len(cfg.Pools), "changes", what)
	return changes, nil
}

func (d *daemon) noteReload(err error) {
	d.metrics.Reloaded(err)
	now := time.Now()
	reload := status.Reload{Time: now, OK: err == nil, InForce: now}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		reload.Error, reload.InForce = err.Error(), d.lastReload.InForce
	}
	d.lastReload = reload
}

// stop ends all pools gracefully and returns when nothing of them is left.
func (d *daemon) stop() {
	close(d.ending)
	d.leaveSockets()
	if d.before != nil {
		d.before.Hurry()
	}
	d.pools.Stop()
	d.awaitBefore()
	d.admin.Close()
	d.control.close()
}

// awaitBefore waits for the end of the daemon whose place this one has taken: what started
// this one takes its end for that of both.
func (d *daemon) awaitBefore() {
	if d.before == nil {
		return
	}
	select {
	case <-d.before.Gone():
	case <-time.After(d.pools.StopTime() + stopMargin):
		d.before.Close()
	}
	d.adopting.Wait()
}

// kill ends all programs at once, and lets none be started.
func (d *daemon) kill() {
	d.pools.EndWorkers()
	d.programs.Kill()
	if d.opt.Spawner != nil {
		d.opt.Spawner.Remote.Kill()
	}
}

// broken is called when the daemon cannot go on: a listener has failed for good, or
// Options.Beside has returned.
func (d *daemon) broken(err error) {
	select {
	case d.failed <- err:
	default:
	}
}

// Status is what the daemon does now.
func (d *daemon) Status() *status.Page {
	d.mu.Lock()
	reload := d.lastReload
	d.mu.Unlock()
	used, limit := d.pools.Memory()
	return &status.Page{
		Version: version.Version, PID: os.Getpid(), Leaving: d.leaving(), LeavingRequests: d.requestsBefore(), Started: d.started, Time: time.Now(), File: d.file, Reload: reload,
		Memory: used, MemoryLimit: limit, Pools: d.pools.Status(),
	}
}

// IsStopping tells whether the daemon takes nothing new.
func (d *daemon) IsStopping() bool {
	select {
	case <-d.ending:
		return true
	default:
		return false
	}
}
