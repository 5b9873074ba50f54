package server

import (
	"sync"
	"time"
)

const (
	// samplePeriod and sampleSize bound how often one kind of result is logged: a
	// client that sends a few KB of refused requests must not fill a disk, nor a
	// program that always fails.
	samplePeriod = 10 * time.Second
	sampleSize   = 20
)

// A sampler counts results by kind. The zero value is ready for use.
type sampler struct {
	mu    sync.Mutex // guards the fields below
	kinds map[resultKind]*sample
}

// resultKind is what results have in common that are logged for one another.
type resultKind struct {
	outcome Outcome
	status  int
}

type sample struct {
	since   time.Time
	n       int // since then
	leftOut int // that nobody was told of
}

// admit reports whether a result is to be logged, and how many of its kind were not
// since the last that was.
func (s *sampler) admit(kind resultKind, now time.Time) (leftOut int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kinds == nil {
		s.kinds = make(map[resultKind]*sample)
	}
	k := s.kinds[kind]
	if k == nil {
		k = new(sample)
		s.kinds[kind] = k
	}
	if now.Sub(k.since) >= samplePeriod {
		k.since, k.n = now, 0
	}
	if k.n++; k.n > sampleSize {
		k.leftOut++
		return 0, false
	}
	leftOut, k.leftOut = k.leftOut, 0
	return leftOut, true
}

// rest returns how many results were left out that nobody was told of, and forgets
// them.
func (s *sampler) rest() map[resultKind]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	rest := make(map[resultKind]int)
	for kind, k := range s.kinds {
		if k.leftOut > 0 {
			rest[kind] = k.leftOut
			k.leftOut = 0
		}
	}
	return rest
}
