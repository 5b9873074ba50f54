package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/later"
	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

const (
	// watchAfter is how long a program may run before somebody waits for its exit and
	// takes its STDERR. For one that is over by then, its STDOUT is all to wait for.
	watchAfter = 10 * time.Millisecond
	// moment is how long after the end of its STDOUT a program may take to exit,
	// before it has answered without an exit status, and how long what it has left
	// behind may take to end STDERR.
	moment = 100 * time.Millisecond
	// longestLook is how long may pass, once a program has exited, before somebody
	// looks whether its answer is complete.
	longestLook = 100 * time.Millisecond
)

// A run is a program at work on a request.
type run struct {
	*spawn.Process
	runner *Runner
	req    *protocol.Request
	script string

	pumps        sync.WaitGroup // goroutines that move stdin and stderr, and wait for the exit
	inputErr     error          // of reading what is to be its stdin; written before pumps are done
	input        nbio.LargePipe // what its stdin was; likewise
	hint         string         // what in its sandbox may be why it has complained; likewise
	delivered    int64          // bytes of STDOUT
	inputDropped atomic.Bool    // its stdin is not wanted any more
	gone         chan struct{}  // closed when it has exited, if watch was called
	watched      sync.Once
	unwatched    later.Place[*run] // in the Runner's
}

// attend moves the program's input and output until both its exit and the end of
// its answer.
func (r *run) attend(ctx context.Context) (uint32, error) {
	stop := r.req.AfterCancel(ctx, r.terminate)
	defer stop()
	if r.Stdin != nil {
		r.pumps.Go(r.feed)
	}
	r.runner.unwatched.Add(&r.unwatched, r, time.Now())
	outErr := r.deliver(ctx)
	if outErr != nil && (ctx.Err() != nil || !errors.Is(outErr, protocol.ErrClientLeft)) {
		r.terminate() // else its next write fails, which may be all that is to be done
	}
	e, waitErr := r.end(ctx, outErr)
	r.input.Forget() // it may have left in it what nobody read
	if r.req.Usage != nil {
		*r.req.Usage = usageOf(&e.Usage)
	}
	if r.runner.opt.Hooks.Exited != nil {
		r.runner.opt.Hooks.Exited(exitReason(e), &e.Usage)
	}
	return e.Code(), cmp.Or(errors.Join(r.tellLimits(e), outErr, r.inputErr, waitErr), r.hintError())
}

// end returns when nothing of the program is left for us, with how it has exited.
func (r *run) end(ctx context.Context, outErr error) (*spawn.Exit, error) {
	if r.runner.unwatched.Remove(&r.unwatched) {
		if e, isOver, err := r.WaitNow(); isOver {
			r.Stdout.Close()
			r.exited()
			r.expireInput()
			r.pumps.Wait()
			return e, err
		}
	}
	r.watch()
	r.Stdout.Close() // of which nobody takes any more
	r.awaitGone(ctx, outErr)
	r.pumps.Wait()
	return r.Wait()
}

// hintError is that of a program that has complained of what its sandbox may have
// refused, and has no answer.
func (r *run) hintError() error {
	if r.delivered > 0 || r.hint == "" {
		return nil
	}
	return fmt.Errorf("%w: %s", cgi.ErrNoHeader, r.hint)
}

// tellLimits tells which limit of its cgroup the program has met: by an error if that
// was its end.
func (r *run) tellLimits(e *spawn.Exit) error {
	if err := e.OutOfMemoryError(); err != nil && !e.Terminated {
		return err
	}
	if e.OutOfMemory != "" {
		r.tellLimit(e.OutOfMemory)
	}
	if e.Full {
		r.tellLimit("sandbox.pids")
	}
	return nil
}

func (r *run) tellLimit(key string) {
	r.runner.opt.Log.Info("script was refused memory or processes by a limit", "key", key,
		"request", r.req.Serial, "script", r.script, "pid", r.PID)
}

// usageOf is what a program and the children that it has waited for have used.
func usageOf(u *syscall.Rusage) protocol.Usage {
	user, system := time.Duration(u.Utime.Nano()), time.Duration(u.Stime.Nano())
	return protocol.Usage{CPU: user + system, User: user, System: system, MaxRSS: int64(u.Maxrss) << 10}
}

// terminate ends the program, if it has not exited, and the waiting for output.
func (r *run) terminate() { r.Terminate(r.runner.opt.KillGrace) }

// deliver passes on STDOUT until it has ended, or nobody waits for more of it: once
// the program has exited, somebody else may hold it open. That is read on for as
// long as something comes, or is on its way to a client that is slow.
func (r *run) deliver(ctx context.Context) error {
	look := min(longestLook, r.runner.opt.Linger/10+time.Millisecond)
	for quiet := -look; ; quiet += look { // the first time it has not waited for that long
		n, err := r.Stdout.Copy(r.req.Stdout)
		r.delivered += n
		switch err {
		case nil, spawn.ErrExpired:
			return nil
		case spawn.ErrQuiet:
		default:
			return fmt.Errorf("deliver stdout: %w", err)
		}
		if n > 0 {
			quiet = -look
		}
		whole, _ := r.req.Stdout.(protocol.WholeWriter)
		switch {
		case ctx.Err() != nil, whole != nil && whole.IsWhole():
			return nil
		case quiet >= r.runner.opt.Linger:
			r.runner.opt.Log.Warn("answer is cut: the script has exited, and what it left behind holds its output open",
				"request", r.req.Serial, "script", r.script, "pid", r.PID, "linger", r.runner.opt.Linger)
			return nil
		}
		r.Stdout.WaitFor(look)
	}
}

