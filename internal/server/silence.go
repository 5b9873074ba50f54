package server

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// errSilence is the cause of the end of a program that said nothing for longer than
// Settings.Silence. It is an ErrTimeout.
var errSilence = error(silenceError{})

type silenceError struct{}

// Error names the key.
func (silenceError) Error() string {
	return "program said nothing for longer than silence, while its client waited"
}

// Is reports whether target is what all such errors are.
func (silenceError) Is(target error) bool { return target == protocol.ErrTimeout }

// A silence ends a request whose program says nothing while its client waits: it has
// sent all of STDIN, and has read all that there was. What counts is what the program
// writes to STDOUT, and to STDERR where that goes to the client. Of nil, speaks, spoke and note do nothing.
type silence struct {
	limit    time.Duration // immutable
	speaking atomic.Int32  // writes that have not returned
	since    atomic.Int64  // when something was said last, as time since the request began

	mu    sync.Mutex  // guards the fields below
	timer *time.Timer // nil before start
	over  bool
}

// watchSilence is called when the request begins to run.
func (r *request) watchSilence() {
	s := r.silence
	if s == nil {
		return
	}
	s.note(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = time.AfterFunc(s.limit, r.checkSilence)
}

// checkSilence ends the request if its program has been silent for long enough. Else it sets
// the timer to look again.
func (r *request) checkSilence() {
	s := r.silence
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || r.stateNow() != stateRun {
		return
	}
	if s.speaking.Load() > 0 || !r.stdinOver.has.Load() || !r.answer.backlog.isEmpty() || r.conn.out.queued() > 0 {
		s.note(r) // the client does not wait
	}
	left := s.limit - (time.Since(r.begun) - time.Duration(s.since.Load()))
	if left > 0 {
		s.timer.Reset(left)
		return
	}
	r.conn.table.end(r, errSilence)
}

// stop is called when nothing is waited for any more.
func (s *silence) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	if s.timer != nil {
		s.timer.Stop()
	}
}

func (s *silence) note(r *request) {
	if s != nil {
		s.since.Store(int64(time.Since(r.begun)))
	}
}

// speaks is called when the program has written something that is about to be passed
// on, and spoke when it was.
func (s *silence) speaks() {
	if s != nil {
		s.speaking.Add(1)
	}
}

func (s *silence) spoke(r *request) {
	if s != nil {
		s.note(r)
		s.speaking.Add(-1)
	}
}
