package logs

import (
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// A core writes each record in the format of the moment.
type core struct {
	json, console zapcore.Core // to the same place, at the same level
	isConsole     *atomic.Bool
}

func newCore(to zapcore.WriteSyncer, level zapcore.LevelEnabler, isConsole *atomic.Bool) *core {
	forPeople := encoderConfig()
	forPeople.EncodeLevel = zapcore.CapitalLevelEncoder
	return &core{
		json:      zapcore.NewCore(zapcore.NewJSONEncoder(encoderConfig()), to, level),
		console:   zapcore.NewCore(zapcore.NewConsoleEncoder(forPeople), to, level),
		isConsole: isConsole,
	}
}

// Enabled tells whether a level is logged.
func (c *core) Enabled(l zapcore.Level) bool { return c.json.Enabled(l) }

// With adds fields to all that follows.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{c.json.With(fields), c.console.With(fields), c.isConsole}
}

// Check takes an entry that is to be logged.
func (c *core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write logs an entry.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if c.isConsole.Load() {
		return c.console.Write(e, fields)
	}
	return c.json.Write(e, fields)
}

// Sync does nothing: each line is written at once.
func (c *core) Sync() error { return nil }
