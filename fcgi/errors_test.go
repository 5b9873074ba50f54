package fcgi_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
)

// What goes wrong since something was forgotten says what that is, or what to do.
func TestErrorsSayWhatToDo(t *testing.T) {
	address, stop := start(&fcgi.Server{Handler: fcgi.HTTP(http.NotFoundHandler())})
	defer stop()
	ctx := context.Background()
	over, err := fcgi.Dial(ctx, "unix:"+address.String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := over.Do(ctx, &fcgi.Request{Close: true}); err != nil {
		t.Fatal(err)
	}
	get, err := http.NewRequest("GET", "http://x/", nil)
	if err != nil {
		t.Fatal(err)
	}
	closed := func() error {
		_, err := over.Do(ctx, &fcgi.Request{})
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("Do after a Close is %v", err)
		}
		return err
	}
	program := func(p *fcgi.Program) error {
		_, err := p.ServeFCGI(ctx, &fcgi.Request{Params: fcgi.Params{{Name: "SCRIPT_FILENAME", Value: "/x"}}})
		return err
	}
	do := func(c *fcgi.Client) error { _, err := c.Do(ctx, &fcgi.Request{}); return err }
	trip := func(tr *fcgi.Transport) error { _, err := tr.RoundTrip(get); return err }
	values := func(names ...string) error {
		_, err := (&fcgi.Client{Address: "unix:" + address.String()}).Values(ctx, names...)
		return err
	}
	panicked := func(f func()) (err error) {
		defer func() { err = fmt.Errorf("%v", recover()) }()
		f()
		return nil
	}
	var functions fcgi.Registry
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"a connection whose request had Close": {closed(), "an earlier Request had Close set (a Client connects again)"},
		"a client without an address":          {do(&fcgi.Client{}), "neither Address nor Dial is set"},
		"an address without its kind":          {do(&fcgi.Client{Address: "/run/x"}), "did you mean unix:/run/x?"},
		"an address without its kind, Dial":    {func() error { _, err := fcgi.Dial(ctx, "localhost:9000"); return err }(), "did you mean tcp:localhost:9000?"},
		"nobody listens":                       {do(&fcgi.Client{Address: "unix:" + t.TempDir() + "/none"}), "no such file"},
		"a transport without a client":         {trip(&fcgi.Transport{}), "Client is not set: it says where the application listens"},
		"too many names":                       {values(strings.Repeat("x", 70_000)), "ask for fewer at once"},
		"a program that may be any":            {program(&fcgi.Program{}), "neither Roots nor Scripts is set: any file that a request names would run"},
		"a program with an empty root":         {program(&fcgi.Program{Roots: []string{""}}), "set the absolute path of a folder"},
		"a program with a bad extension":       {program(&fcgi.Program{Roots: []string{"/"}, Extensions: []string{"cgi"}}), `extension "cgi" does not begin with a dot`},
		"a program with a bad variable":        {program(&fcgi.Program{Roots: []string{"/"}, Env: []string{"A"}}), `Env has "A", which is not NAME=value`},
		"a program with a bad script":          {program(&fcgi.Program{Scripts: []string{"a"}}), `script "a" is no absolute path or pattern`},
		"a function without a name": {panicked(func() {
			functions.HandleFunc("", func(context.Context, *fcgi.Request) (uint32, error) { return 0, nil })
		}), "may not be empty"},
	} {
		if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, test.err, test.want)
		}
		if test.err != nil && strings.Contains(test.err.Error(), "->") {
			t.Errorf("%s: %v is for programmers of package net", name, test.err)
		}
	}
}
