package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

// linger is how long output is still taken once the script has exited: a
// grandchild may hold the pipe for ever.
const linger = 100 * time.Millisecond

// patience is how long a program may run before somebody waits for its exit and
// takes its STDERR. For one that is over by then, its STDOUT is all to wait for.
const patience = 10 * time.Millisecond

// A run is a program at work on a request.
type run struct {
	*spawn.Process
	runner *Runner
	req    *protocol.Request
	script string

	pumps        sync.WaitGroup // goroutines that move stdin and stderr, and wait for the exit
	inputErr     error          // of reading what is to be its stdin; written before pumps are done
	inputDropped atomic.Bool    // its stdin is not wanted any more
}

// attend moves the program's input and output until it has exited.
func (r *run) attend(ctx context.Context) (uint32, error) {
	stop := r.req.AfterCancel(ctx, func() { r.Terminate(r.runner.opt.KillGrace) })
	defer stop()
	if r.Stdin != nil {
		r.pumps.Go(r.feed)
	}
	watch := sync.OnceFunc(r.watch)
	later := time.AfterFunc(patience, watch)
	outErr := r.CopyStdout(r.req.Stdout)
	if outErr != nil {
		outErr = fmt.Errorf("deliver stdout: %w", outErr)
		r.Terminate(r.runner.opt.KillGrace)
	}
	if later.Stop() && r.IsOver() {
		r.exited()
	} else {
		watch()
		flush(r.req.Stdout) // the end may be long in coming
	}
	r.pumps.Wait()
	e, waitErr := r.Wait()
	if r.runner.opt.Hooks.Exited != nil {
		r.runner.opt.Hooks.Exited(exitReason(e), &e.Usage)
	}
	return e.Code(), errors.Join(outErr, r.inputErr, waitErr)
}

// flush sends what a ReadFrom took for the last of the answer.
func flush(stdout io.Writer) {
	if _, ok := stdout.(protocol.LastWriter); ok {
		stdout.Write(nil) // after an error there is nothing to be done
	}
}

// watch starts who takes the program's STDERR and who waits for its exit.
func (r *run) watch() {
	r.Watch()
	r.pumps.Go(func() {
		errs := lines{run: r}
		r.CopyStderr(&errs)
		errs.cutter.Flush(errs.log)
	})
	r.pumps.Go(func() {
		r.AwaitExit()
		r.exited()
	})
}

// exited is called when the program has exited. Output is taken for a short while
// longer, unless it was asked to end: then its group has its grace.
func (r *run) exited() {
	if r.req.Exited != nil {
		r.req.Exited()
	}
	r.dropInput()
	r.Linger(linger)
}

// feed writes the request's STDIN to the program's. That the program reads none of
// it, or not all, is no error; but if it breaks, the program must not take a part
// for the whole, so it is terminated before its stdin ends.
func (r *run) feed() {
	defer r.Stdin.Close()
	in := pipeWriter{file: r.Stdin}
	_, err := io.Copy(&in, r.req.Stdin)
	if r.dropInput() || err == nil || in.broken {
		return
	}
	r.inputErr = fmt.Errorf("read stdin: %w", err)
	r.Terminate(r.runner.opt.KillGrace)
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
var ExitReasons = []string{exitSuccess, exitFailure, exitSignal, exitTerminated}

const (
	exitSuccess    = "success"    // exit status 0
	exitFailure    = "failure"    // another one
	exitSignal     = "signal"     // killed by one that was not ours
	exitTerminated = "terminated" // asked to end, since its request has
)

// exitReason names why a program exited, for a metric.
func exitReason(e *spawn.Exit) string {
	switch {
	case e.Terminated:
		return exitTerminated
	case e.Status.Signaled():
		return exitSignal
	case e.Status.ExitStatus() != 0:
		return exitFailure
	}
	return exitSuccess
}
