package fcgi_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// A small answer leaves with its END_REQUEST: one read gets all.
func TestHelloComesInOneRead(t *testing.T) {
	for name, h := range map[string]fcgi.Handler{"function": fcgi.HandlerFunc(hello), "http": fcgi.HTTP(http.HandlerFunc(httpHello))} {
		sockets(t, func(t *testing.T, l net.Listener) {
			serveOn(t, l, &fcgi.Server{Handler: h})
			nc, err := net.Dial(l.Addr().Network(), l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			end := string(protocol.AppendEnd(nil, 1, protocol.End{}))
			for range 20 {
				nc.Write(wiretest.TypicalGet)
				buf := make([]byte, 4096)
				n, err := nc.Read(buf)
				if got := string(buf[:n]); err != nil || !strings.Contains(got, "hello") || !strings.HasSuffix(got, end) {
					t.Fatalf("%s: first read has %q, %v", name, got, err)
				}
			}
		})
	}
}

func httpHello(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	io.WriteString(w, "hello")
}

// What a handler gets, and that it is its own.
func TestRequestOfAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			body, err := io.ReadAll(req.Stdin)
			data, dataErr := io.ReadAll(req.Data)
			if len(body) != 0 || err != nil || len(data) != 0 || dataErr != nil || req.Role != fcgi.RoleResponder || req.Close {
				t.Errorf("request is %+v, body %q, %v", req, body, err)
			}
			got := req.Params
			req.Params = append(req.Params, fcgi.Param{Name: "MORE"})
			req.Params[0].Value = "changed"
			if len(got) != 3 || got.Get("A") != "2" || got[1] != (fcgi.Param{Name: "B", Value: ""}) {
				t.Errorf("params are %v", got)
			}
			io.WriteString(req.Stderr, "message")
			return hello(ctx, req)
		})})
		w := v.dial()
		for id := range uint16(3) {
			w.send(wiretest.Get(id+1, true, "A", "1", "B", "", "A", "2"))
			r := w.reply(id + 1)
			if r.Stdout != helloAnswer || r.Stderr != "message" {
				t.Errorf("answer is %q, STDERR %q", r.Stdout, r.Stderr)
			}
		}
	})
}

// Where net/http/fcgi makes the neighbour wait for a body that nobody reads.
func TestSleepingHandlerDoesNotDelayItsNeighbour(t *testing.T) {
	sockets(t, func(t *testing.T, l net.Listener) {
		wake := make(chan struct{})
		v := serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			if req.Params.Get("SLEEP") != "" {
				<-wake
			}
			return echo(ctx, req)
		})})
		w := v.dial()
		body := strings.Repeat("x", 1<<20)
		w.send(wiretest.Post(1, true, body, "SLEEP", "1"))
		w.send(wiretest.Post(2, true, "neighbour"))
		w.want(2, plain+"neighbour", 0)
		close(wake)
		w.want(1, plain+body, 0)
	})
}

// An abort ends the context, and the request once.
func TestAbortRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		causes := make(chan error, 2)
		v := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			if req.Params.Get("CONTENT_LENGTH") != "" {
				_, err := io.ReadAll(req.Stdin)
				causes <- err
			}
			_, err := untilDone(ctx, req)
			causes <- err
			return hello(ctx, req)
		}), BodyMemory: 1})
		w := v.dial()
		w.send(wiretest.Begin(1, true), wiretest.Params(1, "CONTENT_LENGTH", "10"), wiretest.Stdin(1, "half"))
		w.wantSilence()
		w.send(wiretest.Abort(1))
		w.want(1, "", 0)
		for range 2 {
			if err := <-causes; err != fcgi.ErrAborted {
				t.Errorf("cause is %v", err)
			}
		}
		w.send(wiretest.Abort(1), wiretest.Abort(1))
		w.wantSilence()
		w.send(wiretest.Get(1, true), wiretest.Abort(1))
		w.want(1, "", 0)
		w.wantSilence()
	})
}

func TestContextEndsWithTheConnection(t *testing.T) {
	sockets(t, func(t *testing.T, l net.Listener) {
		began, cause := make(chan struct{}), make(chan error, 1)
		v := serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			close(began)
			_, err := untilDone(ctx, req)
			cause <- err
			return 0, err
		})})
		w := v.dial()
		w.send(wiretest.Get(1, true))
		<-began
		w.nc.Close()
		if err := <-cause; !errors.Is(err, fcgi.ErrClientGone) {
			t.Errorf("cause is %v", err)
		}
	})
}

