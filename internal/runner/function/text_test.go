package function

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

type brokenError struct{ text *string }

func (e *brokenError) Error() string { return *e.text }

type brokenStringer []int

func (brokenStringer) String() string { panic(cyclic()) }

type name string

// cyclic is what no formatter comes to the end of.
func cyclic() map[string]any {
	m := map[string]any{}
	m["self"] = m
	return m
}

func TestText(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  string
	}{
		{"boom", "boom"},
		{name("boom"), "boom"},
		{errors.New("boom"), "boom"},
		{-71, "-71"},
		{uint8(71), "71"},
		{1.5, "1.5"},
		{2i, "(0+2i)"},
		{true, "true"},
		{nil, "nil"},
		{cyclic(), "a value of type map[string]interface {}"},
		{[]int{1}, "a value of type []int"},
		{struct{}{}, "a value of type struct {}"},
		{(*brokenError)(nil), "nil *function.brokenError"},
		{&brokenError{}, "*function.brokenError, which panics when it is asked for its text"},
		{brokenStringer{}, "function.brokenStringer, which panics when it is asked for its text"},
	} {
		if got := Text(tt.value); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// No value of a panic does more than fail its request, and none fills the log.
func TestPanicWithOddValue(t *testing.T) {
	for _, value := range []any{cyclic(), &brokenError{}, brokenStringer{}, strings.Repeat("x", 1<<20)} {
		w := newWorld(func(context.Context, *protocol.Request) (uint32, error) { return panicsHere(value) })
		status, err := w.Run(t.Context(), testRequest())
		wantRefusal(t, status, err)
		fields := w.wantLog(t, slog.LevelError, "panicked")
		if text, _ := fields["panic"].(string); text == "" || len(text) > maxPanicText+10 || len(err.Error()) > maxPanicText+100 {
			t.Errorf("logged %d bytes, error has %d", len(text), len(err.Error()))
		}
	}
}
