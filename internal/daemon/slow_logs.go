package daemon

import (
	"errors"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/fcgid/fcgid/internal/config"
)

// slowFiles are the slow logs of pools that have one of their own, by pool.
type slowFiles map[string]*logFile

// slowLogs are where slow requests are logged.
type slowLogs struct {
	mu    sync.Mutex // guards the field below
	files slowFiles
}

// openSlowLogs opens those that a configuration names.
func openSlowLogs(cfg *config.Config) (slowFiles, error) {
	files := make(slowFiles)
	for _, p := range cfg.Pools {
		if p.Slow.After == 0 || p.Slow.Log == "" {
			continue
		}
		file, err := openLog(p.Slow.Log)
		if err != nil {
			files.close()
			return nil, err
		}
		files[p.Name] = &logFile{output: p.Slow.Log, file: file}
	}
	return files, nil
}

func (f slowFiles) close() {
	for _, l := range f {
		l.set("", nil)
	}
}

// set makes files the ones in use, and closes those that were.
func (l *slowLogs) set(files slowFiles) {
	l.mu.Lock()
	old := l.files
	l.files = files
	l.mu.Unlock()
	old.close()
}

func (l *slowLogs) reopen() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		err = errors.Join(err, f.reopen())
	}
	return err
}

// slowLogger is what the slow requests of a pool are logged with: one JSON record
// each in a file of its own, or in the daemon's log.
func (l *logs) slowLogger(pool string) *zap.Logger {
	l.slow.mu.Lock()
	file := l.slow.files[pool]
	l.slow.mu.Unlock()
	log := l.Logger
	if file != nil {
		log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoderConfig()), file, zapcore.DebugLevel))
	}
	return log.With(zap.String("pool", pool))
}
