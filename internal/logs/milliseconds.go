package logs

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// milliseconds writes each duration as the access log does, so that all logs can be
// searched and compared by number: a field "run" of 1.5 s is run_ms, 1500.
type milliseconds struct{ zapcore.Core }

// With adds fields to all that follows.
func (m milliseconds) With(fields []zapcore.Field) zapcore.Core {
	return milliseconds{m.Core.With(inMilliseconds(fields))}
}

// Check takes an entry that is to be logged.
func (m milliseconds) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if m.Enabled(e.Level) {
		return ce.AddCore(e, m)
	}
	return ce
}

// Write logs an entry.
func (m milliseconds) Write(e zapcore.Entry, fields []zapcore.Field) error {
	return m.Core.Write(e, inMilliseconds(fields))
}

// inMilliseconds changes fields, which are the caller's own. They are exact to a
// microsecond.
func inMilliseconds(fields []zapcore.Field) []zapcore.Field {
	for i, f := range fields {
		if f.Type == zapcore.DurationType {
			n := time.Duration(f.Integer).Microseconds()
			fields[i] = zap.Float64(f.Key+"_ms", float64(n)/1000)
		}
	}
	return fields
}
