package daemon

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/server"
)

// A pool that names no functions answers with none that tells of others.
func TestUnnamedFunctions(t *testing.T) {
	if got := newFunctions(nil).unnamed(); !slices.Equal(got, []string{"fcgid.ping"}) {
		t.Errorf("without a program's: got %q", got)
	}
	added := new(fcgi.Registry)
	for _, name := range []string{"hello", "a"} {
		added.Register(name, func(context.Context, *fcgi.Request) (uint32, error) { return 0, nil })
	}
	f := newFunctions(added)
	if got := f.unnamed(); !slices.Equal(got, []string{"a", "fcgid.ping", "hello"}) {
		t.Errorf("with a program's: got %q", got)
	}
	if got := f.names(); !slices.Equal(got, []string{"a", "fcgid.echo", "fcgid.ping", "fcgid.status", "hello"}) {
		t.Errorf("all: got %q", got)
	}
}

func TestPrintable(t *testing.T) {
	for given, want := range map[string]string{
		"":                    "",
		"a b=ü/日本?\"x\"":      "a b=ü/日本?\"x\"",
		"a\nb":                `"a\nb"`,
		"\x1b[2J":             `"\x1b[2J"`,
		"\u009b2J":            `"\u009b2J"`,
		"\u0085":              `"\u0085"`,
		"\x9b2J":              `"\x9b2J"`,
		"\u2028":              `"\u2028"`,
		"\u202etxt.exe":       `"\u202etxt.exe"`,
		"\u2066\u200b\ufeffx": `"\u2066\u200b\ufeffx"`,
		"\u00a0":              `"\u00a0"`,
		"a\xffb":              `"a\xffb"`,
	} {
		if got := printable(given); got != want {
			t.Errorf("%+q: got %s, want %s", given, got, want)
		}
	}
}

// What clients send cannot add a line to the page, nor anything that acts on a
// terminal. A request without a process has no pid.
func TestStatusTextIsOneLineAField(t *testing.T) {
	evil := "/x\nlisten queue:         4711\x1b[2J\u202e"
	status := poolStatus{Name: "p", Requests: []requestStatus{{Stage: "running", Method: evil, URI: evil, Script: evil}, {PID: 71}}}
	text := status.text(time.Now(), time.Now())
	if strings.Contains(text, "\nlisten queue:         4711") || strings.ContainsAny(text, "\x1b\u202e") {
		t.Errorf("a client wrote on the page: %q", text)
	}
	if strings.Count(text, "\npid:") != 1 || !strings.Contains(text, "\npid:                  71\n") {
		t.Errorf("got %q, want one pid", text)
	}
	var page bytes.Buffer
	if err := writeStatusJSON(&page, status); err != nil || !strings.Contains(page.String(), "nosniff") || strings.ContainsAny(page.String(), "\x1b") {
		t.Errorf("got %q, %v", &page, err)
	}
}

// The access log names a process only if there was one.
func TestAccessLogPID(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access")
	l, err := newLogs(&config.Config{Log: config.Log{Level: "info", Format: "json"}, AccessLog: config.AccessLog{Output: file}})
	if err != nil {
		t.Fatal(err)
	}
	for pid, want := range map[int]bool{0: false, 71: true} {
		os.Truncate(file, 0)
		l.logAccess("p", &server.Result{Params: &protocol.Params{}, PID: pid})
		text, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(text), `"pid"`) != want || !strings.Contains(string(text), `"pool":"p"`) {
			t.Errorf("pid %d: logged %s, %v", pid, text, err)
		}
	}
	l.access.set("", nil)
}
