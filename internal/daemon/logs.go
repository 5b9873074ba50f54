package daemon

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/server"
)

// A logFile is where a log goes: a file, which can be opened anew, or one of the
// standard streams. With no output it drops what is written.
type logFile struct {
	mu     sync.Mutex // guards the fields below
	output string
	file   *os.File
}

// set makes file, which openLog has opened for output, the place.
func (l *logFile) set(output string, file *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	closeLog(l.file)
	l.output, l.file = output, file
}

// openLog opens where a log goes; "" is nowhere.
func openLog(output string) (*os.File, error) {
	switch output {
	case "":
		return nil, nil
	case "stderr":
		return os.Stderr, nil
	case "stdout":
		return os.Stdout, nil
	}
	// Not blocking: a FIFO that nobody reads is an error, not a wait.
	f, err := os.OpenFile(output, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

func closeLog(f *os.File) {
	if f != nil && f != os.Stderr && f != os.Stdout {
		f.Close()
	}
}

// reopen opens the file anew, after a rotation has moved the old one away.
func (l *logFile) reopen() error {
	l.mu.Lock()
	output := l.output
	l.mu.Unlock()
	file, err := openLog(output)
	if err != nil {
		return err
	}
	l.set(output, file)
	return nil
}

// Write appends p. It satisfies zapcore.WriteSyncer with Sync.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return len(p), nil
	}
	return l.file.Write(p)
}

// Sync does nothing: each line is written at once.
func (l *logFile) Sync() error { return nil }

func (l *logFile) isOn() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file != nil
}

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
	l.Logger = zap.New(zapcore.NewCore(encoder, &l.output, l.level))
	l.accessLine = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey: "ts", EncodeTime: zapcore.RFC3339NanoTimeEncoder, EncodeDuration: zapcore.SecondsDurationEncoder,
	}), &l.access, zapcore.InfoLevel))
	return l, nil
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
		l.slow.set(slow)
		l.output.set(cfg.Log.Output, output)
		l.access.set(cfg.AccessLog.Output, access)
		l.level.SetLevel(level)
	}
	undo = func() {
		closeLog(output)
		closeLog(access)
		slow.close()
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
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
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
