package daemon

import (
	"errors"
	"log/slog"
	"math"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/server"
)

// logs are the daemon's log and the access log. Level and outputs follow a
// reload; the format stays that of the start.
type logs struct {
	*zap.Logger
	level      zap.AtomicLevel
	output     logFile
	access     logFile
	accessLine *zap.Logger
	slow       slowLogs
}

func newLogs(cfg *config.Config) (*logs, error) {
	l := &logs{level: zap.NewAtomicLevel()}
	for _, f := range []*logFile{&l.output, &l.access} {
		f.stuck, f.recovered = l.stuck, l.recovered
	}
	commit, _, err := l.prepare(cfg)
	if err != nil {
		return nil, err
	}
	commit()
	encoding := encoderConfig()
	encoder := zapcore.NewJSONEncoder(encoding)
	if cfg.Log.Format == "console" || cfg.Log.Format == "auto" && isTerminal(l.output.file) {
		encoding.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	complaints := zap.ErrorOutput(&logFile{output: "stderr", file: os.Stderr})
	l.Logger = zap.New(zapcore.NewCore(encoder, &l.output, l.level), complaints)
	l.accessLine = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey: "ts", EncodeTime: zapcore.RFC3339NanoTimeEncoder, EncodeDuration: zapcore.SecondsDurationEncoder,
	}), &l.access, zapcore.InfoLevel), complaints)
	return l, nil
}

// stuck tells that a log drops records from now on.
func (l *logs) stuck(output string) {
	l.Error("a log takes nothing: its records are dropped", zap.String("output", output))
}

// recovered tells how many it has dropped.
func (l *logs) recovered(output string, drops int) {
	l.Warn("a log has dropped records", zap.String("output", output), zap.Int("records", drops))
}

// ofPool is the log for what knows nothing of zap, with the name of a pool.
func (l *logs) ofPool(name string) *slog.Logger {
	handler := zapslog.NewHandler(l.Core(), zapslog.AddStacktraceAt(math.MaxInt)) // a stack is a field where it is of use
	return slog.New(handler).With("pool", name)
}

// encoderConfig is how a record of the log is written.
func encoderConfig() zapcore.EncoderConfig {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.ISO8601TimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	return c
}

// prepare opens what a configuration says of logs. The change is made by commit;
// undo drops it.
func (l *logs) prepare(cfg *config.Config) (commit, undo func(), err error) {
	level, err := zapcore.ParseLevel(cfg.Log.Level)
	if err != nil {
		return nil, nil, err
	}
	output, err := openLog(cfg.Log.Output)
	if err != nil {
		return nil, nil, err
	}
	access, err := openLog(cfg.AccessLog.Output)
	if err != nil {
		closeLog(output)
		return nil, nil, err
	}
	slow, err := openSlowLogs(cfg)
	if err != nil {
		closeLog(output)
		closeLog(access)
		return nil, nil, err
	}
	commit = func() {
		l.setSlowLogs(slow)
		l.output.set(cfg.Log.Output, output)
		l.access.set(cfg.AccessLog.Output, access)
		l.level.SetLevel(level)
	}
	undo = func() {
		closeLog(output)
		closeLog(access)
		closeSlowLogs(slow)
	}
	return commit, undo, nil
}

// reopen opens the files of both logs anew.
func (l *logs) reopen() error {
	return errors.Join(l.output.reopen(), l.access.reopen(), l.slow.reopen())
}

func isTerminal(f *os.File) bool {
	if f == nil {
		return false
	}
	conn, err := f.SyscallConn() // Fd would make a FIFO block
	if err != nil {
		return false
	}
	is := false
	err = conn.Control(func(fd uintptr) {
		_, err := unix.IoctlGetTermios(int(fd), unix.TCGETS)
		is = err == nil
	})
	return err == nil && is
}

// logAccess writes the line of a request.
func (l *logs) logAccess(pool string, r *server.Result) {
	if !l.access.isOn() {
		return
	}
	pid := zap.Skip()
	if r.PID != 0 {
		pid = zap.Int("pid", r.PID)
	}
	l.accessLine.Info("",
		zap.String("pool", pool), zap.Uint64("request", r.Serial), zap.String("remote", r.Remote),
		zap.String("client", r.Params.Get("REMOTE_ADDR")),
		zap.String("method", r.Params.Get("REQUEST_METHOD")), zap.String("uri", r.Params.Get("REQUEST_URI")),
		zap.String("script", r.Params.Get("SCRIPT_FILENAME")), pid,
		zap.String("outcome", string(r.Outcome)), zap.Int("status", r.HTTPStatus), zap.Uint32("app_status", r.End.AppStatus),
		zap.Duration("queue", r.Queue), zap.Duration("run", r.Run),
		zap.Int64("received", r.Received), zap.Int64("sent", r.Sent), zap.Error(r.Reason),
	)
}
