package spawn

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// afterExit is how long the output of a program that has exited is still taken.
const afterExit = time.Second

// Run starts a program and returns when it has exited. Its STDOUT and STDERR go to
// out, of which one Write is called at a time. When ctx ends it is killed with all
// that it has started. The error is that of the start, or tells an exit status that is
// not 0.
func Run(ctx context.Context, s Spawner, cmd *Command, out io.Writer) error {
	p, err := s.Start(ctx, cmd)
	if err != nil {
		return err
	}
	return p.Attend(ctx, cmd.Argv[0], out)
}

// Attend is Run of a program that was started, and is nobody else's.
func (p *Process) Attend(ctx context.Context, name string, out io.Writer) error {
	if p.Stdin != nil {
		p.Stdin.Close()
	}
	p.Watch()
	stop := context.AfterFunc(ctx, func() { p.Terminate(0) })
	defer stop()
	both := &sharedWriter{to: out}
	var copies sync.WaitGroup
	for _, o := range []*Output{p.Stdout, p.Stderr} {
		copies.Go(func() {
			defer o.Close()
			o.Copy(both)
		})
	}
	p.AwaitExit()
	p.Stdout.Expire(afterExit)
	p.Stderr.Expire(afterExit)
	copies.Wait()
	e, err := p.Wait()
	switch {
	case err != nil:
		return err
	case e.Terminated:
		return fmt.Errorf("%s: %w", name, context.Cause(ctx))
	case e.Code() != 0:
		return fmt.Errorf("%s: exit status %d", name, e.Code())
	}
	return nil
}

// A sharedWriter is for two who write.
type sharedWriter struct {
	mu sync.Mutex // held while writing
	to io.Writer
}

// Write writes to it.
func (w *sharedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.to.Write(p)
}
