package logs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// samplePeriod and sampleSize bound what Sampled lets through.
	samplePeriod = time.Minute
	sampleSize   = 10
)

// Sampled lets through ten records of each message a minute: for what strangers
// can cause, which must not fill the log.
func Sampled(log *slog.Logger) *slog.Logger {
	return slog.New(&sampler{log.Handler(), &sampleCounts{by: make(map[string]int)}})
}

type sampler struct {
	slog.Handler
	counts *sampleCounts
}

// sampleCounts are how many records of each message there were since a moment.
type sampleCounts struct {
	mu    sync.Mutex // guards the fields below
	since time.Time
	by    map[string]int
}

// Handle drops a record that is one too many.
func (s *sampler) Handle(ctx context.Context, r slog.Record) error {
	if !s.counts.admit(r.Message, time.Now()) {
		return nil
	}
	return s.Handler.Handle(ctx, r)
}

// WithAttrs counts together with s.
func (s *sampler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &sampler{s.Handler.WithAttrs(attrs), s.counts}
}

// WithGroup counts together with s.
func (s *sampler) WithGroup(name string) slog.Handler {
	return &sampler{s.Handler.WithGroup(name), s.counts}
}

func (c *sampleCounts) admit(message string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.since) >= samplePeriod {
		c.since = now
		clear(c.by)
	}
	c.by[message]++
	return c.by[message] <= sampleSize
}