// What is advertised is what is enforced, and only what was asked is answered.
func TestGetValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(hello), MaxConns: 3, MaxReqs: 5, NoMultiplex: true})
		w := v.dial()
		for _, tt := range []struct{ asked, want string }{
			{wiretest.Pairs(fcgi.MaxConns, "", fcgi.MaxReqs, "", fcgi.MpxsConns, ""), wiretest.Pairs(fcgi.MaxConns, "3", fcgi.MaxReqs, "5", fcgi.MpxsConns, "0")},
			{wiretest.Pairs(fcgi.MaxReqs, "", "OTHER", ""), wiretest.Pairs(fcgi.MaxReqs, "5")},
			{"", ""},
		} {
			w.send(wiretest.Rec(protocol.TypeGetValues, 0, tt.asked))
			if rec := w.next(); rec.Type != protocol.TypeGetValuesResult || rec.ID != 0 || rec.Content != tt.want {
				t.Errorf("asked %q, got %v", tt.asked, rec)
			}
			w.wantSilence()
		}
	})
}

func TestDefaultsAreAdvertised(t *testing.T) {
	for _, tt := range []struct {
		server *fcgi.Server
		want   string
	}{
		{&fcgi.Server{Handler: fcgi.HandlerFunc(hello)}, wiretest.Pairs(fcgi.MaxConns, "1024", fcgi.MaxReqs, "1024", fcgi.MpxsConns, "1")},
		{&fcgi.Server{Handler: fcgi.HandlerFunc(hello), MaxConns: -1, MaxReqs: -1}, wiretest.Pairs(fcgi.MaxConns, "65536", fcgi.MaxReqs, "65536", fcgi.MpxsConns, "1")},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := serve(t, tt.server).dial()
			w.send(wiretest.Rec(protocol.TypeGetValues, 0, wiretest.Pairs(fcgi.MaxConns, "", fcgi.MaxReqs, "", fcgi.MpxsConns, "")))
			if rec := w.next(); rec.Content != tt.want {
				t.Errorf("got %v, want %q", rec, tt.want)
			}
		})
	}
}

func TestMaxConns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(hello), MaxConns: 1})
		first := v.dial()
		first.send(wiretest.Get(1, true))
		first.want(1, helloAnswer, 0)
		second := v.dial()
		second.send(wiretest.Get(1, true))
		second.want(1, helloAnswer, 0)
		first.wantClosed()
	})
}

// MaxReqs run, Queue wait for QueueTimeout, and one more is refused at once. One
// Server has one set of limits, whatever listeners it serves.
func TestMaxReqsAndQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fcgi.Server{Handler: fcgi.HandlerFunc(untilDone), MaxReqs: 1, MaxQueue: 1, QueueTimeout: time.Second, ShutdownTimeout: -1}
		a, b := serve(t, s).dial(), serve(t, s).dial()
		a.send(wiretest.Get(1, true))
		synctest.Wait()
		b.send(wiretest.Get(1, true))
		synctest.Wait()
		began := time.Now()
		a.send(wiretest.Get(2, true))
		a.wantPage(2, 503, 503)
		b.wantPage(1, 503, 503)
		if took := time.Since(began); took != time.Second {
			t.Errorf("waited %v", took)
		}
	})
}

func TestNoQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(untilDone), MaxReqs: 1, MaxQueue: -1, ShutdownTimeout: -1}).dial()
		w.send(wiretest.Get(1, true))
		synctest.Wait()
		w.send(wiretest.Get(2, true))
		w.wantPage(2, 503, 503)
	})
}

func TestNoMultiplex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(untilDone), NoMultiplex: true, ShutdownTimeout: -1}).dial()
		w.send(wiretest.Get(1, true))
		synctest.Wait()
		w.send(wiretest.Get(2, true))
		if r := w.reply(2); r.End.Status != protocol.StatusCantMpxConn {
			t.Errorf("answer is %+v", r.End)
		}
	})
}

func TestBodyTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(echo), MaxBody: 10}).dial()
		w.send(wiretest.Post(1, true, "eleven byte"))
		w.wantPage(1, 413, 413)
		w.send(wiretest.Post(2, true, "ten bytes!"))
		w.want(2, plain+"ten bytes!", 0)
	})
}

// PARAMS without an end are refused, and take no memory.
func TestParamsWithoutBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(hello)}).dial()
		w.send(wiretest.Begin(1, true))
		part := wiretest.Rec(protocol.TypeParams, 1, strings.Repeat("\x01\x01ab", 8<<10))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 2048 { // 64 MiB
			w.send(part)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
			t.Errorf("took %d bytes", n)
		}
		w.send(wiretest.Rec(protocol.TypeParams, 1, ""), wiretest.Stdin(1, ""))
		w.wantPage(1, 431, 431)
	})
}

