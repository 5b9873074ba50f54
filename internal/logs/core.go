package logs

import (
	"slices"
	"strconv"
	"sync/atomic"

	"go.uber.org/zap/buffer"
	"go.uber.org/zap/zapcore"
)

// A format is how a record is written.
type format int32

const (
	formatJSON format = iota
	formatConsole
	formatJournal     // the journal's own protocol
	formatJSONLine    // JSON after a priority, for a journal that reads lines
	formatConsoleLine // likewise
)

// lineFormat is the same for a journal that reads lines.
func (f format) lineFormat() format {
	switch f {
	case formatJSON:
		return formatJSONLine
	case formatConsole:
		return formatConsoleLine
	}
	return f
}

// A core writes each record in the format of the moment.
type core struct {
	cores  map[format]zapcore.Core // to the same place, at the same level
	format *atomic.Int32           // a format
	fields []zapcore.Field         // of each record
}

func newCore(to zapcore.WriteSyncer, level zapcore.LevelEnabler, f *atomic.Int32) *core {
	forPeople := encoderConfig()
	forPeople.EncodeLevel = zapcore.CapitalLevelEncoder
	json, console := zapcore.NewJSONEncoder(encoderConfig()), zapcore.NewConsoleEncoder(forPeople)
	return &core{format: f, cores: map[format]zapcore.Core{
		formatJSON:        zapcore.NewCore(json, to, level),
		formatConsole:     zapcore.NewCore(console, to, level),
		formatJournal:     &journalCore{LevelEnabler: level, to: to},
		formatJSONLine:    zapcore.NewCore(prefixed{json.Clone()}, to, level),
		formatConsoleLine: zapcore.NewCore(prefixed{console.Clone()}, to, level),
	}}
}

// Enabled tells whether a level is logged.
func (c *core) Enabled(l zapcore.Level) bool { return c.cores[formatJSON].Enabled(l) }

// With adds fields to all that follows. They are encoded with each record: to have them
// encoded in each format, for each of hundreds of pools, takes kilobytes that nobody reads.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{c.cores, c.format, slices.Concat(c.fields, fields)}
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
	return c.cores[format(c.format.Load())].Write(e, slices.Concat(c.fields, fields))
}

// Sync does nothing: each line is written at once.
func (c *core) Sync() error { return nil }

// prefixed writes the priority of a line before it, as sd-daemon(3) has it; the journal
// takes it off.
type prefixed struct{ zapcore.Encoder }

var buffers = buffer.NewPool()

// Clone returns one that does not share fields.
func (p prefixed) Clone() zapcore.Encoder { return prefixed{p.Encoder.Clone()} }

// EncodeEntry is the line.
func (p prefixed) EncodeEntry(e zapcore.Entry, fields []zapcore.Field) (*buffer.Buffer, error) {
	line, err := p.Encoder.EncodeEntry(e, fields)
	if err != nil {
		return nil, err
	}
	defer line.Free()
	b := buffers.Get()
	b.AppendString("<" + strconv.Itoa(int(priorityOf(e.Level))) + ">")
	_, err = b.Write(line.Bytes())
	return b, err
}
