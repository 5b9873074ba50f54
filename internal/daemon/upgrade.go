package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/admin"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/status"
	"github.com/fcgid/fcgid/internal/upgrade"
	"github.com/fcgid/fcgid/internal/version"
)

// serialGap is how many requests more than it has had when a new daemon begins the old one
// may have until its end. Their numbers are in no other's way.
const serialGap = 1_000_000

// upgradeTime is how long a new daemon that a signal has asked for may take to be ready.
const upgradeTime = time.Minute

var errUpgrading = errors.New("another upgrade is being carried out")

// An attempt is an upgrade that has begun. There is one at a time.
type attempt struct {
	cancel context.CancelCauseFunc
	done   chan outcome // gets one
	reply  chan outcome // of who has asked, has room for one
}

// An outcome is what has come of an attempt.
type outcome struct {
	next  *upgrade.Successor       // that serves; nil if err is not
	taken map[*listen.Listener]int // that it uses too, with their places
	err   error
}

// beginUpgrade starts the program anew. What comes of it is sent to the attempt, and to
// reply.
func (d *daemon) beginUpgrade(timeout time.Duration, reply chan outcome) {
	err := d.mayUpgrade()
	var sockets handed
	if err == nil {
		sockets, err = d.handOver()
	}
	if err != nil {
		sockets.close()
		d.logs.Error("upgrade refused: this daemon goes on", "error", err)
		d.metrics.Upgraded(err)
		reply <- outcome{err: err}
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := func() {}
	if timeout > 0 {
		ctx, stop = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the new daemon was not ready within %v", timeout))
	}
	a := &attempt{cancel: cancel, done: make(chan outcome, 1), reply: reply}
	d.attempt = a
	hello := d.hello(sockets)
	go func() {
		defer stop()
		defer sockets.close()
		a.done <- d.tryUpgrade(ctx, hello, sockets)
	}()
}

// mayUpgrade is why there can be no upgrade now, or nil.
func (d *daemon) mayUpgrade() error {
	switch {
	case d.attempt != nil:
		return errUpgrading
	case d.opt.Beside != nil:
		return errors.New("this daemon is part of another program, which an upgrade would leave without it")
	case d.program == "" && d.opt.Spawner == nil:
		return errors.New("the path of this program is not known")
	}
	return nil
}

// tryUpgrade starts the new daemon and has it begin.
func (d *daemon) tryUpgrade(ctx context.Context, hello upgrade.Hello, sockets handed) outcome {
	next, err := upgrade.Start(ctx, d.startNext, hello, sockets.fds)
	if err != nil {
		return outcome{err: err}
	}
	places, err := next.Prepared(ctx)
	if err != nil {
		return outcome{err: err}
	}
	if err := next.Begin(d.pools.Serial() + serialGap); err != nil {
		return outcome{err: err}
	}
	taken := make(map[*listen.Listener]int)
	for _, place := range places {
		if place < len(sockets.listeners) && sockets.listeners[place] != nil {
			taken[sockets.listeners[place]] = place
		}
	}
	return outcome{next: next, taken: taken}
}

// startNext starts a new daemon, or has the spawner start one with a spawner of its own.
func (d *daemon) startNext(files []int) (upgrade.Process, int, error) {
	if d.opt.Spawner != nil {
		next, err := d.opt.Spawner.StartSuccessor(files)
		if err != nil {
			return nil, 0, err
		}
		return next, next.PID, nil
	}
	d.logs.Info("upgrade begun", "program", d.program)
	next, err := d.programs.StartSuccessor(d.program, files)
	if err != nil {
		return nil, 0, err
	}
	return next, next.PID, nil
}

// A handed is the sockets that a new daemon gets. The fds are its own.
type handed struct {
	sockets   []listen.Handed
	listeners []*listen.Listener // of each; nil for one of systemd's that none has
	fds       []int
}

func (h *handed) close() {
	for _, fd := range h.fds {
		unix.Close(fd)
	}
}

// handOver are copies of all sockets that this daemon listens on.
func (d *daemon) handOver() (h handed, err error) {
	if h.sockets, h.fds, err = listen.HandPassed(); err != nil {
		return h, err
	}
	h.listeners = make([]*listen.Listener, len(h.sockets))
	for _, l := range d.listeners() {
		if l == nil || l.IsLost() {
			continue
		}
		if l.IsPassed() {
			h.note(l)
			continue
		}
		socket, fd, err := l.Hand()
		if err != nil {
			return h, err
		}
		h.sockets, h.listeners, h.fds = append(h.sockets, socket), append(h.listeners, l), append(h.fds, fd)
	}
	return h, nil
}

// note tells which listener one of systemd's sockets has now.
func (h *handed) note(l *listen.Listener) {
	for i := range h.sockets {
		if h.sockets[i].Address == l.Options().Address {
			h.listeners[i] = l
		}
	}
}

// listeners are all that this daemon has; some may be nil.
func (d *daemon) listeners() []*listen.Listener {
	return append(d.pools.Listeners(), d.admin.Listener(), d.control.server.Listener())
}

func (d *daemon) hello(h handed) upgrade.Hello {
	hello := upgrade.Hello{Version: version.Version, PID: os.Getpid(), Sockets: h.sockets}
	if d.store != nil {
		hello.Stored = d.store.Names
	}
	for _, p := range d.pools.Names() {
		if d.pools.Progress(p).Failing != "" {
			hello.Failing = append(hello.Failing, p)
		}
	}
	return hello
}

// endAttempt notes that an upgrade has failed: all is as it was before.
func (d *daemon) endAttempt(o outcome) {
	d.logs.Error("upgrade failed: this daemon goes on", "error", o.err)
	d.metrics.Upgraded(o.err)
	for _, l := range d.listeners() {
		if l == nil || l.IsLost() {
			continue
		}
		if err := l.Reassert(); err != nil { // the new one may have been of another mind
			d.logs.Error("cannot restore a socket", "error", err)
		}
	}
	d.attempt.reply <- o
	d.attempt = nil
}

// cancelAttempt ends an upgrade for the sake of something else, if there is one. It reports
// what has come of it: the new daemon may serve by then.
func (d *daemon) cancelAttempt() (o outcome, isReplaced bool) {
	if d.attempt == nil {
		return o, false
	}
	d.attempt.cancel(errStopping)
	if o = <-d.attempt.done; o.err != nil {
		d.endAttempt(o)
		return o, false
	}
	return o, true
}

// leave ends this daemon, since another one has taken its place: it takes nothing new, and
// lets what it has come to its end.
func (d *daemon) leave(o outcome, signals *signals) error {
	defer func() { // also of one that came last
		if len(signals.reload) > 0 {
			o.next.Signal(unix.SIGHUP)
		}
	}()
	for l := range o.taken {
		l.Disown()
	}
	d.metrics.Upgraded(nil)
	// systemd takes it from the process that it knows, and after it what the new one says.
	d.notify(fmt.Sprintf("MAINPID=%d", o.next.PID))
	os.Unsetenv("NOTIFY_SOCKET") // with NotifyAccess=all it would take what this one says for the new one's
	if err := o.next.Commit(); err != nil {
		d.logs.Error("cannot tell who waits for this daemon of the new one", "error", err)
	}
	d.logs.Info("upgraded: the new daemon serves, and this one ends with its last request", "successor", o.next.PID, "daemon", o.next.Daemon)
	d.attempt.reply <- o
	hurry := make(chan struct{}, 1)
	o.next.Follow(upgrade.Answers{
		Metrics: d.metrics.Export, Requests: d.tellRequests, Kill: d.killFor,
		Hurry: func() {
			select {
			case hurry <- struct{}{}:
			default:
			}
		},
	})
	give := make(map[*listen.Listener]func(net.Conn) bool)
	var lost atomic.Int64
	for l, place := range o.taken {
		give[l] = func(c net.Conn) bool {
			isGiven := o.next.Give(place, c)
			if !isGiven {
				lost.Add(1)
			}
			return isGiven
		}
	}
	d.store = nil
	d.pools.Replace(give)
	err := d.drain(signals, hurry, o.next)
	if n := lost.Load(); n > 0 {
		d.logs.Warn("kept connections were closed: the new daemon has not taken them", "connections", n)
	}
	o.next.End(d.metrics.Export())
	return err
}

// drain lets the last requests end, for upgrade_timeout. If somebody wants it to be over
// soon, they have shutdown_timeout. A reload is passed on: who knows this process only means
// the daemon, and the new one may have read the file before it was changed.
func (d *daemon) drain(signals *signals, hurry <-chan struct{}, next *upgrade.Successor) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		d.stopReplaced()
	}()
	gone := next.Gone()
	var force, late <-chan time.Time
	hasten := func() {
		force = time.After(d.pools.ShutdownTime())
		if d.before != nil {
			d.before.Hurry()
			late = time.After(d.pools.ShutdownTime() + stopMargin)
		}
	}
	for {
		select {
		case <-stopped:
			d.logs.Info("stopped")
			return nil
		case <-force:
			d.pools.Force()
		case <-late:
			d.before.Close()
		case <-hurry:
			hasten()
		case s := <-signals.stop:
			if force != nil {
				return d.stopAtOnce(s, stopped)
			}
			d.logs.Info("stopping", "signal", s.String())
			hasten()
		case <-signals.reload:
			d.logs.Info("reload passed on to the new daemon", "successor", next.PID)
			next.Signal(unix.SIGHUP)
		case <-signals.upgrade:
			d.logs.Error("upgrade refused: another daemon has taken this one's place", "successor", next.PID)
		case <-signals.reopen:
			d.reopenLogs()
		case <-gone:
			gone = nil
			d.logs.Error("the daemon that has taken this one's place has ended")
		}
	}
}

