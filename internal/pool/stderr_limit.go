package pool

import (
	"log/slog"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/metrics"
)

const (
	// stderrBurst is for how many seconds' worth a program that was silent may write at once.
	stderrBurst = 16
	// stderrTell is how often it is told how much was dropped.
	stderrTell = 10 * time.Second
)

// A stderrLimit bounds how much of what a pool's programs write to STDERR is logged, and
// tells how much was not. It is of the pool's name, whatever a reload changes.
type stderrLimit struct {
	log   *slog.Logger
	count func(bytes int) // of the metrics

	mu             sync.Mutex  // guards the fields below
	rate           int64       // bytes a second; 0 is no limit
	room           float64     // bytes that may be logged now; one entry may use more
	since          time.Time   // when room was that
	entries, bytes int         // dropped, and not told of
	timer          *time.Timer // tells of them; nil while there are none
}

// set changes the rate.
func (l *stderrLimit) set(rate int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate != rate {
		l.rate, l.room, l.since = rate, float64(rate)*stderrBurst, time.Now()
	}
}

// Admit reports whether an entry of n bytes is to be logged.
func (l *stderrLimit) Admit(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rate == 0 {
		return true
	}
	now := time.Now()
	rate := float64(l.rate)
	l.room = min(l.room+now.Sub(l.since).Seconds()*rate, rate*stderrBurst)
	l.since = now
	if l.room > 0 {
		l.room -= float64(n)
		return true
	}
	l.entries++
	l.bytes += n
	l.count(n)
	if l.timer == nil {
		l.timer = time.AfterFunc(stderrTell, l.tell)
	}
	return false
}

// tell tells of what was dropped, if anything was.
func (l *stderrLimit) tell() {
	l.mu.Lock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	entries, bytes, rate := l.entries, l.bytes, l.rate
	l.entries, l.bytes = 0, 0
	l.mu.Unlock()
	if entries > 0 {
		l.log.Warn("stderr was dropped: programs have written more than limits.stderr_rate", "entries", entries, "bytes", bytes, "bytes_per_second", rate)
	}
}

// stderrLimit is that of the pool of that name.
func (s *Set) stderrLimit(pool string) *stderrLimit {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.stderrLimits[pool]
	if l == nil {
		// Not before something is dropped: the pool's configuration may come to nothing.
		counts := sync.OnceValue(func() *metrics.Pool { return s.opt.Metrics.Pool(pool) })
		l = &stderrLimit{log: s.opt.Logs.With("pool", pool), count: func(n int) { counts().StderrDropped(n) }}
		s.stderrLimits[pool] = l
	}
	return l
}
