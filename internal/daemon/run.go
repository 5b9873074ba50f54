package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/admin"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/pool"
	"github.com/fcgid/fcgid/internal/privsep"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/spawn"
	"github.com/fcgid/fcgid/internal/upgrade"
	"github.com/fcgid/fcgid/internal/version"
)

// Options say what a daemon runs.
type Options struct {
	File      string // that Load reads, for people
	Load      func() (*config.Config, error)
	Functions pool.Functions
	// Ended, if not nil, is told of each request that has ended.
	Ended func(*server.Result)
	// Beside, if not nil, runs while the pools do, until ctx ends, and is waited
	// for. The daemon ends when it returns.
	Beside func(ctx context.Context, log *slog.Logger) error
	// Reword, if not nil, tells a warning of the configuration to people who have written
	// no file.
	Reword func(warning config.Fault) string
	// Spawner, if not nil, is the process that has started this one to be somebody else: Load
	// is of it.
	Spawner *privsep.Session
	// NotifyFD is a descriptor that gets a newline, and is closed, when the daemon serves;
	// 0 is none. A daemon that takes another one's place has none.
	NotifyFD int

	pacer *pacer
}

// signals are what the daemon is asked to do. Each kind has a channel of its own:
// one that comes often must not push out another.
type signals struct {
	stop, reload, reopen, upgrade, dropped chan os.Signal
}

// catchSignals catches from now on, and for good: a signal that comes while the
// process ends must not end it in another way. Of reload and reopen several that
// wait are one.
func catchSignals() *signals {
	s := &signals{
		stop: make(chan os.Signal, 2), reload: make(chan os.Signal, 1), reopen: make(chan os.Signal, 1),
		upgrade: make(chan os.Signal, 1), dropped: make(chan os.Signal, 1),
	}
	signal.Notify(s.stop, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT)
	signal.Notify(s.reload, unix.SIGHUP)
	signal.Notify(s.reopen, unix.SIGUSR1)
	signal.Notify(s.upgrade, unix.SIGUSR2)
	signal.Notify(s.dropped, unix.SIGPIPE) // nobody reads what we print
	return s
}

// descriptors is how many the kernel is to have room for from the start.
const descriptors = 16 << 10

// reserveDescriptors enlarges the kernel's table of this process's descriptors, which
// never shrinks. It grows by doubling, and when there are threads everybody who opens
// something waits each time for all CPUs (synchronize_rcu): a few dozen milliseconds,
// a thread for each who waits. Without it all works as well.
func reserveDescriptors() {
	highest := descriptors - 1
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil && limit.Cur <= uint64(highest) {
		highest = int(limit.Cur) - 1
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(null)
	if fd, err := unix.FcntlInt(uintptr(null), unix.F_DUPFD_CLOEXEC, highest); err == nil {
		unix.Close(fd)
	}
}

// Descriptors returns how many descriptors the pools of cfg may hold at once and how
// many a daemon that is started like this process may have.
func Descriptors(cfg *config.Config) (need, limit int, err error) {
	var rlimit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &rlimit); err != nil {
		return 0, 0, fmt.Errorf("limit of descriptors: %w", err)
	}
	return cfg.Descriptors(), int(min(rlimit.Max, math.MaxInt32)), nil // it raises its own to the largest
}

// warnOf tells of what is no fault of a configuration and hardly can be meant, and when
// the pools' limits promise more than there is.
func (d *daemon) warnOf(cfg *config.Config) {
	for _, w := range cfg.Warnings() {
		text := w.String()
		if d.opt.Reword != nil {
			text = d.opt.Reword(w)
		}
		d.logs.Warn("the configuration may not be what was meant", "warning", text)
	}
	for _, text := range d.unreached(cfg) {
		d.logs.Warn("the programs of a pool cannot reach what they need", "reason", text)
	}
	if need, limit, err := Descriptors(cfg); err == nil && need > limit {
		d.logs.Warn("the pools may hold more descriptors than the process may have: see limits.max_conns and ulimit -n", "pools", need, "limit", limit)
	}
}

// unreached says what the programs of pools cannot go to, as root has found, or as this
// process can.
func (d *daemon) unreached(cfg *config.Config) []string {
	if d.opt.Spawner != nil {
		return d.opt.Spawner.Unreached()
	}
	return pool.Unreached(cfg)
}

// Run is a daemon's life: it returns when a signal has stopped it, or when it
// cannot go on. The process is to end then: it hears no signal any more.
func Run(o Options) error {
	o.pacer = newPacer()
	program, err := upgrade.Self()
	if err != nil {
		return err
	}
	reserveDescriptors()
	signals := catchSignals()
	before, err := upgrade.Inherit()
	if err != nil {
		return err
	}
	if before != nil {
		o.NotifyFD = 0
	}
	if err = run(o, before, program, signals); err != nil && before != nil {
		refuse(before, err)
	}
	return err
}

