package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// A load is what the client does to a server. The zero value of a field is
// given where it has a meaning.
type load struct {
	network, address string // "unix" or "tcp"
	request          *request
	answer           int64 // length of each answer, over HTTP of its body; verify tells it
	conns            int   // connections at once, at least 1; with a rate, at most so many
	streams          int   // requests at once on each connection, with ids from 1; 0 is 1
	keep             bool  // a connection carries one request after the other
	// rate is in requests a second, whether answers come or not, each on a
	// connection of its own; 0 sends the next request when one is answered.
	rate float64
	// timed measures how long each answer takes, from when its request is sent. With a
	// rate that is measured in any case, from when it was due.
	timed bool
}

// A result is what came of a load. What has "window" in its name counts what
// happened between the end of the warm-up and the end of the time.
type result struct {
	windowRequests     int64
	window             time.Duration
	windowIn           int64 // bytes received
	windowOut          int64 // bytes sent
	requests           int64 // all that were answered, with those of the warm-up
	in, out            int64
	latencies          []int64 // where they are measured: of each answer in the window, in nanoseconds, sorted
	failures           int
	failure            error // the first one
	warmUp, afterwards time.Duration
}

// drainTime is how long a client waits for answers after its time.
const drainTime = 20 * time.Second

// maxFailures ends a load early.
const maxFailures = 20

// run puts the load onto a server for this time, after a warm-up. A request
// that failed is in the result; an error tells that nothing could be measured.
//
// The client is one thread with its own epoll, so that it takes as little of the
// machine as it can from those it measures. It allocates nothing for a request.
func (ld load) run(ctx context.Context, warmUp, duration time.Duration) (*result, error) {
	l := &loop{load: ld, base: time.Now(), buffer: make([]byte, 256<<10)}
	l.streams, l.unix.Name = max(1, l.streams), ld.address
	l.result.window, l.result.warmUp = duration, warmUp
	l.from = int64(warmUp)
	l.until = l.from + int64(duration)
	if l.rate > 0 {
		l.interval = int64(float64(time.Second) / l.rate)
		l.waiting = make([]int64, 0, int(l.until/l.interval)+1)
		l.latencies = make([]int64, 0, int(l.until/l.interval)+1)
	} else if l.timed {
		l.latencies = make([]int64, 0, 1<<17)
	}
	defer l.close()
	if err := l.start(); err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	for {
		done, err := l.turn()
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if done {
			slices.Sort(l.latencies)
			l.afterwards = time.Duration(l.now - l.until)
			return &l.result, nil
		}
	}
}

// A loop runs one load. It belongs to one goroutine.
type loop struct {
	load
	result
	base        time.Time // time 0 of all below
	now         int64     // nanoseconds, when this turn began
	from, until int64     // the window
	epoll       int
	timer       int // a timerfd, of a load with a rate
	unix        syscall.SockaddrUnix
	conns       []*conn
	active      int // requests sent and not answered
	buffer      []byte
	events      [128]syscall.EpollEvent

	// Of a load with a rate:
	interval int64
	next     int64   // when the next request is due
	waiting  []int64 // when those were due that have no connection yet; waiting[head:] wait
	head     int
	free     []*conn
}

// start opens connections and sends the first requests.
func (l *loop) start() error {
	l.epoll, l.timer = -1, -1
	var err error
	if l.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return err
	}
	for i := range l.load.conns {
		l.conns = append(l.conns, &conn{loop: l, index: i, fd: -1, streams: make([]stream, l.streams)})
	}
	if l.rate > 0 {
		l.free = slices.Clone(l.conns)
		if l.timer, err = newTimer(l.epoll); err != nil {
			return err
		}
		return l.arrivals()
	}
	for _, c := range l.conns {
		if err := c.renew(); err != nil {
			return err
		}
	}
	return nil
}

// turn waits for events and handles them. It reports whether the load is over.
func (l *loop) turn() (done bool, err error) {
	n, err := syscall.EpollWait(l.epoll, l.events[:], 100)
	if err != nil && err != syscall.EINTR {
		return false, err
	}
	l.now = int64(time.Since(l.base))
	for _, e := range l.events[:max(0, n)] {
		if e.Fd == timerIndex {
			if err := l.arrivals(); err != nil {
				return false, err
			}
			continue
		}
		c := l.conns[e.Fd]
		if err := c.handle(e.Events); err != nil {
			l.fail(c, err)
		}
	}
	if l.failures >= maxFailures {
		return true, nil
	}
	if l.now < l.until {
		return false, nil
	}
	waiting := l.active + len(l.waiting) - l.head
	if waiting > 0 && l.now > l.until+int64(drainTime) {
		l.note(waiting, fmt.Errorf("no answer within %v after the end", drainTime))
		return true, nil
	}
	return waiting == 0, nil
}

// fail gives up a connection with all that is sent on it, and opens a new one
// in its place while there is time.
func (l *loop) fail(c *conn, err error) {
	l.note(1, err)
	c.drop()
	if l.failures >= maxFailures || l.now >= l.until {
		return
	}
	if l.rate > 0 {
		l.release(c)
	} else if err := c.renew(); err != nil {
		l.note(maxFailures, err)
	}
}

func (l *loop) note(n int, err error) {
	if l.failures == 0 {
		l.failure = err
	}
	l.failures += n
}

// answered counts an answer that is complete and right.
func (l *loop) answered(due int64) {
	l.active--
	l.requests++
	if l.rate > 0 {
		if due >= l.from && due < l.until {
			l.latencies = append(l.latencies, l.now-due)
			l.windowRequests++
		}
	} else if l.inWindow() {
		l.windowRequests++
		if l.timed {
			l.latencies = append(l.latencies, l.now-due)
		}
	}
}

func (l *loop) inWindow() bool { return l.now >= l.from && l.now < l.until }

// received and sent count bytes.
func (l *loop) received(n int) {
	l.in += int64(n)
	if l.inWindow() {
		l.windowIn += int64(n)
	}
}

func (l *loop) sent(n int) {
	l.out += int64(n)
	if l.inWindow() {
		l.windowOut += int64(n)
	}
}

// close closes all that the loop has opened.
func (l *loop) close() {
	for _, c := range l.conns {
		c.drop()
	}
	for _, fd := range []int{l.timer, l.epoll} {
		if fd >= 0 {
			syscall.Close(fd)
		}
	}
}
