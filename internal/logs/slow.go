package logs

import (
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// slowFiles are where slow requests are logged: the slow logs of pools that have
// one of their own.
type slowFiles struct {
	lost atomic.Int64 // records

	mu    sync.Mutex // guards the field below
	files map[string]*file
}

// An openedFile is a log that has been opened, and what it is called.
type openedFile struct {
	output string
	file   *os.File
}

// openSlow opens outputs, which are named by pool.
func openSlow(outputs map[string]string) (map[string]openedFile, error) {
	files := make(map[string]openedFile)
	for pool, output := range outputs {
		f, err := open(output)
		if err != nil {
			closeSlow(files)
			return nil, err
		}
		files[pool] = openedFile{output, f}
	}
	return files, nil
}

func closeSlow(files map[string]openedFile) {
	for _, f := range files {
		closeFile(f.file)
	}
}

// setSlow makes files the ones in use. A pool's log stays the same file as long as
// it has one, so that a record which is on its way gets there.
func (l *Logs) setSlow(files map[string]openedFile) {
	l.slow.mu.Lock()
	old := l.slow.files
	l.slow.files = make(map[string]*file)
	for pool := range files {
		if l.slow.files[pool] = old[pool]; old[pool] == nil {
			l.slow.files[pool] = &file{stuck: l.stuck, recovered: l.recovered, lost: &l.slow.lost}
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

// each calls do with the reopen of each of them.
func (l *slowFiles) each(do func(reopen func() (string, error))) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		do(f.reopen)
	}
}

// Slow is what the slow requests of a pool are logged with now: one JSON record
// each in a file of its own, or in the daemon's log.
func (l *Logs) Slow(pool string) *slog.Logger {
	l.slow.mu.Lock()
	f := l.slow.files[pool]
	l.slow.mu.Unlock()
	log := l.Logger
	if f != nil {
		log = newLogger(zapcore.NewCore(zapcore.NewJSONEncoder(encoderConfig()), f, zapcore.DebugLevel))
	}
	return log.With("pool", pool)
}
