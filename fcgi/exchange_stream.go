package fcgi

import (
	"context"
	"fmt"
	"io"
)

// A source is the caller's Stdin or Data. Once the exchange is over, no Read begins.
type source struct {
	x    *exchange
	name string
	r    io.Reader
	fail context.CancelCauseFunc
}

func (s *source) Read(p []byte) (int, error) {
	if s.x.setReading(true) {
		return 0, errOver
	}
	n, err := s.r.Read(p)
	if s.x.setReading(false) {
		return 0, errOver
	}
	if err != nil && err != io.EOF {
		s.fail(fmt.Errorf("read %s of the request: %w", s.name, err))
	}
	return n, err
}

func (x *exchange) setReading(reading bool) (over bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reading = reading && !x.over
	return x.over
}

// A sink is the caller's Stdout or Stderr. It swallows what comes after the end
// of ctx: the answer has to be read to its END_REQUEST.
type sink struct {
	ctx  context.Context
	name string
	w    io.Writer
	fail context.CancelCauseFunc
}

func (s *sink) Write(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return len(p), nil
	}
	if _, err := s.w.Write(p); err != nil {
		s.fail(fmt.Errorf("write %s of the request: %w", s.name, err))
	}
	return len(p), nil
}