// stopReplaced is stop for a daemon whose sockets another one has. While the one before it is
// there, that gives its connections to this one, which gives them on.
func (d *daemon) stopReplaced() {
	close(d.ending)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		d.admin.Close()
		d.control.close()
	}()
	d.pools.Stop()
	<-closed
	if d.before != nil {
		<-d.before.Gone()
		d.adopting.Wait()
	}
}

// takeOver has this daemon, which is configured, take the place of another one. On error it
// has not, and never will.
func (d *daemon) takeOver(before *upgrade.Predecessor, signals *signals) error {
	if err := listen.DropRest(); err != nil {
		return err
	}
	if err := d.awaitWorkers(before, signals); err != nil {
		return err
	}
	if err := before.Prepared(); err != nil {
		return fmt.Errorf("%w: %w", upgrade.ErrGone, err)
	}
	select {
	case <-before.Begun():
	case <-before.Gone():
		return upgrade.ErrGone
	case err := <-d.failed:
		return err
	case s := <-signals.stop:
		return stoppedEarly(s)
	}
	d.before = before
	d.metrics.Continue(before.Metrics)
	d.pools.CountFrom(before.Serial())
	listen.Begin()
	d.adopting.Go(func() {
		if lost := before.Connections(d.pools.Adopt); lost > 0 {
			d.logs.Warn("kept connections of the daemon before this one were closed: they belong to no address here, or there were no descriptors", "connections", lost)
		}
	})
	before.Serving()
	select {
	case <-before.Yours():
	case <-before.Gone(): // it was killed: then this one is all that there is
	}
	return nil
}

