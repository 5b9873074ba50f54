package worker

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"
)

// A state says what a worker may be asked for. docs/workers.md has the
// table of states and events, and a test compares it with the methods below.
type state uint8

const (
	stateStarting state = iota // not ready for requests yet
	stateIdle                  // ready, without a request
	stateBusy                  // has requests, of which it may take more
	stateStopping              // takes no more; it is asked to end once it has none
	stateGone                  // has exited and was waited for
	stateCount
)

var stateNames = [stateCount]string{"starting", "idle", "busy", "stopping", "gone"}

func (s state) String() string { return stateNames[s] }

// A worker is one persistent program as a state machine. Its owner is the
// Pool it belongs to, whose mu guards the fields that are not immutable and is
// held when a method is called. Each event is a method.
type worker struct {
	// Immutable.
	pool    *Pool
	id      int
	program *program
	born    time.Time
	spread  float64 // how far its limits are from what the options say, from -1 to 1

	// What Update may change.
	softMax   int            // requests after which it is to be replaced; 0 is no bound
	hardMax   int            // requests after which it gets no more; 0 is no bound
	expires   time.Time      // when it is to be replaced; the zero time is never
	maxMemory int64          // bytes beyond which it is to be replaced; 0 is no bound
	outdated  bool           // it runs another program than the pool is to
	stopWith  syscall.Signal // what asks it to end

	state       state
	process     process // nil until it has been started, and when that was not possible
	seats       []*seat
	inFlight    int
	taken       int       // requests that were given to it
	answered    bool      // it has answered one, or its warm-up
	hasReadHead bool      // it has read the head of a request, before it had answered one
	memory      int64     // that it had, with its descendants, after its last request; 0 if nobody has looked
	tired       string    // which of its limits it has reached; "" is none
	reason      string    // why it is asked to end; "" is not
	forced      bool      // it is asked to end since something is wrong with it
	failure     error     // what it did wrong, where that is why it is asked to end
	overdue     time.Time // when it should have ended; the zero time until it is asked to
	readied     time.Time // when it became ready; the zero time before
	used        uint64    // grows with the last use, of all workers of a pool
	lastUsed    time.Time
	counted     time.Duration // of its CPU time

	before, after *worker // in its queue of ranks
}

// A process is what a worker needs of its program.
type process interface {
	pid() int
	// askWith says by which signal it is asked to end.
	askWith(syscall.Signal)
	// connect makes a connection to it.
	connect(ctx context.Context) (net.Conn, error)
	// leave asks it to end, and nothing that it has started, and kills it after grace.
	// It does not wait, and may be called again, with less grace too.
	leave(grace time.Duration)
	// end asks it to end with all that it has started, and kills that after grace.
	// It does not wait, and may be called again, also after leave.
	end(grace time.Duration)
	// wait returns when it has exited, and nothing is left that is the program.
	wait() *exit
}

// transition is the only writer of the state, and gives a worker that serves so many more
// requests.
func (w *worker) transition(to state, more int) {
	w.pool.ranks.remove(w)
	w.state = to
	w.inFlight += more
	w.pool.ranks.add(w)
}

// touch makes the worker the one used last.
func (w *worker) touch() {
	w.pool.lastUse++
	w.used = w.pool.lastUse
	w.lastUsed = time.Now()
}

// tire is called when it may have reached one of its limits, or be below them again.
func (w *worker) tire(now time.Time) {
	if tired := w.tiredness(now); tired != w.tired {
		w.pool.ranks.remove(w)
		w.tired = tired
		w.pool.ranks.add(w)
	}
}

// tiredness is which limit it has reached.
func (w *worker) tiredness(now time.Time) string {
	switch {
	case w.state == stateStarting: // nothing of it could be replaced yet
		return ""
	case w.softMax > 0 && w.taken >= w.softMax:
		return exitMaxRequests
	case !w.expires.IsZero() && !now.Before(w.expires):
		return exitLifetime
	case w.maxMemory > 0 && w.memory > w.maxMemory:
		return exitMemory
	}
	return ""
}

// leaving is why the worker is ending, or is to be replaced; "" is neither.
func (w *worker) leaving() string {
	switch {
	case w.reason != "":
		return w.reason
	case w.outdated:
		return exitReload
	}
	return w.tired
}

// started is called when the program runs.
func (w *worker) started(p process) {
	p.askWith(w.stopWith)
	switch w.state {
	case stateStarting:
		w.process = p
	case stateStopping:
		w.process = p
		w.stop()
	default:
		w.impossible("started")
	}
}

// setStopSignal says what asks it to end from now on.
func (w *worker) setStopSignal(s syscall.Signal) {
	w.stopWith = s
	if w.process != nil {
		w.process.askWith(s)
	}
}

// ready is called when it may be given requests.
func (w *worker) ready() {
	switch w.state {
	case stateStarting:
		w.touch()
		w.readied = w.lastUsed
		w.transition(stateIdle, 0)
		w.tire(w.lastUsed)
	case stateStopping, stateGone:
	default:
		w.impossible("ready")
	}
}

