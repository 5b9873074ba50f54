package daemon

import (
	"errors"
	"os"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fcgid/fcgid/internal/config"
)

// slowLogs are where slow requests are logged: the slow logs of pools that have
// one of their own.
type slowLogs struct {
	mu    sync.Mutex // guards the field below
	files map[string]*logFile
}

// A slowFile is a slow log that has been opened, and what it is called.
type slowFile struct {
	output string
	file   *os.File
}

// openSlowLogs opens those that a configuration names, by pool.
func openSlowLogs(cfg *config.Config) (map[string]slowFile, error) {
	files := make(map[string]slowFile)
	for _, p := range cfg.Pools {
		if p.Slow.After == 0 || p.Slow.Log == "" {
			continue
		}
		file, err := openLog(p.Slow.Log)
		if err != nil {
			closeSlowLogs(files)
			return nil, err
		}
		files[p.Name] = slowFile{p.Slow.Log, file}
	}
	return files, nil
}

func closeSlowLogs(files map[string]slowFile) {
	for _, f := range files {
		closeLog(f.file)
	}
}

// setSlowLogs makes files the ones in use. A pool's log stays the same logFile as
// long as it has one, so that a record which is on its way gets there.
func (l *logs) setSlowLogs(files map[string]slowFile) {
	l.slow.mu.Lock()
	old := l.slow.files
	l.slow.files = make(map[string]*logFile)
	for pool := range files {
		if l.slow.files[pool] = old[pool]; old[pool] == nil {
			l.slow.files[pool] = &logFile{stuck: l.stuck, recovered: l.recovered}
		}
	}
	next := l.slow.files
	l.slow.mu.Unlock()
	for pool, f := range files {
		next[pool].set(f.output, f.file)
	}
	for pool, f := range old {
		if next[pool] == nil {
			f.set("", nil)
		}
	}
}

func (l *slowLogs) reopen() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		err = errors.Join(err, f.reopen())
	}
	return err
}

// slowLogger is what the slow requests of a pool are logged with now: one JSON
// record each in a file of its own, or in the daemon's log.
func (l *logs) slowLogger(pool string) *zap.Logger {
	l.slow.mu.Lock()
	file := l.slow.files[pool]
	l.slow.mu.Unlock()
	log := l.Logger
	if file != nil {
		core := zapcore.NewCore(zapcore.NewJSONEncoder(encoderConfig()), file, zapcore.DebugLevel)
		log = log.WithOptions(zap.WrapCore(func(zapcore.Core) zapcore.Core { return core }))
	}
	return log.With(zap.String("pool", pool))
}