// timers are stopped.
var timers = sync.Pool{New: func() any { t := time.NewTimer(time.Hour); t.Stop(); return t }}

// awaitGone waits for the exit of a program whose answer has ended. One that works on has
// answered.
func (r *run) awaitGone(ctx context.Context, outErr error) {
	flush(r.req.Stdout) // the end may be long in coming
	timer := timers.Get().(*time.Timer)
	defer timers.Put(timer)
	defer timer.Stop()
	timer.Reset(moment)
	select {
	case <-r.gone:
	case <-timer.C:
		if r.req.Answered != nil && outErr == nil && ctx.Err() == nil && !r.HasExited() {
			r.req.Answered(0)
		}
		<-r.gone
		if r.IsTerminated() && ctx.Err() != nil && outErr == nil {
			r.runner.opt.Log.Warn("script was ended after its answer", "request", r.req.Serial,
				"script", r.script, "pid", r.PID, "reason", context.Cause(ctx))
		}
	}
	if !r.IsTerminated() {
		r.Stderr.Expire(moment)
	}
}

// flush sends what a ReadFrom took for the last of the answer.
func flush(stdout io.Writer) {
	if _, ok := stdout.(protocol.LastWriter); ok {
		stdout.Write(nil) // after an error there is nothing to be done
	}
}

// watch has somebody take the program's STDERR and wait for its exit. It may be called again.
func (r *run) watch() { r.watched.Do(r.startWatching) }

func (r *run) startWatching() {
	r.Watch()
	r.gone = make(chan struct{})
	r.pumps.Go(func() {
		defer r.Stderr.Close()
		errs := lines{run: r}
		r.Stderr.Copy(&errs)
		errs.cutter.Flush(errs.log)
	})
	r.pumps.Go(func() {
		r.AwaitExit()
		r.exited()
		r.expireInput()
		if !r.IsTerminated() { // else its process group has its grace
			r.Stdout.WaitFor(0)
		}
		close(r.gone)
	})
}

// exited is called when the program has exited.
func (r *run) exited() {
	if r.req.Exited != nil {
		r.req.Exited()
	}
	r.dropInput()
}

// expireInput ends the writing of STDIN soon, whoever may still read it.
func (r *run) expireInput() {
	if r.Stdin != nil {
		r.Stdin.SetWriteDeadline(time.Now().Add(moment))
	}
}

// feed writes the request's STDIN to the program's. That the program reads none of
// it, or not all, is no error; but if it breaks, the program must not take a part
// for the whole, so it is terminated before its stdin ends.
func (r *run) feed() {
	defer r.closeInput()
	in := pipeWriter{file: r.Stdin}
	_, err := io.Copy(&in, r.req.Stdin)
	if r.dropInput() || err == nil || in.broken {
		return
	}
	r.inputErr = fmt.Errorf("read stdin: %w", err)
	r.terminate()
}

// closeInput closes the program's stdin. If that was made larger, it is so until the
// program has gone.
func (r *run) closeInput() {
	if rc, err := r.Stdin.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) { r.input = nbio.Large(fd) })
	}
	r.Stdin.Close()
}

// dropInput lets go of what was to be the program's stdin. It reports whether
// that had been done.
func (r *run) dropInput() bool {
	before := r.inputDropped.Swap(true)
	if input, ok := r.req.Stdin.(io.Closer); ok && !before {
		input.Close()
	}
	return before
}

// A pipeWriter remembers that the error of a copy was its own.
type pipeWriter struct {
	file   *os.File
	broken bool
}

// Write writes to the pipe.
func (w *pipeWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	w.broken = err != nil
	return n, err
}

// Pipe is the pipe, for a Stdin that can write to its descriptor.
func (w *pipeWriter) Pipe() (syscall.RawConn, error) { return w.file.SyscallConn() }

// ExitReasons are all that Hooks.Exited is called with.
var ExitReasons = []string{exitSuccess, exitFailure, exitSignal, exitTerminated, exitOOM}

const (
	exitSuccess    = "success"    // exit status 0
	exitFailure    = "failure"    // another one
	exitSignal     = "signal"     // killed by one that was not ours
	exitTerminated = "terminated" // asked to end, since its request has
	exitOOM        = "oom"        // killed by the kernel, for want of memory
)

// exitReason names why a program exited, for a metric.
func exitReason(e *spawn.Exit) string {
	switch {
	case e.Terminated:
		return exitTerminated
	case e.OutOfMemoryError() != nil:
		return exitOOM
	case e.Status.Signaled():
		return exitSignal
	case e.Status.ExitStatus() != 0:
		return exitFailure
	}
	return exitSuccess
}
