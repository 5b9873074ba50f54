package worker

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// maxAttempts is how many workers are tried for a request of which none has
// taken any notice.
const maxAttempts = 10

// Run gives the request to a worker and returns when it has been answered, with
// the appStatus of the answer. It waits for a worker until ctx ends or the request's
// QueueDeadline is over; the time that a worker has had the request does not count. After
// the deadline the error is a *protocol.Refusal with status 503. It is one with status 431
// if a param is longer than a record, which programs do not read, and one with 403 or 404
// if there is no script that may be asked for.
//
// When a worker dies, writes what is no answer, or does not accept within StartTimeout,
// the request goes to another one if the first cannot have seen its params. If it may have
// seen them, the request goes to another one once at most, and only if
//
//   - the worker died, or what it wrote belongs to another request;
//   - nothing of the answer was delivered;
//   - the method is GET, HEAD or OPTIONS; and
//   - there is no body, or a protocol.WholeReader that is whole and 64 KiB at most.
//
// When ctx ends with a cause that is protocol.ErrTimeout, or with its deadline,
// the worker counts as hung: it is replaced, and Run returns at once. With any
// other cause the worker is sent ABORT_REQUEST and has a second to end the
// request; if it does not, it is replaced.
func (p *Pool) Run(ctx context.Context, req *protocol.Request) (uint32, error) {
	req, name, err := p.tell(ctx, req)
	if err != nil {
		return 0, err
	}
	came, deadline := time.Now(), req.QueueDeadline
	running, repeated := false, false
	for attempt := 1; ; attempt++ {
		s, err := p.acquire(ctx, req, deadline)
		if err != nil {
			return 0, err
		}
		x := exchange{pool: p, seat: s, req: req, name: name, came: came, until: deadline, running: running, careful: attempt > 1 || s.untried || !isSafe(req)}
		x.run(ctx)
		p.vacate(s, &x)
		if ctx.Err() != nil || attempt == maxAttempts || !x.mayRepeat() || x.begun && repeated {
			return x.result(ctx)
		}
		running, repeated = x.running, repeated || x.begun
		if !deadline.IsZero() && !x.began.IsZero() {
			deadline = deadline.Add(time.Since(x.began))
		}
		if p.hooks.Repeated != nil {
			p.hooks.Repeated()
		}
	}
}

// tell returns the request as a worker is sent it: with the params that the pool
// wants it to have, and with its id, where they do not say it.
func (p *Pool) tell(ctx context.Context, req *protocol.Request) (*protocol.Request, *protocol.RequestID, error) {
	now := p.telling.Load()
	told := now.programs.told
	params, err := now.programs.resolve(ctx, now.launcher, &req.Params)
	switch {
	case err != nil:
		return nil, nil, err
	case !now.long && !params.FitRecords():
		return nil, nil, errParamTooLong
	case params == &req.Params:
		return req, told.IDForWorker(&req.ID), nil
	}
	changed := *req
	changed.Params = *params
	return &changed, told.IDForWorker(&req.ID), nil
}

// resolve returns the params that a worker is sent. Without rules the script is its
// business; what there is to look at then is looked at with our rights, as that is what each
// request would have to pay for.
func (p *Programs) resolve(ctx context.Context, by Launcher, params *protocol.Params) (*protocol.Params, error) {
	if p.rules == nil {
		return p.told.ForWorker(params, nil)
	}
	return by.Resolve(ctx, params)
}

// Queues reports that requests wait for workers; see server.Queuer.
func (p *Pool) Queues() bool { return true }

// mayRepeat reports whether the request may be given to another worker: this one
// failed, and has not seen it, or it may be done twice.
func (x *exchange) mayRepeat() bool {
	switch {
	case x.fate != fateLost && x.fate != fateGarbage && x.fate != fateDeaf, x.delivered, x.ended:
		return false
	case !x.begun:
		return true
	}
	return (x.fate == fateLost || x.stray) && isSafe(x.req)
}

// isSafe reports whether a request may be done twice: it changes nothing (RFC
// 9110, section 9.2.1), and can be sent twice, which is so no more when its body
// was read.
func isSafe(req *protocol.Request) bool {
	if !slices.Contains([]string{"GET", "HEAD", "OPTIONS"}, req.Params.Get("REQUEST_METHOD")) {
		return false
	}
	_, inline := inlineInput(req)
	return inline
}

