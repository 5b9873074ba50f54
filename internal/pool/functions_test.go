package pool

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/status"
)

// A pool that names no functions answers with none that tells of others.
func TestUnnamedFunctions(t *testing.T) {
	if got := NewFunctions(nil).unnamed(); !slices.Equal(got, []string{"fcgid.ping"}) {
		t.Errorf("without a program's: got %q", got)
	}
	added := new(fcgi.Registry)
	for _, name := range []string{"hello", "a"} {
		added.HandleFunc(name, func(context.Context, *fcgi.Request) (uint32, error) { return 0, nil })
	}
	f := NewFunctions(added)
	if got := f.unnamed(); !slices.Equal(got, []string{"a", "fcgid.ping", "hello"}) {
		t.Errorf("with a program's: got %q", got)
	}
	if got := f.Names(); !slices.Equal(got, []string{"a", "fcgid.echo", "fcgid.ping", "fcgid.status", "hello"}) {
		t.Errorf("all: got %q", got)
	}
}

// What is registered and not for a pool is told from what is not registered.
func TestUnlistedFunctions(t *testing.T) {
	added := new(fcgi.Registry)
	added.HandleFunc("hello", func(context.Context, *fcgi.Request) (uint32, error) { return 0, nil })
	h := NewFunctions(added).unlisted([]string{"fcgid.ping", "a"})
	for asked, want := range map[string]string{
		"/srv/hello":   `function "hello" is registered, but not one of function.names (fcgid.ping, a)`,
		"fcgid.status": `function "fcgid.status" is registered, but not one of function.names (fcgid.ping, a)`,
		"other":        `no function is registered by the name "other"`,
	} {
		req := &fcgi.Request{Params: fcgi.Params{{Name: "SCRIPT_FILENAME", Value: asked}}}
		status, err := h.ServeFCGI(t.Context(), req)
		var refusal *fcgi.StatusError
		if !errors.As(err, &refusal) || refusal.Status != 404 || status != 404 || refusal.Err.Error() != want {
			t.Errorf("%s: %d, %v", asked, status, err)
		}
	}
}

// The page as JSON is not taken for HTML, and holds nothing that acts on a terminal.
func TestStatusJSON(t *testing.T) {
	var page bytes.Buffer
	err := writeStatusJSON(&page, &status.Pool{Name: "p", Requests: []status.Request{{Method: "\x1b[2J\u202e", URI: "\x1b[2J"}}})
	if err != nil || !strings.Contains(page.String(), "nosniff") || strings.ContainsAny(page.String(), "\x1b") {
		t.Errorf("got %q, %v", &page, err)
	}
}
