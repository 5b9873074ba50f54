package logs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The format follows a changed configuration, also for loggers that have been
// handed out.
func TestFormatChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	options := Options{Level: "info", Format: "json", Output: file}
	l, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	named := l.With("pool", "php")
	const json, console = `"pool":"php"`, "{\"pool\": \"php\"}"
	for _, step := range []struct{ format, has, hasNot string }{
		{"json", json, console},
		{"console", console, json},
		{"json", json, console},
		{"auto", json, console}, // a file is no terminal
	} {
		options.Format = step.format
		commit, _, err := l.Prepare(options)
		if err != nil {
			t.Fatal(err)
		}
		commit()
		os.Truncate(file, 0)
		named.Info("said")
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), step.has) || strings.Contains(string(text), step.hasNot) {
			t.Errorf("%s: logged %q, %v", step.format, text, err)
		}
	}
	_, undo, err := l.Prepare(Options{Level: "info", Format: "console", Output: file})
	if err != nil {
		t.Fatal(err)
	}
	undo()
	os.Truncate(file, 0)
	named.Info("said")
	if text, _ := os.ReadFile(file); !strings.Contains(string(text), json) {
		t.Errorf("a change that was dropped: logged %q", text)
	}
}
