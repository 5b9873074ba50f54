package daemon

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/fcgid/fcgid/internal/server"
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

// A slowReporter looks at requests that run for too long, one after the other,
// and logs what it sees. The requests go on.
type slowReporter struct {
	logs    *logs
	reports chan slowReport
	quit    context.Context
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// A slowReport is a request to look at.
type slowReport struct {
	pool    string
	command []string
	request server.RequestInfo
}

// newSlowReporter returns one that reports until close is called.
func newSlowReporter(l *logs) *slowReporter {
	s := &slowReporter{logs: l, reports: make(chan slowReport, slowWaiting)}
	s.quit, s.stop = context.WithCancel(context.Background())
	s.done.Go(func() {
		for {
			select {
			case r := <-s.reports:
				r.write(s.quit, s.logs.slowLogger(r.pool))
			case <-s.quit.Done():
				return
			}
		}
	})
	return s
}

func (s *slowReporter) close() {
	s.stop()
	s.done.Wait()
}

// report hands a slow request over. It does not wait.
func (s *slowReporter) report(pool string, command []string, r server.RequestInfo) {
	select {
	case s.reports <- slowReport{pool, command, r}:
	default:
	}
}

// write logs what can be seen of the request now.
func (r slowReport) write(ctx context.Context, log *zap.Logger) {
	req := describeRequest(r.request)
	fields := []zap.Field{
		zap.Uint64("request", req.ID), zap.String("remote", req.Remote),
		zap.String("method", req.Method), zap.String("uri", req.URI), zap.String("script", req.Script),
		zap.Duration("queue", r.request.Queue), zap.Duration("run", r.request.Run), zap.Int("pid", req.PID),
	}
	if req.PID != 0 {
		fields = append(fields, zap.Any("processes", processTree(req.PID)))
	}
	if req.PID != 0 && len(r.command) > 0 {
		output, err := runSlowCommand(ctx, r.command, req.PID)
		fields = append(fields, zap.String("output", output), zap.Error(err))
	}
	log.Warn("slow request", fields...)
}

// runSlowCommand runs slow.command and returns what it prints.
func runSlowCommand(ctx context.Context, command []string, pid int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, slowCommandTime)
	defer cancel()
	args := make([]string, len(command))
	for i, arg := range command {
		args[i] = strings.ReplaceAll(arg, "{pid}", strconv.Itoa(pid))
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	output := &boundedBuffer{left: slowCommandOutput}
	cmd.Stdout, cmd.Stderr = output, output
	err := cmd.Run()
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