// take is called when a request is given to it.
func (w *worker) take() {
	switch w.state {
	case stateIdle, stateBusy:
		w.touch()
		w.transition(stateBusy, 1)
		w.taken++
		w.tire(w.lastUsed)
	default:
		w.impossible("take")
	}
}

// done is called when it has one request less.
func (w *worker) done() {
	switch w.state {
	case stateBusy:
		w.touch()
		if w.inFlight == 1 {
			w.transition(stateIdle, -1)
		} else {
			w.transition(stateBusy, -1)
		}
	case stateStopping:
		w.inFlight--
		if w.inFlight == 0 {
			w.stop()
		}
	case stateGone: // it went with the request
		w.inFlight--
	default:
		w.impossible("done")
	}
}

// retire is called when it is to end once it has no request.
func (w *worker) retire(reason string) {
	switch w.state {
	case stateStarting, stateIdle:
		w.stopFor(reason)
		w.stop()
	case stateBusy:
		w.stopFor(reason)
	case stateStopping, stateGone:
	}
}

// end is called when it is to end whatever it does.
func (w *worker) end(reason string) {
	switch w.state {
	case stateStarting, stateIdle, stateBusy:
		w.stopFor(reason)
		w.stop()
	case stateStopping:
		w.forced = w.forced || isForced(reason)
		w.stop()
	case stateGone:
	}
}

// exited is called when it was waited for, or could not be started.
func (w *worker) exited() {
	switch w.state {
	case stateStarting, stateIdle, stateBusy, stateStopping:
		w.transition(stateGone, 0)
		for _, s := range w.seats {
			s.cut()
		}
	default:
		w.impossible("exited")
	}
}

func (w *worker) impossible(event string) {
	panic(fmt.Sprintf("worker %d is %v and %s", w.id, w.state, event))
}

// stopFor notes why it is to end.
func (w *worker) stopFor(reason string) {
	w.reason, w.forced = reason, isForced(reason)
	w.transition(stateStopping, 0)
}

// isForced reports whether a worker that ends for that reason is ill: then all that
// it has started ends with it. One that is well leaves what it has left in the
// background on purpose.
func isForced(reason string) bool {
	switch reason {
	case exitTimeout, exitAbort, exitProtocol, exitStart:
		return true
	}
	return false
}

// killTime is how long after KILL a worker may need to be gone.
const killTime = 5 * time.Second

// stop asks the program to end, and closes the connections on which it waits for
// more: php-cgi and libfcgi notice the signal only then. A program that does not
// run yet is asked by started.
func (w *worker) stop() {
	if w.process == nil {
		return
	}
	grace, ask := w.pool.leaveGraceLocked(), w.process.leave
	if w.forced {
		grace, ask = w.pool.opt.StopGrace, w.process.end
	}
	if w.overdue.IsZero() {
		w.overdue = time.Now().Add(grace + killTime)
	}
	w.pool.laterLocked(func() { ask(grace) })
	for _, s := range w.seats {
		if s.req == nil || w.inFlight == 0 { // or has the warm-up request, which is not counted
			s.cut()
		}
	}
}

// serves reports whether the worker is one of those that count against Max.
func (w *worker) serves() bool { return w.state < stateStopping }

// hasUnaccepted reports whether a request waits on a connection from which nothing
// was read: so many connections may be more than the program takes at once.
func (w *worker) hasUnaccepted() bool {
	for _, s := range w.seats {
		if s.fresh && s.isUnread() {
			return true
		}
	}
	return false
}

// noteHead is called, without the pool's mu, when it is about to get the first of a
// request: if it dies of that, it had started.
func (w *worker) noteHead() {
	w.pool.mu.Lock()
	defer w.pool.unlock()
	w.hasReadHead = true
}

// takesRequests reports, without the pool's mu, whether it takes requests: it has read one.
func (w *worker) takesRequests() bool {
	w.pool.mu.Lock()
	defer w.pool.unlock()
	return w.hasReadHead || w.answered
}

// isFree reports whether the worker takes one more request.
func (w *worker) isFree() bool {
	return (w.state == stateIdle || w.state == stateBusy) &&
		w.inFlight < w.pool.opt.Concurrency && (!w.isSpent() || w.pool.health.isDegraded())
}

// isSpent reports whether it was given all requests that it may have.
func (w *worker) isSpent() bool { return w.hardMax > 0 && w.taken >= w.hardMax }

// seat returns a place without a request, with a connection if there is one.
func (w *worker) seat() *seat {
	var free *seat
	for _, s := range w.seats {
		if s.req == nil && (free == nil || free.conn == nil) {
			free = s
		}
	}
	if free == nil {
		free = &seat{worker: w}
		w.seats = append(w.seats, free)
	}
	return free
}
