package function

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/protocol"
)

// A world is a Runner and all that it tells.
type world struct {
	*Runner
	logs *logtest.Entries

	mu   sync.Mutex // guards the field below
	late []bool
}

// overdue is what Overdue of a request was called with.
func (w *world) overdue() []bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.late)
}

func newWorld(call func(ctx context.Context, req *protocol.Request) (uint32, error)) *world {
	log, logs := logtest.New()
	w := &world{logs: logs}
	w.Runner = New(Options{Call: call, Log: log})
	return w
}

// request is one that the world hears of when it is overdue.
func (w *world) request() *protocol.Request {
	req := testRequest()
	req.Overdue = func(is bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.late = append(w.late, is)
	}
	return req
}

func testRequest() *protocol.Request {
	req := &protocol.Request{Serial: 7, Stdout: io.Discard, Stderr: io.Discard}
	req.Params.Add("SCRIPT_FILENAME", "/srv/hello")
	req.Params.Add("REQUEST_URI", "/hello?a=b")
	return req
}

// wantLog checks the only entry of the log, and that it says which request it is about.
func (w *world) wantLog(t *testing.T, level slog.Level, message string) map[string]any {
	t.Helper()
	all := w.logs.Take()
	if len(all) != 1 || all[0].Level != level || !strings.Contains(all[0].Message, message) {
		t.Fatalf("logged %+v, want one %v %q", all, level, message)
	}
	fields := all[0].Fields
	if fields["request"] != uint64(7) || fields["script"] != "/srv/hello" || fields["uri"] != "/hello?a=b" {
		t.Errorf("logged %v", fields)
	}
	return fields
}

func TestRunReturnsWhatTheFunctionDoes(t *testing.T) {
	broke := errors.New("broke")
	w := newWorld(func(context.Context, *protocol.Request) (uint32, error) { return 3, broke })
	if status, err := w.Run(t.Context(), testRequest()); status != 3 || err != broke {
		t.Errorf("got %d, %v", status, err)
	}
	if w.logs.Len() != 0 {
		t.Errorf("logged %v", w.logs.All())
	}
}

func TestRunNeedsNoOptions(t *testing.T) {
	r := New(Options{Call: func(context.Context, *protocol.Request) (uint32, error) { panic("x") }})
	if _, err := r.Run(t.Context(), &protocol.Request{}); err == nil {
		t.Error("no error")
	}
}

// wantRefusal checks that err is answered with 500.
func wantRefusal(t *testing.T, status uint32, err error) {
	t.Helper()
	var refusal *protocol.Refusal
	if !errors.As(err, &refusal) || refusal.HTTPStatus != 500 || refusal.AppStatus != 500 || status != 500 {
		t.Errorf("got %d, %#v", status, err)
	}
}

func TestPanic(t *testing.T) {
	for _, value := range []any{"boom", errors.New("boom"), fmt.Stringer(nil), 71} {
		w := newWorld(func(context.Context, *protocol.Request) (uint32, error) { return panicsHere(value) })
		status, err := w.Run(t.Context(), testRequest())
		wantRefusal(t, status, err)
		fields := w.wantLog(t, slog.LevelError, "panicked")
		if stack, _ := fields["stack"].(string); !strings.Contains(stack, "panicsHere") || fields["panic"] == "" {
			t.Errorf("logged %v", fields)
		}
	}
}

func panicsHere(value any) (uint32, error) { panic(value) }

func TestAbortHandler(t *testing.T) {
	w := newWorld(func(context.Context, *protocol.Request) (uint32, error) { panic(http.ErrAbortHandler) })
	status, err := w.Run(t.Context(), testRequest())
	wantRefusal(t, status, err)
	if w.logs.Len() != 0 {
		t.Errorf("logged %v", w.logs.All())
	}
}

func TestGoexit(t *testing.T) {
	w := newWorld(func(context.Context, *protocol.Request) (uint32, error) { runtime.Goexit(); return 0, nil })
	over := make(chan struct{})
	go func() {
		defer close(over)
		w.Run(t.Context(), testRequest())
		t.Error("Run returned")
	}()
	<-over
	if fields := w.wantLog(t, slog.LevelError, "ended its goroutine"); fields["stack"] == "" {
		t.Errorf("logged %v", fields)
	}
}

// A function that ends with its context, or a little later, is not told of.
func TestNotOverdue(t *testing.T) {
	for _, after := range []time.Duration{0, overdueAfter - 1} {
		synctest.Test(t, func(t *testing.T) {
			exited := 0
			w := newWorld(func(ctx context.Context, _ *protocol.Request) (uint32, error) {
				<-ctx.Done()
				time.Sleep(after)
				return 0, context.Cause(ctx)
			})
			ctx, cancel := context.WithCancel(t.Context())
			req := w.request()
			req.Exited = func() { exited++ }
			time.AfterFunc(time.Minute, cancel)
			if _, err := w.Run(ctx, req); err != context.Canceled {
				t.Error(err)
			}
			time.Sleep(time.Hour)
			if w.logs.Len() != 0 || len(w.overdue()) != 0 || exited != 1 {
				t.Errorf("after %v: logged %v, overdue %v, exited %d times", after, w.logs.All(), w.overdue(), exited)
			}
		})
	}
}

// One that goes on is counted and logged, once, until it returns or breaks.
func TestOverdue(t *testing.T) {
	for _, end := range []string{"return", "panic", "goexit"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(func(context.Context, *protocol.Request) (uint32, error) {
					time.Sleep(time.Minute)
					switch end {
					case "panic":
						panic(http.ErrAbortHandler)
					case "goexit":
						runtime.Goexit()
					}
					return 0, nil
				})
				ctx, cancel := context.WithCancel(t.Context())
				req := w.request()
				exited := false
				req.Exited = func() { exited = true }
				over := make(chan struct{})
				go func() { defer close(over); w.Run(ctx, req) }()
				synctest.Wait()
				cancel()
				synctest.Wait()
				if !exited || len(w.overdue()) != 0 {
					t.Errorf("its place is free: %v; overdue: %v", exited, w.overdue())
				}
				time.Sleep(overdueAfter)
				synctest.Wait()
				if !slices.Equal(w.overdue(), []bool{true}) {
					t.Errorf("overdue: %v", w.overdue())
				}
				w.wantLog(t, slog.LevelWarn, "does not return")
				<-over
				if !slices.Equal(w.overdue(), []bool{true, false}) {
					t.Errorf("overdue: %v", w.overdue())
				}
				if end == "goexit" {
					w.logs = w.logs.Containing("overdue")
				}
				if late := w.wantLog(t, slog.LevelInfo, "has returned")["late"]; late != time.Minute {
					t.Errorf("late by %v", late)
				}
			})
		})
	}
}

// A context that has ended already is no reason not to run: the server decides that.
func TestRunWithEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(func(context.Context, *protocol.Request) (uint32, error) { return 1, nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if status, err := w.Run(ctx, testRequest()); status != 1 || err != nil {
			t.Errorf("got %d, %v", status, err)
		}
	})
}
