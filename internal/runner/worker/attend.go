package worker

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

// attend sees a worker through its life, from its start to its end.
func (p *Pool) attend(w *worker) {
	proc, err := p.launch(w.program, w.id)
	if err != nil {
		p.exited(w, &exit{err: err})
		return
	}
	p.mu.Lock()
	w.started(proc)
	p.unlock()
	if err := p.warmUp(w); err != nil {
		p.mu.Lock()
		w.failure = err
		w.end(exitStart)
		p.unlock()
	} else {
		p.ready(w)
	}
	p.exited(w, proc.wait())
}

func (p *Pool) ready(w *worker) {
	p.mu.Lock()
	defer p.unlock()
	started := w.state == stateStarting
	w.ready()
	if !started {
		return
	}
	w.answered = len(w.program.warmUp) > 0
	p.settled = p.settled || w.answered && !w.outdated
	if took := time.Since(w.born); p.hooks.Started != nil {
		p.laterLocked(func() { p.hooks.Started(took) })
	}
	p.adjustLocked()
}

// warmUp asks the worker the request that it must answer before any other, within
// StartTimeout.
func (p *Pool) warmUp(w *worker) error {
	if len(w.program.warmUp) == 0 {
		return nil
	}
	var answer warmUpAnswer
	req := p.warmUpRequest(w.program)
	req.Stdout = &answer
	p.mu.Lock()
	timeout, s := p.opt.StartTimeout, w.seat()
	s.req, s.since = req, time.Now()
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	x := exchange{pool: p, seat: s, req: req, running: true}
	x.run(ctx)
	_, err := x.result(ctx)
	p.mu.Lock()
	s.req, s.fresh = nil, false
	if !x.keep || !w.serves() {
		s.close()
	}
	p.unlock()
	if err == nil {
		err = answer.check()
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("not answered within %v", timeout)
	}
	if err != nil {
		return fmt.Errorf("warm-up request: %w", err)
	}
	return nil
}

// warmUpRequest is a GET, if nothing else is said.
func (p *Pool) warmUpRequest(program *program) *protocol.Request {
	req := &protocol.Request{Role: protocol.RoleResponder}
	for _, kv := range program.warmUp {
		name, value, _ := strings.Cut(kv, "=")
		req.Params.Add(name, value)
	}
	if _, ok := req.Params.Lookup("REQUEST_METHOD"); !ok {
		req.Params.Add("REQUEST_METHOD", "GET")
	}
	if params, err := p.telling.Load().programs.told.ForWorker(&req.Params, nil); err == nil {
		req.Params = *params
	}
	return req
}

// A warmUpAnswer keeps the beginning of a CGI response.
type warmUpAnswer struct{ start []byte }

// Write takes a part of the response.
func (a *warmUpAnswer) Write(p []byte) (int, error) {
	a.start = append(a.start, p[:min(len(p), cgi.MaxHeader-len(a.start))]...)
	return len(p), nil
}

// check returns an error if the response has a status of 500 or more (RFC 3875,
// section 6.3.3), or is none.
func (a *warmUpAnswer) check() error {
	if end, _ := cgi.HeaderEnd(a.start, 0); end == 0 {
		return cgi.HeaderError(cgi.Unfinished(a.start), a.start)
	}
	h, err := cgi.ParseHeader(a.start)
	if err == nil && h.Status >= 500 {
		err = fmt.Errorf("the answer has status %d", h.Status)
	}
	return err
}

// exited is called when a worker has ended, or could not be started.
func (p *Pool) exited(w *worker, e *exit) {
	p.mu.Lock()
	defer p.unlock()
	now := time.Now()
	reason := w.exitReason(e, now.Sub(w.born) < p.opt.StartTimeout)
	w.exited()
	p.all = slices.DeleteFunc(p.all, func(other *worker) bool { return other == w })
	p.exits[reason]++
	p.countLocked(w, e.cpu())
	if p.hooks.Exited != nil {
		p.laterLocked(func() { p.hooks.Exited(reason) })
	}
	switch {
	case reason == exitStart, reason == exitProtocol && !w.answered && !w.hasReadHead:
		if p.phase == phaseRunning {
			p.health.fail(p, w, w.describe(e), now)
		}
	case reason == exitCrash, reason == exitOOM:
		p.logLocked(slog.LevelWarn, "worker has crashed", "pid", w.process.pid(), "exit", e.describe(),
			"requests", w.taken)
	}
	p.adjustLocked()
}

// exitReason names why a worker has ended. The reason for which it was asked to
// holds, unless it did so by itself.
func (w *worker) exitReason(e *exit, early bool) string {
	asked := w.reason != "" && w.reason != exitSelf
	switch {
	case e.err != nil && !asked:
		return exitStart
	case asked:
		return w.reason
	case early && !w.answered && !w.hasReadHead:
		return exitStart
	case e.OutOfMemoryError() != nil:
		return exitOOM
	case e.Status.Signaled() && (w.reason == "" || e.Status.Signal() != w.stopWith),
		e.Status.Exited() && e.Status.ExitStatus() != 0:
		return exitCrash
	}
	return exitSelf
}

// describe says why a worker could not be started.
func (w *worker) describe(e *exit) string {
	if w.failure == nil {
		return e.describe()
	}
	if e.lastLine == "" {
		return w.failure.Error()
	}
	return w.failure.Error() + ": " + e.lastLine
}

// A exit is how a worker has ended.
type exit struct {
	spawn.Exit
	err      error  // why there was no program
	lastLine string // of STDERR
}

// cpu is the CPU time that it has used, with its children.
func (e *exit) cpu() time.Duration {
	if e.err != nil {
		return 0
	}
	return time.Duration(e.Usage.Utime.Nano() + e.Usage.Stime.Nano())
}

// describe says how it ended, with the last that it said.
func (e *exit) describe() string {
	var text string
	switch {
	case e.err != nil:
		return e.err.Error()
	case e.OutOfMemoryError() != nil:
		text = e.OutOfMemoryError().Error()
	default:
		text = cgi.ExitText(e.Code())
	}
	if e.lastLine != "" {
		text += ": " + e.lastLine
	}
	return text
}