// With BufferRequests a body of unknown length has its length.
func TestBodyOfUnknownLength(t *testing.T) {
	for _, length := range []string{"-1", "", "many"} {
		synctest.Test(t, func(t *testing.T) {
			w := serve(t, &fcgi.Server{BufferRequests: true, Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
				if got := req.Params.Get("CONTENT_LENGTH"); got != "5" {
					t.Errorf("CONTENT_LENGTH is %q", got)
				}
				return echo(ctx, req)
			})}).dial()
			w.send(wiretest.Begin(1, true), wiretest.Params(1, "CONTENT_LENGTH", length), wiretest.Stdin(1, "he"), wiretest.Stdin(1, "llo"), wiretest.Stdin(1, ""))
			w.want(1, plain+"hello", 0)
		})
	}
}

// A handler that ignores its context loses its request and its place, at once.
func TestTimeoutOfAHandlerThatIgnoresIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := serve(t, &fcgi.Server{Timeout: time.Second, MaxReqs: 1, Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			if req.Params.Get("SLEEP") != "" {
				time.Sleep(time.Minute)
			}
			return hello(ctx, req)
		})})
		w := v.dial()
		w.send(wiretest.Get(1, true, "SLEEP", "1", "SCRIPT_NAME", "/slow"))
		began := time.Now()
		w.wantPage(1, 408, 408)
		if took := time.Since(began); took != time.Second {
			t.Errorf("answered after %v", took)
		}
		w.send(wiretest.Get(1, true))
		w.want(1, helloAnswer, 0)
		time.Sleep(2 * time.Second)
		if got := v.log.lines("level=WARN", "does not return", "script=/slow"); len(got) != 1 {
			t.Errorf("logged %q", got)
		}
		time.Sleep(time.Minute)
		if got := v.log.lines("level=INFO", "overdue has returned", "late=59s"); len(got) != 1 {
			t.Errorf("logged %q", got)
		}
	})
}

func TestIgnoreAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		v := serve(t, &fcgi.Server{IgnoreAbort: true, Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			time.Sleep(time.Minute)
			ended <- ctx.Err()
			return hello(ctx, req)
		})})
		w := v.dial()
		w.send(wiretest.Get(1, true))
		synctest.Wait()
		w.nc.Close()
		if err := <-ended; err != nil || len(v.log.lines("level=ERROR")) > 0 {
			t.Errorf("context ended: %v; log %q", err, v.log.lines())
		}
	})
}

// When its context ends, Serve takes no more, lets requests end, and returns.
func TestServeIsDrained(t *testing.T) {
	sockets(t, func(t *testing.T, l net.Listener) {
		began, wake := make(chan struct{}), make(chan struct{})
		v := serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			close(began)
			<-wake
			return hello(ctx, req)
		})})
		w := v.dial()
		w.send(wiretest.Get(1, true))
		<-began
		v.stop()
		for {
			nc, err := net.Dial(l.Addr().Network(), l.Addr().String())
			if err != nil {
				break
			}
			nc.Close()
		}
		select {
		case err := <-v.end:
			t.Fatalf("Serve has returned: %v", err)
		default:
		}
		close(wake)
		w.want(1, helloAnswer, 0)
		w.wantClosed()
		if err := <-v.end; err != nil {
			t.Error(err)
		}
	})
}

// After ShutdownTimeout what is left is ended.
func TestShutdownTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(untilDone), ShutdownTimeout: 7 * time.Second})
		w := v.dial()
		w.send(wiretest.Get(1, true))
		synctest.Wait()
		v.stop()
		began := time.Now()
		w.wantPage(1, 503, 503)
		<-v.end
		if took := time.Since(began); took != 7*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// A handler that does not return keeps Serve no longer than it says.
func TestServeAbandonsHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fcgi.Server{ShutdownTimeout: -1, Log: slog.New(slog.DiscardHandler), Handler: fcgi.HandlerFunc(func(context.Context, *fcgi.Request) (uint32, error) {
			time.Sleep(time.Hour)
			return 0, nil
		})}
		l := wiretest.NewPipeListener()
		ctx, stop := context.WithCancel(t.Context())
		end := make(chan error)
		go func() { end <- s.Serve(ctx, l) }()
		v := &served{t: t, l: l}
		a, b := v.dial(), v.dial()
		a.send(wiretest.Get(1, true))
		b.send(wiretest.Get(1, true))
		synctest.Wait()
		began := time.Now()
		stop()
		a.wantPage(1, 503, 503)
		b.wantPage(1, 503, 503)
		if err := <-end; err == nil || !strings.Contains(err.Error(), "2 are left") {
			t.Errorf("Serve: %v", err)
		}
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("took %v", took)
		}
		time.Sleep(time.Hour)
	})
}

func TestServeNonsense(t *testing.T) {
	var s fcgi.Server
	if err := s.Serve(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "descriptor 0") {
		t.Errorf("no listener: %v", err)
	}
	closed := wiretest.NewPipeListener()
	closed.Close()
	if err := s.Serve(t.Context(), closed); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed listener: %v", err)
	}
}
