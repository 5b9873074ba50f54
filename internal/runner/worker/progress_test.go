package worker_test

import (
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/worker"
)

// awaitProgress waits until the workers have come as far as they should.
func (p *pool) awaitProgress(what string, is func(worker.Progress) bool) (progress worker.Progress) {
	p.test.Helper()
	polltest.Until(p.test, what, func() bool {
		progress = p.Progress()
		return is(progress)
	})
	return progress
}

// Progress says that workers are replaced when all that serve are new, and that a program
// runs when a worker of it has shown so, and not before.
func TestProgress(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Scale, o.Max = worker.ScaleStatic, 2 })
	p.await("two idle", func(s snapshot) bool { return s.Idle == 2 })
	p.want("env HELPER", "worker")
	if progress := p.Progress(); !progress.IsDone() {
		t.Errorf("an answer proves nothing: %+v", progress)
	}
	if n := p.Update(p.opt); n != 0 || !p.Progress().IsDone() {
		t.Errorf("the same again replaces %d, %+v", n, p.Progress())
	}
	change := p.opt
	change.Release++
	if n := p.Update(change); n != 2 {
		t.Errorf("replaces %d workers, want 2", n)
	}
	if progress := p.Progress(); progress.IsDone() || progress.Ready || progress.Outdated == 0 {
		t.Errorf("at once: %+v", progress)
	}
	p.awaitProgress("the end", worker.Progress.IsDone)
	if s := p.Snapshot(); s.Exits["reload"]+uint64(s.Stopping) != 2 {
		t.Errorf("workers are %+v", s)
	}
}

// A program that cannot be started is told of, whether it is the first or another one.
func TestProgressOfBrokenProgram(t *testing.T) {
	broken := func(o *workerOptions) { o.Command, o.Scale, o.Max = []string{"/bin/false"}, worker.ScaleStatic, 1 }
	failing := func(progress worker.Progress) bool { return progress.Failing != "" }
	p := workers(t, broken)
	if progress := p.awaitProgress("failures of the first", failing); progress.IsDone() || !strings.Contains(progress.Failing, "exit status 1") {
		t.Errorf("%+v", progress)
	}

	p = workers(t, func(o *workerOptions) { o.Scale, o.Max = worker.ScaleStatic, 1 })
	p.await("one idle", func(s snapshot) bool { return s.Idle == 1 })
	good, bad := p.opt, p.opt
	broken(&bad)
	p.Update(bad)
	if progress := p.awaitProgress("failures of another", failing); progress.IsDone() || progress.Outdated != 1 {
		t.Errorf("%+v", progress)
	}
	p.Update(good)
	p.awaitProgress("the good one again", worker.Progress.IsDone)
}

// Where no worker is wanted there is nothing to wait for.
func TestProgressOnDemand(t *testing.T) {
	p := workers(t, func(o *workerOptions) { o.Scale, o.Max = worker.ScaleOnDemand, 2 })
	p.awaitProgress("nothing", worker.Progress.IsDone)
	change := p.opt
	change.Release++
	if n := p.Update(change); n != 0 || !p.Progress().IsDone() {
		t.Errorf("replaces %d, %+v", n, p.Progress())
	}
}
