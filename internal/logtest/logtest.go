// Package logtest keeps what is logged, for tests.
package logtest

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
)

// An Entry is one record of a log.
type Entry struct {
	Level   slog.Level
	Message string
	Fields  map[string]any // with those of the logger; groups are not told apart
}

// Entries are all records so far. It may be used by many goroutines.
type Entries struct {
	mu  sync.Mutex // guards the field below
	all []Entry
}

// New returns a logger of all levels and what it logs.
func New() (*slog.Logger, *Entries) { return NewAt(slog.LevelDebug) }

// NewAt is New for one that logs nothing below a level.
func NewAt(level slog.Level) (*slog.Logger, *Entries) {
	e := new(Entries)
	return slog.New(&handler{to: e, level: level}), e
}

// All are the entries so far.
func (e *Entries) All() []Entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.all)
}

// Of are those with that message.
func (e *Entries) Of(message string) []Entry {
	return slices.DeleteFunc(e.All(), func(x Entry) bool { return x.Message != message })
}

// Containing are those whose messages contain text, as they are now.
func (e *Entries) Containing(text string) *Entries {
	return &Entries{all: slices.DeleteFunc(e.All(), func(x Entry) bool { return !strings.Contains(x.Message, text) })}
}

// Len is how many there are.
func (e *Entries) Len() int { return len(e.All()) }

// Take returns the entries so far and forgets them.
func (e *Entries) Take() []Entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.all
	e.all = nil
	return all
}

// A handler adds records to entries.
type handler struct {
	to     *Entries
	level  slog.Level
	fields map[string]any
}

// Enabled tells whether a level is logged.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

// Handle takes a record.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	x := Entry{Level: r.Level, Message: r.Message, Fields: maps.Clone(h.fields)}
	if x.Fields == nil {
		x.Fields = make(map[string]any)
	}
	r.Attrs(func(a slog.Attr) bool {
		x.Fields[a.Key] = a.Value.Resolve().Any()
		return true
	})
	h.to.mu.Lock()
	defer h.to.mu.Unlock()
	h.to.all = append(h.to.all, x)
	return nil
}

// WithAttrs adds fields to all that follows.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &handler{to: h.to, level: h.level, fields: maps.Clone(h.fields)}
	if next.fields == nil {
		next.fields = make(map[string]any)
	}
	for _, a := range attrs {
		next.fields[a.Key] = a.Value.Resolve().Any()
	}
	return next
}

// WithGroup leaves the names of fields as they are.
func (h *handler) WithGroup(string) slog.Handler { return h }
