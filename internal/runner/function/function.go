// Package function runs functions of this process as a server's Runner: it keeps
// their panics to themselves, and knows of those that do not end when they have to.
package function

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// overdueAfter is how long after the end of its context a function may take to
// return before it is told of.
const overdueAfter = time.Second

// FromHandler makes a Call of a Handler of package fcgi. That package sets it: none of its
// exported names may have a type of ours, and only it can convert a request.
var FromHandler func(handler any) Call

// A Call does the work of a request.
type Call func(ctx context.Context, req *protocol.Request) (appStatus uint32, err error)

// Options say what runs.
type Options struct {
	// Call is called from many goroutines at once. It ends its work when ctx ends;
	// nothing can make it.
	Call Call
	// Log takes panics and what is overdue; nil logs nothing.
	Log *slog.Logger
}

// A Runner calls a function for each request, in the request's goroutine. It
// satisfies server.Runner and is used by many goroutines at once.
type Runner struct {
	opt Options
}

// New returns a Runner. It starts nothing.
func New(o Options) *Runner {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Runner{opt: o}
}

// Run calls the function and returns what it returns. When ctx ends, the request's place
// to run is free at once, whether or not the function has returned; it is kept if the
// function is sure to return soon (protocol.Request.Ends). A function that has not
// returned a second later is overdue: it takes a place again until it does.
//
// A panic is a *protocol.Refusal with status 500. It is logged with its stack, but for
// that of http.ErrAbortHandler, by which a handler gives up on purpose.
func (r *Runner) Run(ctx context.Context, req *protocol.Request) (appStatus uint32, err error) {
	c := &call{runner: r, req: req}
	c.watchers.Add(1)
	stop := req.AfterCancel(ctx, c.ended)
	returned := false
	defer func() {
		if !stop() {
			c.returned()
		}
	}()
	defer func() {
		if !returned {
			appStatus, err = 500, c.broken(recover())
		}
	}()
	appStatus, err = r.opt.Call(ctx, req)
	returned = true
	return appStatus, err
}

// The reasons of a request whose function did not return.
var (
	errAborted = errors.New("function aborted its request")
	errGoexit  = errors.New("function ended its goroutine")
)

// maxPanicText is how many bytes of a panic's value are logged.
const maxPanicText = 4 << 10

// A call is one function at work.
type call struct {
	runner   *Runner
	req      *protocol.Request
	watchers sync.WaitGroup // ended and tellOverdue, while they may come or run

	mu      sync.Mutex // guards the fields below
	over    bool       // the function has returned
	since   time.Time  // the end of the context
	overdue bool
	timer   *time.Timer // calls tellOverdue
}

// broken logs that the function did not return, and why: a nil value is that of
// Goexit, which goes on whatever is returned here.
func (c *call) broken(value any) error {
	log := c.runner.opt.Log
	reason := errAborted
	switch value {
	case nil:
		log.Error("function ended its goroutine", append(c.fields(), "stack", string(debug.Stack()))...)
		reason = errGoexit
	case http.ErrAbortHandler:
	default:
		stack := debug.Stack()
		text := Text(value)
		if len(text) > maxPanicText {
			text = text[:maxPanicText] + "…"
		}
		log.Error("function panicked", append(c.fields(), "panic", text, "stack", string(stack))...)
		reason = errors.New("function panicked: " + text)
	}
	return &protocol.Refusal{HTTPStatus: 500, AppStatus: 500, Reason: reason}
}

// ended is called when the context ends before the function has returned.
func (c *call) ended() {
	defer c.watchers.Done()
	if c.req.Ends != nil && c.req.Ends.Load() {
		return
	}
	if c.req.Exited != nil {
		c.req.Exited()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.since = time.Now()
	c.watchers.Add(1)
	c.timer = time.AfterFunc(overdueAfter, c.tellOverdue)
}

// tellOverdue tells of a function that has not returned in time.
func (c *call) tellOverdue() {
	defer c.watchers.Done()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.overdue = true
	c.count(true)
	c.runner.opt.Log.Warn("function does not return though its request has ended", c.fields()...)
}

// returned is called when the function has returned and the context has ended.
func (c *call) returned() {
	c.mu.Lock()
	c.over = true
	if c.timer != nil && c.timer.Stop() {
		c.watchers.Done()
	}
	if c.overdue {
		c.count(false)
		c.runner.opt.Log.Info("function that was overdue has returned",
			append(c.fields(), "late", time.Since(c.since))...)
	}
	c.mu.Unlock()
	c.watchers.Wait()
}

// count has an overdue function count against those that may run.
func (c *call) count(overdue bool) {
	if c.req.Overdue != nil {
		c.req.Overdue(overdue)
	}
}

// fields tell which call it is.
func (c *call) fields() []any {
	script := c.req.Params.Get("SCRIPT_FILENAME")
	if script == "" {
		script = c.req.Params.Get("SCRIPT_NAME")
	}
	return []any{
		"request", c.req.Serial, "script", script, "uri", c.req.Params.Get("REQUEST_URI"),
	}
}
