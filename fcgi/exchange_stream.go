package fcgi

import (
	"context"
	"errors"
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
	n, err := s.read(p)
	if s.x.setReading(false) {
		return 0, errOver
	}
	if err != nil && err != io.EOF {
		s.fail(fmt.Errorf("read %s of the request: %w", s.name, err))
	}
	return n, err
}

// errCrashed tells that a Read of the caller's did not return.
var errCrashed = errors.New("its Read did not return")

// read keeps a panic for Do: this goroutine is none of the caller's, who could not
// recover it.
func (s *source) read(p []byte) (n int, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		n, err = 0, errCrashed
		if value := recover(); value != nil {
			s.x.keepPanic(value)
			return
		}
		s.fail(fmt.Errorf("read %s of the request: %w", s.name, err)) // Goexit goes on
	}()
	n, err = s.r.Read(p)
	returned = true
	return n, err
}

func (x *exchange) keepPanic(value any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.crash = value
}

// panicAgain is for Do: it panics as a Read of Stdin has.
func (x *exchange) panicAgain() {
	x.mu.Lock()
	value := x.crash
	x.mu.Unlock()
	if value != nil {
		panic(value)
	}
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