// run is Run of a daemon that takes another one's place, if before is not nil.
func run(o Options, before *upgrade.Predecessor, program string, signals *signals) error {
	ready, err := readyFile(o.NotifyFD)
	if err != nil {
		return err
	}
	cfg, err := o.Load()
	if err != nil {
		return err
	}
	d, err := newDaemon(o, cfg)
	if err != nil {
		return err
	}
	d.program = program
	d.store = d.newStore(stored(before))
	defer d.logs.Flush()
	defer d.reapOrphans()()
	d.watchSpawner()
	if err := d.control.open(context.Background()); err != nil {
		return err
	}
	defer d.control.close()
	spawn.ReserveThreads() // before the first request can take the last one
	if err := d.configure(context.Background(), cfg); err != nil {
		d.pools.Stop() // of which there are none, but what was made for them
		return err
	}
	if before != nil {
		if err := d.takeOver(before, signals); err != nil {
			refuse(before, err)
			d.store = nil
			d.stop()
			return err
		}
	} else if err := listen.DropRest(); err != nil {
		d.logs.Warn("cannot remove a socket that nobody wants any more", "error", err)
	}
	d.logs.Info("serving", "version", version.Version, "file", o.File, "pools", len(cfg.Pools))
	d.warnOfRoot(cfg)
	d.warnOf(cfg)
	d.reserveThreads() // of which sandboxes have taken some for themselves
	d.notifyReady()
	d.keepSockets()
	if err := tellReady(ready); err != nil {
		d.logs.Warn("nobody hears that the daemon is ready", "error", err)
	}
	defer d.startStatusLine()()
	defer d.startWatchdog()()
	defer d.startBeside()()
	defer d.opt.pacer.start()()
	return d.untilStopped(signals)
}

// warnOfRoot names the pools whose programs are root's.
func (d *daemon) warnOfRoot(cfg *config.Config) {
	if pools := cfg.OfRoot(); os.Geteuid() == 0 && len(pools) > 0 {
		d.logs.Warn("running as root, and so do the programs of pools without a user", "pools", pools)
	}
}

// reserveThreads makes spare threads, and says if there is no room for them.
func (d *daemon) reserveThreads() {
	if n := spawn.ReserveThreads(); n < spawn.SpareThreads {
		d.logs.Warn("little room for threads, without which the daemon dies: see ulimit -u and TasksMax", "threads", n)
	}
}

// reapOrphans takes what programs leave behind, until stop is called.
func (d *daemon) reapOrphans() (stop func()) {
	if err := d.programs.Adopt(); err != nil {
		d.logs.Warn("programs that leave their process group may outlive their requests", "error", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { d.programs.Reap(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// watchSpawner has the daemon end in order when its spawner has gone, with which all programs
// have. What watches ends with the process.
func (d *daemon) watchSpawner() {
	if d.opt.Spawner != nil {
		go func() { d.broken(d.opt.Spawner.Run()) }()
	}
}

// startBeside starts Options.Beside. It ends it and waits for it when stop is called.
func (d *daemon) startBeside() (stop func()) {
	if d.opt.Beside == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		err := d.opt.Beside(ctx, d.logs.Logger)
		if ctx.Err() == nil {
			d.broken(err)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// untilStopped does what signals and orders ask for. While an upgrade is tried nothing else
// is changed: that would be of the daemon that leaves.
func (d *daemon) untilStopped(signals *signals) error {
	for {
		reload, orders, upgraded := signals.reload, d.orders, chan outcome(nil)
		if d.attempt != nil {
			reload, orders, upgraded = nil, nil, d.attempt.done
		}
		select {
		case err := <-d.failed:
			d.logs.Error("stopping: the daemon cannot go on", "error", err)
			if o, isReplaced := d.cancelAttempt(); isReplaced {
				return errors.Join(d.leave(o, signals), err)
			}
			if stopErr := d.stopGracefully(signals); stopErr != nil {
				return stopErr
			}
			return err
		case s := <-signals.stop:
			d.logs.Info("stopping", "signal", s.String())
			if o, isReplaced := d.cancelAttempt(); isReplaced {
				o.next.Signal(s.(unix.Signal)) // which was meant for it as well
				return d.leave(o, signals)
			}
			return d.stopGracefully(signals)
		case <-reload:
			if len(signals.stop) > 0 {
				continue
			}
			d.reload(context.Background()) // which tells of an error
		case order := <-orders:
			order()
		case <-signals.reopen:
			d.reopenLogs()
		case <-signals.upgrade:
			d.beginUpgrade(upgradeTime, make(chan outcome, 1))
		case ask := <-d.upgrades:
			if ask.by.HasLeft() {
				ask.reply <- outcome{err: admin.ErrLeft}
				continue
			}
			d.beginUpgrade(ask.timeout, ask.reply)
		case o := <-upgraded:
			if o.err == nil {
				return d.leave(o, signals)
			}
			d.endAttempt(o)
		}
	}
}

func (d *daemon) reopenLogs() {
	files, failed := d.logs.Reopen()
	for _, err := range failed {
		d.logs.Error("a log's file cannot be opened anew: the one that is open is written on", "error", err)
	}
	if len(files)+len(failed) == 0 {
		d.logs.Info("no log is a file, so none was opened anew")
		return
	}
	d.logs.Info("opened the files of logs anew", "files", files)
}

// echoTime is how soon after a signal another one is the same: timeout(1) and
// terminals send one to a process and then to its group.
const echoTime = 300 * time.Millisecond

// killTime is how long a stop by a second signal waits for what it has killed.
const killTime = 2 * time.Second

// stopGracefully lets requests end. A second signal ends them at once.
func (d *daemon) stopGracefully(signals *signals) error {
	d.notifyStopping()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		d.stop()
	}()
	echo := time.Now().Add(echoTime)
	for {
		select {
		case <-stopped:
			d.logs.Info("stopped")
			return nil
		case s := <-signals.stop:
			if time.Now().Before(echo) {
				continue
			}
			return d.stopAtOnce(s, stopped)
		}
	}
}

// stopAtOnce ends all programs, whatever they do.
func (d *daemon) stopAtOnce(s os.Signal, stopped <-chan struct{}) error {
	d.logs.Warn("stopped at once by a second signal", "signal", s.String())
	d.kill()
	select { // what they leave behind is removed
	case <-stopped:
	case <-time.After(killTime):
	}
	return fmt.Errorf("stopped at once by a second signal (%v)", s)
}
