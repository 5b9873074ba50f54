package main

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

// open makes output the place; "" is none. On error the old place stays.
func (l *logFile) open(output string) error {
	file, err := openLog(output)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.file
	l.output, l.file = output, file
	l.mu.Unlock()
	return closeLog(old)
}

func openLog(output string) (*os.File, error) {
	switch output {
	case "":
		return nil, nil
	case "stderr":
		return os.Stderr, nil
	case "stdout":
		return os.Stdout, nil
	}
	f, err := os.OpenFile(output, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

func closeLog(f *os.File) error {
	if f == nil || f == os.Stderr || f == os.Stdout {
		return nil
	}
	return f.Close()
}

// reopen opens the file anew, after a rotation has moved the old one away.
func (l *logFile) reopen() error {
	l.mu.Lock()
	output := l.output
	l.mu.Unlock()
	return l.open(output)
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
}

func newLogs(cfg *config.Config) (*logs, error) {
	l := &logs{level: zap.NewAtomicLevel()}
	if err := l.apply(cfg); err != nil {
		return nil, err
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.ISO8601TimeEncoder
	encoding.EncodeDuration = zapcore.StringDurationEncoder
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

// apply takes over what a configuration says of logs. It is the one step of a
// reload that is tried before the others and stays when they fail: a file that
// could be opened is no loss.
func (l *logs) apply(cfg *config.Config) error {
	level, err := zapcore.ParseLevel(cfg.Log.Level)
	if err != nil {
		return err
	}
	if err := errors.Join(l.output.open(cfg.Log.Output), l.access.open(cfg.AccessLog.Output)); err != nil {
		return err
	}
	l.level.SetLevel(level)
	return nil
}

// reopen opens the files of both logs anew.
func (l *logs) reopen() error {
	return errors.Join(l.output.reopen(), l.access.reopen())
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
	l.accessLine.Info("",
		zap.String("pool", pool), zap.Uint64("request", r.Serial), zap.String("remote", r.Remote),
		zap.String("client", r.Params.Get("REMOTE_ADDR")),
		zap.String("method", r.Params.Get("REQUEST_METHOD")), zap.String("uri", r.Params.Get("REQUEST_URI")),
		zap.String("script", r.Params.Get("SCRIPT_FILENAME")), zap.Int("pid", r.PID),
		zap.String("outcome", string(r.Outcome)), zap.Int("status", r.HTTPStatus), zap.Uint32("app_status", r.End.AppStatus),
		zap.Duration("queue", r.Queue), zap.Duration("run", r.Run),
		zap.Int64("received", r.Received), zap.Int64("sent", r.Sent), zap.Error(r.Reason),
	)
}
