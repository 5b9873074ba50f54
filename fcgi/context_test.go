package fcgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/wiretest"
)

type contextKey string

// values answers with what is in its context.
func values(ctx context.Context, req *fcgi.Request) (uint32, error) {
	_, err := fmt.Fprintf(req.Stdout, plain+"%v %v %v", ctx.Value(contextKey("serve")), ctx.Value(contextKey("base")), ctx.Value(contextKey("conn")))
	return 0, err
}

// A handler's context has the values of those above it, and not their end.
func TestContextValues(t *testing.T) {
	base := func(net.Listener) context.Context {
		return context.WithValue(context.Background(), contextKey("base"), "B")
	}
	conn := func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, contextKey("conn"), c.LocalAddr().Network())
	}
	for name, tt := range map[string]struct {
		server *fcgi.Server
		want   string
	}{
		"serve":         {&fcgi.Server{}, "S <nil> <nil>"},
		"base":          {&fcgi.Server{BaseContext: base}, "<nil> B <nil>"},
		"conn":          {&fcgi.Server{ConnContext: conn}, "S <nil> pipe"},
		"base and conn": {&fcgi.Server{BaseContext: base, ConnContext: conn}, "<nil> B pipe"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := tt.server
			s.Handler = fcgi.HandlerFunc(values)
			v := serveWith(context.WithValue(context.Background(), contextKey("serve"), "S"), t, wiretest.NewPipeListener(), s)
			w := v.dial()
			for range 2 {
				w.send(wiretest.Get(1, true))
				if r := w.reply(1); r.Stdout != plain+tt.want {
					t.Errorf("%s: %q, want %q", name, r.Stdout, tt.want)
				}
			}
		})
	}
}

// The end of a connection's context ends what runs, waits or comes on it, and nothing else.
func TestContextOfConnectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("tenant is gone")
		var ends []context.CancelCauseFunc
		causes := make(chan error, 1)
		v := serve(t, &fcgi.Server{
			ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
				ctx, end := context.WithCancelCause(ctx)
				ends = append(ends, end)
				return ctx
			},
			Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
				if req.Params.Get("QUERY_STRING") != "" {
					return hello(ctx, req)
				}
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return 0, nil
			}),
		})
		w, other := v.dial(), v.dial()
		w.send(wiretest.Get(1, true))
		synctest.Wait()
		ends[0](why)
		w.wantPage(1, 503, 503)
		if cause := <-causes; !errors.Is(cause, why) || !errors.Is(cause, fcgi.ErrShutdown) {
			t.Errorf("cause is %v", cause)
		}
		w.send(wiretest.Get(2, true, "QUERY_STRING", "x"))
		w.wantPage(2, 503, 503)
		other.send(wiretest.Get(1, true, "QUERY_STRING", "x"))
		other.want(1, helloAnswer, 0)
		ends[1](nil)
	})
}

func TestErrTimeout(t *testing.T) {
	if !errors.Is(fcgi.ErrTimeout, context.DeadlineExceeded) {
		t.Error("ErrTimeout is no context.DeadlineExceeded")
	}
	if !os.IsTimeout(fcgi.ErrTimeout) {
		t.Error("ErrTimeout is no timeout")
	}
}

