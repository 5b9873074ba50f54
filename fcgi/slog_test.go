package fcgi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// What comes out of a slog.Handler has the fields as what they are.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logBuffer)
		v := serve(t, &fcgi.Server{Log: slog.New(slog.NewJSONHandler(log, nil)).With("app", "shop"),
			Handler: fcgi.HandlerFunc(func(context.Context, *fcgi.Request) (uint32, error) { return 0, errors.New("broke") })})
		w := v.dial()
		w.send(wiretest.Get(1, true, "SCRIPT_FILENAME", "/srv/x", "REQUEST_URI", "/x"))
		w.wantPage(1, 500, 500)
		w.send(wiretest.Begin(1, true), wiretest.Abort(1)) // at level Debug, so it is not there
		w.want(1, "", 0)
		synctest.Wait()
		lines := log.lines()
		if len(lines) != 1 {
			t.Fatalf("logged %q", lines)
		}
		var got map[string]any
		if err := json.Unmarshal([]byte(lines[0]), &got); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]any{
			"app": "shop", "level": "WARN", "msg": "request not served as asked", "outcome": "error", "request": 1.0,
			"script": "/srv/x", "uri": "/x", "status": 500.0, "error": "broke", "run": 0.0,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
	})
}

// Without a Log it is slog's default one.
func TestLogDefault(t *testing.T) {
	var buf bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	slog.SetDefault(slog.New(slog.NewTextHandler(&buf, nil)))
	synctest.Test(t, func(t *testing.T) {
		l := wiretest.NewPipeListener()
		ctx, stop := context.WithCancel(t.Context())
		end := make(chan error)
		s := &fcgi.Server{Handler: fcgi.HandlerFunc(func(context.Context, *fcgi.Request) (uint32, error) { panic("boom") })}
		go func() { end <- s.Serve(ctx, l) }()
		w := (&served{t: t, l: l}).dial()
		w.send(wiretest.Get(1, true))
		w.wantPage(1, 500, 500)
		stop()
		<-end
	})
	if !bytes.Contains(buf.Bytes(), []byte("boom")) {
		t.Errorf("logged %q", buf.String())
	}
}
