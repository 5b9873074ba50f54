// Package logs writes what fcgid has to say: its log, the access log and the slow
// logs of pools. Where they go and what they hold follows Options at any time, and
// one that takes nothing, such as a FIFO that nobody reads, holds nobody up. Others
// log with log/slog; that zap does the work is known here alone.
package logs

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"

	"github.com/fcgid/fcgid/internal/terminal"
)

// Options say what is logged, and where: stderr, stdout or a file each.
type Options struct {
	Level  string // debug, info, warn or error
	Format string // console, json or auto: console on a terminal, and the journal's own protocol for the journal
	Output string
	Access AccessOptions
	Slow   map[string]string // by pool; those of a pool that has none go to Output
}

// Logs are all logs of the daemon. They are used by many goroutines at once.
// All Options follow Prepare.
type Logs struct {
	*slog.Logger // the daemon's log

	level  zap.AtomicLevel
	format atomic.Int32 // a format
	output file
	lost   atomic.Int64 // records of output
	access *accessLog
	slow   slowFiles
}

// New returns Logs as o says.
func New(o Options) (*Logs, error) {
	l := &Logs{level: zap.NewAtomicLevel()}
	l.output.stuck, l.output.recovered, l.output.lost = l.stuck, l.recovered, &l.lost
	l.access = newAccessLog(func(level slog.Level, message string, fields ...any) {
		l.Log(context.Background(), level, message, fields...)
	})
	commit, _, err := l.Prepare(o)
	if err != nil {
		return nil, err
	}
	commit()
	l.Logger = newLogger(newCore(&l.output, l.level, &l.format))
	return l, nil
}

func newLogger(core zapcore.Core) *slog.Logger {
	return slog.New(zapslog.NewHandler(milliseconds{core}, zapslog.AddStacktraceAt(noLevel)))
}

// noLevel is above all levels.
const noLevel = slog.Level(1 << 10)

// stuck tells that a log drops records from now on.
func (l *Logs) stuck(output string) {
	l.Error("a log takes nothing: its records are dropped", "output", output)
}

// recovered tells how many it has dropped.
func (l *Logs) recovered(output string, drops int) {
	l.Warn("a log has dropped records", "output", output, "records", drops)
}

// Dropped is how many records each log has not taken since the start: the daemon's, the
// access log, and the slow logs of all pools.
func (l *Logs) Dropped() map[string]int64 {
	return map[string]int64{"daemon": l.lost.Load(), "access": l.access.lost.Load(), "slow": l.slow.lost.Load()}
}

// encoderConfig is how a record of the log is written.
func encoderConfig() zapcore.EncoderConfig {
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.ISO8601TimeEncoder
	return c
}

// Prepare opens what o says. The change is made by commit; undo drops it. One of
// the two is called next.
func (l *Logs) Prepare(o Options) (commit, undo func(), err error) {
	level, err := zapcore.ParseLevel(o.Level)
	if err != nil {
		return nil, nil, err
	}
	output, err := open(o.Output)
	if err != nil {
		return nil, nil, err
	}
	access, err := open(o.Access.Output)
	if err != nil {
		closeFile(output)
		return nil, nil, err
	}
	slow, err := openSlow(o.Slow)
	if err != nil {
		closeFile(output)
		closeFile(access)
		return nil, nil, err
	}
	name, output, format := chooseFormat(o, output)
	commit = func() {
		l.setSlow(slow)
		l.format.Store(int32(format))
		l.output.set(name, output)
		l.access.set(&o.Access, access)
		l.level.SetLevel(level)
	}
	undo = func() {
		closeFile(output)
		closeFile(access)
		closeSlow(slow)
	}
	return commit, undo, nil
}

// chooseFormat returns how records are written, and where that is what they are written
// to. That is output, unless there is a better way to the journal to which output leads.
func chooseFormat(o Options, output *os.File) (string, *os.File, format) {
	f := formatJSON
	if o.Format == "console" || o.Format == "auto" && terminal.Is(output) {
		f = formatConsole
	}
	if !isJournal(output) {
		return o.Output, output, f
	}
	if o.Format == "auto" {
		if j, err := openJournal(); err == nil {
			return journalOutput, j, formatJournal
		}
	}
	return o.Output, output, f.lineFormat()
}

// Reopen opens the files of all logs anew, after a rotation, and returns which those are.
// A log whose file cannot be opened goes on with the one that it has.
func (l *Logs) Reopen() (files []string, failed []error) {
	do := func(reopen func() (string, error)) {
		output, err := reopen()
		switch {
		case err != nil:
			failed = append(failed, err)
		case !slices.Contains([]string{"", "stderr", "stdout", journalOutput}, output):
			files = append(files, output)
		}
	}
	do(l.output.reopen)
	do(l.access.reopen)
	l.slow.each(do)
	slices.Sort(files) // pools may have one file together
	return slices.Compact(files), failed
}