// inlineInput is the request's STDIN if it need not be read and is short enough to
// be sent with the params.
func inlineInput(req *protocol.Request) ([]byte, bool) {
	if !req.HasInput() {
		return nil, true
	}
	whole, ok := req.WholeInput()
	return whole, ok && len(whole) <= maxInline
}

// A waiter is a request without a worker.
type waiter struct {
	req  *protocol.Request
	turn chan *seat // gets its seat, or nil when there will be none
}

// acquire waits for a place for the request. The first that waits gets the first
// that is free. A zero deadline is none.
func (p *Pool) acquire(ctx context.Context, req *protocol.Request, deadline time.Time) (*seat, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	s, place := p.queue(req)
	switch {
	case s != nil:
		return s, nil
	case place == nil:
		return nil, errEnding
	}
	var expired <-chan time.Time
	if !deadline.IsZero() {
		timer := time.NewTimer(time.Until(deadline))
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case s := <-place.Value.(*waiter).turn:
		return seatOrEnd(s)
	case <-ctx.Done():
	case <-expired:
	}
	return p.giveUp(ctx, place)
}

// queue gives the request a seat at once, or a place in the queue; or neither, since
// the workers are ending.
func (p *Pool) queue(req *protocol.Request) (s *seat, place *list.Element) {
	p.mu.Lock()
	defer p.unlock()
	if p.phase == phaseEnding {
		return nil, nil
	}
	defer p.adjustLocked()
	if w := p.freeLocked(); w != nil && p.waiting.Len() == 0 {
		return p.takeLocked(w, req), nil
	}
	place = p.waiting.PushBack(&waiter{req, make(chan *seat, 1)})
	p.mostWaiting = max(p.mostWaiting, p.waiting.Len())
	return nil, place
}

func seatOrEnd(s *seat) (*seat, error) {
	if s == nil {
		return nil, errEnding
	}
	return s, nil
}

// giveUp takes a request off the queue. It may have got its seat meanwhile.
func (p *Pool) giveUp(ctx context.Context, place *list.Element) (*seat, error) {
	p.mu.Lock()
	defer p.unlock()
	select {
	case s := <-place.Value.(*waiter).turn:
		return seatOrEnd(s) // exchange looks at ctx
	default:
	}
	p.waiting.Remove(place)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, p.waitedTooLongLocked(nil)
}

// waitedTooLong is the answer to a request whose QueueDeadline is over. A nil why means
// that no worker was free.
func (p *Pool) waitedTooLong(why error) error {
	p.mu.Lock()
	defer p.unlock()
	return p.waitedTooLongLocked(why)
}

func (p *Pool) waitedTooLongLocked(why error) error {
	reason := errors.New("waited for a worker for longer than queue_timeout")
	switch {
	case why != nil:
		reason = fmt.Errorf("%w: %w", reason, why)
	case p.health.isFailing():
		reason = fmt.Errorf("%w: workers cannot be started: %s", reason, p.health.why)
	case p.saturation.is:
		reason = fmt.Errorf("%w: all %d (worker.max) have been busy for %v", reason, p.opt.Max, time.Since(p.saturation.since).Round(time.Millisecond))
	default:
		reason = fmt.Errorf("%w: of %d (worker.max) %d are starting, and %d have not ended yet",
			reason, p.opt.Max, p.ranks.count[stateStarting], p.ranks.count[stateStopping])
	}
	return &protocol.Refusal{HTTPStatus: 503, AppStatus: 503, Reason: reason}
}

// dispatchLocked gives what waits to workers that are free.
func (p *Pool) dispatchLocked() {
	for p.waiting.Len() > 0 {
		w := p.freeLocked()
		if w == nil {
			return
		}
		first := p.waiting.Remove(p.waiting.Front()).(*waiter)
		first.turn <- p.takeLocked(w, first.req)
	}
}

// refuseWaitingLocked turns away what waits.
func (p *Pool) refuseWaitingLocked() {
	for p.waiting.Len() > 0 {
		p.waiting.Remove(p.waiting.Front()).(*waiter).turn <- nil
	}
}

