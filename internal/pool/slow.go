package pool

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/spawn"
)

const (
	// slowWaiting is how many slow requests may wait for the reporter; more are
	// counted as slow and not looked at.
	slowWaiting = 64
	// slowCommandTime is how long slow.command may take.
	slowCommandTime = 10 * time.Second
	// slowCommandOutput is how much of its output is kept.
	slowCommandOutput = 64 << 10
)

// A slowReporter looks at requests of a pool that run for too long, one after the
// other, and logs what it sees. The requests go on.
type slowReporter struct {
	pool  *pool
	trace func(ctx context.Context, pid int, out io.Writer) error // runs slow.command
	log   func(pool string) *slog.Logger                          // where they are logged now
	quit  context.Context
	stop  context.CancelFunc
	done  sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	waiting []server.RequestInfo
	works   bool // a goroutine looks at what waits, which ends when nothing does
	closed  bool
}

// newSlowReporter returns one that reports until close is called.
func (s *Set) newSlowReporter(p *pool) *slowReporter {
	r := &slowReporter{pool: p, log: s.opt.Logs.Slow}
	r.trace = func(ctx context.Context, pid int, out io.Writer) error {
		if s.opt.Launchers != nil {
			return s.opt.Launchers.Trace(ctx, p.name, pid, out)
		}
		command := p.slowCommand() // a reload may have removed it since
		if len(command) == 0 {
			return errors.New("slow.command is not configured any more")
		}
		return spawn.Run(ctx, s.opt.Spawner, launch.SlowCommand(command, pid), out)
	}
	r.quit, r.stop = context.WithCancel(context.Background())
	return r
}

// close ends it. A command that runs is killed, and the requests that wait are
// not looked at.
func (s *slowReporter) close() {
	s.mu.Lock()
	s.closed, s.waiting = true, nil
	s.mu.Unlock()
	s.stop()
	s.done.Wait()
}

// report hands a slow request over. It does not wait: false tells that it will
// not be looked at.
func (s *slowReporter) report(r server.RequestInfo) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.waiting) >= slowWaiting {
		return false
	}
	s.waiting = append(s.waiting, r)
	if !s.works {
		s.works = true
		s.done.Go(s.work)
	}
	return true
}

// work looks at what waits until nothing does.
func (s *slowReporter) work() {
	for {
		s.mu.Lock()
		if len(s.waiting) == 0 {
			s.works, s.waiting = false, nil
			s.mu.Unlock()
			return
		}
		r := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.mu.Unlock()
		s.write(r)
	}
}

// write logs what can be seen of the request now.
func (s *slowReporter) write(r server.RequestInfo) {
	req := describeRequest(r)
	fields := []any{
		"request", req.ID, "remote", req.Remote, "client", cmp.Or(req.Client, req.Remote), "method", req.Method, "uri", req.URI, "script", req.Script,
		"queue", r.Queue, "run", r.Run, "pid", req.PID,
	}
	fields = append(fields, s.look(r)...)
	// Not before: a reload may have changed where it goes.
	s.log(s.pool.name).Warn("slow request", fields...)
}

// look is what is seen of the request's program. Of one that has ended it is
// nothing: the program may be another's by now.
func (s *slowReporter) look(r server.RequestInfo) []any {
	var tree []processInfo
	if r.PID != 0 {
		tree = processTree(r.PID)
	}
	if !s.pool.isOpen(r.Serial) {
		return []any{"ended", true}
	}
	if r.PID == 0 {
		return nil
	}
	fields := []any{"processes", tree}
	if len(s.pool.slowCommand()) > 0 {
		output, err := s.run(r.PID)
		fields = append(fields, "output", output)
		if err != nil {
			fields = append(fields, "error", err)
		}
	}
	return fields
}

// run runs slow.command and returns what it prints.
func (s *slowReporter) run(pid int) (string, error) {
	ctx, cancel := context.WithTimeout(s.quit, slowCommandTime)
	defer cancel()
	output := &boundedBuffer{left: slowCommandOutput}
	err := s.trace(ctx, pid, output)
	return output.String(), err
}

// A boundedBuffer keeps the first bytes that are written to it.
type boundedBuffer struct {
	bytes.Buffer
	left int
}

// Write keeps what there is room for and says that it took all.
func (b *boundedBuffer) Write(p []byte) (int, error) {
	n := min(len(p), b.left)
	b.left -= n
	b.Buffer.Write(p[:n])
	return len(p), nil
}