// awaitWorkers waits until the workers of all pools have shown that they run, but for those
// that did not under the old daemon either.
func (d *daemon) awaitWorkers(before *upgrade.Predecessor, signals *signals) error {
	var pools []status.PoolChange
	for _, name := range d.pools.Names() {
		if !slices.Contains(before.Hello.Failing, name) {
			pools = append(pools, status.PoolChange{Name: name, Change: status.Added})
		}
	}
	ticker := time.NewTicker(pollTime)
	defer ticker.Stop()
	for {
		left, hopeless := d.unconverged(pools)
		switch {
		case len(left) == 0:
			return nil
		case hopeless:
			return errors.New(left[0])
		}
		select {
		case <-ticker.C:
		case <-before.Gone():
			return upgrade.ErrGone
		case err := <-d.failed:
			return err
		case s := <-signals.stop:
			return stoppedEarly(s)
		}
	}
}

// stoppedEarly is the error of a new daemon that was asked to stop.
func stoppedEarly(s os.Signal) error {
	return fmt.Errorf("stopped by a signal (%v) before it was ready", s)
}

// RefuseUpgrade tells the old daemon, whose place this process was to take with a daemon of its
// own, why it does not.
func RefuseUpgrade(err error) { upgrade.Refuse(err, refusal(err).Faults) }

// refuse tells the old daemon why this one does not take its place.
func refuse(before *upgrade.Predecessor, err error) { before.Fail(err, refusal(err).Faults) }

// orderUpgrade starts the program anew, and answers when the new daemon serves.
func (d *daemon) orderUpgrade(_ context.Context, by admin.Peer, o status.Order) status.Reply {
	ask := upgradeOrder{by: by, timeout: o.Timeout, reply: make(chan outcome, 1)}
	select {
	case d.upgrades <- ask:
	case <-d.ending:
		d.tell(by, o.Verb, errStopping)
		return refusal(errStopping)
	}
	result := <-ask.reply
	var faults upgrade.Faulty
	d.tell(by, o.Verb, result.err)
	switch {
	case errors.As(result.err, &faults):
		return status.Reply{Faults: faults}
	case result.err != nil:
		return status.Reply{Error: "the old daemon goes on: " + result.err.Error()}
	}
	return status.Reply{Text: "upgraded: " + d.succession(result.next)}
}

// succession names the processes of an upgrade. With a spawner there are two of each, and the one
// that people know, as systemd's main process, is the spawner.
func (d *daemon) succession(next *upgrade.Successor) string {
	if d.opt.Spawner == nil {
		return fmt.Sprintf("process %d serves, and %d ends with its last request", next.PID, os.Getpid())
	}
	return fmt.Sprintf("daemon %d serves, started by main process %d; daemon %d, started by %d, ends with its last request",
		next.Daemon, next.PID, os.Getpid(), os.Getppid())
}

// An upgradeOrder is for the goroutine of untilStopped.
type upgradeOrder struct {
	by      admin.Peer
	timeout time.Duration // 0 is for ever
	reply   chan outcome
}
