package spawn_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/spawn"
)

func TestRun(t *testing.T) {
	var out bytes.Buffer
	shell := func(script string) *spawn.Command {
		return &spawn.Command{Argv: []string{"/bin/sh", "-c", script}, Dir: "/"}
	}
	if err := spawn.Run(t.Context(), new(spawn.Local), shell("echo out; echo err >&2"), &out); err != nil || len(out.String()) != len("out\nerr\n") {
		t.Errorf("Run: %v, %q", err, out.String())
	}
	if err := spawn.Run(t.Context(), new(spawn.Local), shell("exit 3"), &out); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("Run: %v", err)
	}
	if err := spawn.Run(t.Context(), new(spawn.Local), &spawn.Command{Argv: []string{"/no/such"}, Dir: "/"}, &out); err == nil {
		t.Error("Run of nothing has no error")
	}
	l := new(spawn.Local)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := spawn.Run(ctx, l, shell("trap '' TERM; setsid sleep 1000 & sleep 1000; sleep 1000"), &out)
	if !errors.Is(err, context.DeadlineExceeded) || l.Len() != 0 {
		t.Errorf("Run: %v, %d left", err, l.Len())
	}
}
