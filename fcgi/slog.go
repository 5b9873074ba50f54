package fcgi

import (
	"context"
	"log/slog"

	"go.uber.org/zap/zapcore"
)

// A slogCore is a slog.Handler as the zapcore.Core that the packages within write to.
type slogCore struct{ to slog.Handler }

// Enabled asks the slog.Handler.
func (c *slogCore) Enabled(l zapcore.Level) bool {
	return c.to.Enabled(context.Background(), slogLevel(l))
}

// With adds fields to all that follows.
func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{c.to.WithAttrs(attrs(fields))}
}

// Check takes an entry that is to be logged.
func (c *slogCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write logs an entry.
func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	r := slog.NewRecord(e.Time, slogLevel(e.Level), e.Message, 0)
	r.AddAttrs(attrs(fields)...)
	return c.to.Handle(context.Background(), r)
}

// Sync has nothing to do.
func (c *slogCore) Sync() error { return nil }

func slogLevel(l zapcore.Level) slog.Level {
	switch l {
	case zapcore.DebugLevel:
		return slog.LevelDebug
	case zapcore.InfoLevel:
		return slog.LevelInfo
	case zapcore.WarnLevel:
		return slog.LevelWarn
	}
	return slog.LevelError
}

func attrs(fields []zapcore.Field) []slog.Attr {
	all := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		if f.Type == zapcore.SkipType {
			continue
		}
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			all = append(all, slog.Any(f.Key, err))
			continue
		}
		values := zapcore.NewMapObjectEncoder()
		f.AddTo(values)
		all = append(all, slog.Any(f.Key, values.Fields[f.Key]))
	}
	return all
}