// Of two handlers one has less time than the server gives.
func TestTimeoutHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		causes := make(chan error, 1)
		deadlines := make(chan time.Time, 1)
		wait := fcgi.HandlerFunc(func(ctx context.Context, _ *fcgi.Request) (uint32, error) {
			deadline, _ := ctx.Deadline()
			deadlines <- deadline
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			<-ctx.Done()
			causes <- context.Cause(ctx)
			time.Sleep(time.Hour) // it does not obey
			return 0, nil
		})
		var r fcgi.Registry
		r.Handle("short", fcgi.TimeoutHandler(wait, time.Second))
		r.Handle("nested", fcgi.TimeoutHandler(fcgi.TimeoutHandler(wait, time.Hour), 2*time.Second))
		r.Handle("long", wait)
		r.Handle("over", fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			fcgi.TimeoutHandler(fcgi.HandlerFunc(hello), time.Second).ServeFCGI(ctx, req)
			time.Sleep(5 * time.Second) // what had to be in time was
			return 0, ctx.Err()
		}))
		w := serve(t, &fcgi.Server{Handler: &r, Timeout: 9 * time.Second}).dial()
		for name, want := range map[string]time.Duration{"short": time.Second, "nested": 2 * time.Second, "long": 9 * time.Second} {
			began := time.Now()
			w.send(wiretest.Get(1, true, "SCRIPT_FILENAME", name))
			w.wantPage(1, 408, 408)
			if took := time.Since(began); took != want {
				t.Errorf("%s took %v, want %v", name, took, want)
			}
			if told := (<-deadlines).Sub(began); told != want {
				t.Errorf("%s: the deadline is in %v, want %v", name, told, want)
			}
			if cause := <-causes; !errors.Is(cause, fcgi.ErrTimeout) {
				t.Errorf("%s: cause is %v", name, cause)
			}
		}
		w.send(wiretest.Get(1, true, "SCRIPT_FILENAME", "over"))
		w.want(1, helloAnswer, 0)
		time.Sleep(2 * time.Hour)
	})
}

// A handler's context has the Deadline of its connection's, and none where nothing ends it.
func TestDeadlineOfTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ends, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for _, tt := range []struct {
			timeout, want time.Duration
			base          context.Context
		}{
			{0, 0, t.Context()}, {time.Minute, time.Minute, t.Context()},
			{0, time.Hour, ends}, {time.Minute, time.Minute, ends}, {2 * time.Hour, time.Hour, ends},
		} {
			w := serve(t, &fcgi.Server{
				Timeout: tt.timeout, BaseContext: func(net.Listener) context.Context { return tt.base },
				Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
					deadline, ok := ctx.Deadline()
					if ok {
						fmt.Fprint(req.Stdout, plain, deadline.Sub(began))
					} else {
						fmt.Fprint(req.Stdout, plain, time.Duration(0))
					}
					return 0, nil
				}),
			}).dial()
			w.send(wiretest.Get(1, true))
			w.want(1, plain+tt.want.String(), 0)
		}
	})
}

// TimeoutHandler outside of a server is a context.WithTimeoutCause.
func TestTimeoutHandlerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := fcgi.TimeoutHandler(fcgi.HandlerFunc(untilDone), time.Second)
		if _, err := h.ServeFCGI(t.Context(), &fcgi.Request{}); !errors.Is(err, fcgi.ErrTimeout) {
			t.Errorf("got %v", err)
		}
		unlimited := fcgi.TimeoutHandler(fcgi.HandlerFunc(hello), 0)
		if _, err := unlimited.ServeFCGI(t.Context(), &fcgi.Request{Stdout: io.Discard}); err != nil {
			t.Errorf("no limit: %v", err)
		}
	})
}

// As in net/http, no time is a limit that nobody has set.
func TestZeroTimesAreNoLimits(t *testing.T) {
	before := http.DefaultServeMux
	defer func() { http.DefaultServeMux = before }()
	http.DefaultServeMux = http.NewServeMux()
	synctest.Test(t, func(t *testing.T) {
		http.HandleFunc("/zero", func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			time.Sleep(time.Hour / 2)
			fmt.Fprintf(w, "%s %v", body, err)
		})
		w := serve(t, &fcgi.Server{}).dial()
		w.send(wiretest.Begin(1, true))
		time.Sleep(time.Hour)
		w.send(wiretest.Params(1, web("REQUEST_METHOD", "POST", "REQUEST_URI", "/zero", "CONTENT_LENGTH", "4")...))
		time.Sleep(time.Hour)
		w.send(wiretest.Stdin(1, "body"), wiretest.Stdin(1, ""))
		r := w.reply(1)
		if r.Stdout != "Status: 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nbody <nil>" {
			t.Errorf("answer is %q", r.Stdout)
		}
	})
}