// freeLocked is the worker that is to get the next request, or nil: DispatchLIFO fills one
// worker before the next, DispatchFIFO has them share. One that is to be replaced gets it
// only if there is no other. How many workers there are makes no difference to how long
// that takes, but for those that are to be replaced.
func (p *Pool) freeLocked() (fallback *worker) {
	loads := min(p.opt.Concurrency, len(p.ranks.byLoad))
	fifo := p.opt.Dispatch == DispatchFIFO
	for i := range loads {
		q := &p.ranks.byLoad[i]
		next := q.first
		if !fifo {
			q = &p.ranks.byLoad[loads-1-i]
			next = q.last
		}
		for w := next; w != nil; w = next {
			if next = w.before; fifo {
				next = w.after
			}
			switch {
			case !w.isFree():
			case w.preference() == 0:
				return w
			case fallback == nil || w.preference() < fallback.preference():
				fallback = w
			}
		}
	}
	return fallback
}

// trialTime is how long the first worker of a program has to live before it gets
// requests that one of the program before could have.
const trialTime = 100 * time.Millisecond

// preference is the place of the worker's kind among those that can have a request, from 0: one that
// is to be replaced comes after the others, then one of another program, and last, as
// long as there is such a one, the first of a program that may die at once.
func (w *worker) preference() int {
	switch {
	case w.outdated:
		return 2
	case w.tired != "":
		return 1
	case w.pool.ranks.outdated > 0 && !w.pool.settled && time.Since(w.readied) < trialTime:
		return 3
	}
	return 0
}

func (p *Pool) takeLocked(w *worker, req *protocol.Request) *seat {
	w.take()
	s := w.seat()
	s.req, s.since, s.maxMemory = req, time.Now(), p.opt.MaxMemory
	s.untried, s.shared, s.startBy = !w.answered, p.opt.Concurrency > 1, w.born.Add(p.opt.StartTimeout)
	return s
}

// vacate takes a seat back after an exchange and decides what becomes of the worker.
func (p *Pool) vacate(s *seat, x *exchange) {
	w := s.worker
	var memory int64
	if s.maxMemory > 0 && x.fate == fateFit {
		_, memory = p.measure(w.process.pid())
	}
	p.mu.Lock()
	defer p.unlock()
	s.req, s.fresh = nil, false
	if !x.keep || !w.serves() || w.hasUnaccepted() {
		s.close()
	}
	w.done()
	p.judgeLocked(w, x)
	if x.fate == fateUnused && !x.begun {
		w.taken-- // it knows nothing of it
	}
	w.memory = cmp.Or(memory, w.memory)
	w.tire(time.Now())
	p.adjustLocked()
}

// judgeLocked says what an exchange that has ended means for the worker. One that
// has other requests keeps them when one of them hangs: it gets no more, and ends
// when they have ended. If it may serve several at once and hung up on one, some
// process of it has died, which is its own affair, as long as another one still
// listens.
func (p *Pool) judgeLocked(w *worker, x *exchange) {
	reason := ""
	switch x.fate {
	case fateFit:
		w.answered = true
		p.settled = p.settled || !w.outdated
		if x.missing && p.missing.permits(time.Now()) {
			p.logLocked(slog.LevelInfo, "worker has not found the script", "script", x.req.Params.Get("SCRIPT_FILENAME"),
				"uri", x.req.Params.Get("REQUEST_URI"), "request", x.req.Serial, "client", x.req.Client(), "pid", w.process.pid())
		}
	case fateLost:
		if x.begun {
			p.logLocked(slog.LevelWarn, "worker gave up a request", "request", x.req.Serial, "client", x.req.Client(), "pid", w.process.pid(),
				"method", x.req.Params.Get("REQUEST_METHOD"),
				"script", x.req.Params.Get("SCRIPT_FILENAME"), "error", x.err)
		}
		if !x.seat.shared && w.inFlight == 0 || isRefused(x.err) {
			w.end(exitSelf)
		}
	case fateHung:
		reason = exitTimeout
	case fateAborted:
		reason = exitAbort
	case fateGarbage:
		reason = exitProtocol
	case fateDeaf:
		reason = exitStart
	}
	if reason == "" {
		return
	}
	if w.serves() {
		w.failure = x.err
		p.logLocked(slog.LevelWarn, "worker is replaced", "reason", reason, "pid", w.process.pid(),
			"request", x.req.Serial, "client", x.req.Client(), "script", x.req.Params.Get("SCRIPT_FILENAME"), "error", x.err)
	}
	if w.inFlight > 0 {
		w.retire(reason)
	} else {
		w.end(reason)
	}
}

var errParamTooLong = &protocol.Refusal{HTTPStatus: 431, AppStatus: 431, Reason: errors.New("a param is longer than a FastCGI record, which not all programs read (worker.long_params)")}
