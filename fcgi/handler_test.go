package fcgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// How errors are answered, when nothing or something has left before.
func TestErrorsOfAHandler(t *testing.T) {
	broke := errors.New("broke")
	for _, tt := range []struct {
		name              string
		write             string
		flush             bool
		status            uint32
		err               error
		want              string // beginning of the answer
		wantStatus        uint32
		log, detail, none string
	}{
		{"none", helloAnswer, false, 3, nil, helloAnswer, 3, "", "", ""},
		{"plain error", "", false, 0, broke, "Status: 500 ", 500, "WARN", "broke", ""},
		{"with a status of its own", "", false, 7, broke, "Status: 500 ", 7, "WARN", "broke", ""},
		{"StatusError", "", false, 0, &fcgi.StatusError{Status: 404, Err: broke}, "Status: 404 ", 404, "INFO", "broke", ""},
		{"wrapped", "", false, 2, fmt.Errorf("x: %w", &fcgi.StatusError{Status: 403}), "Status: 403 ", 2, "INFO", "403 Forbidden", ""},
		{"no status of an error", "", false, 0, &fcgi.StatusError{Status: 200}, "Status: 500 ", 500, "WARN", "200 OK", ""},
		{"no status", "", false, 0, &fcgi.StatusError{}, "Status: 500 ", 500, "WARN", "", ""},
		{"buffered is dropped", helloAnswer, false, 0, &fcgi.StatusError{Status: 404}, "Status: 404 ", 404, "", "", "hello"},
		{"flushed is not", helloAnswer, true, 0, &fcgi.StatusError{Status: 404}, helloAnswer, 404, "", "", "404"},
		{"flushed, plain error", helloAnswer, true, 0, broke, helloAnswer, 500, "WARN", "broke", "Status"},
		{"nothing at all", "", false, 0, nil, "Status: 502 ", 500, "WARN", "no header", ""},
		{"no header", "\r\n", false, 0, nil, "Status: 502 ", 500, "WARN", "no header", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				v := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(func(_ context.Context, req *fcgi.Request) (uint32, error) {
					io.WriteString(req.Stdout, tt.write)
					if tt.flush {
						req.Flush()
					}
					return tt.status, tt.err
				})})
				w := v.dial()
				w.send(wiretest.Get(1, true))
				r := w.reply(1)
				got := r.Stdout
				if !strings.HasPrefix(got, tt.want) || r.End.AppStatus != tt.wantStatus || tt.none != "" && strings.Contains(got, tt.none) {
					t.Errorf("answer is %q, %+v", got, r.End)
				}
				synctest.Wait()
				if tt.log != "" && len(v.log.lines("level="+tt.log, tt.detail)) != 1 || len(v.log.lines("pid=")) > 0 {
					t.Errorf("logged %q", v.log.lines())
				}
			})
		})
	}
}

// A panic is one request's, and so is Goexit.
func TestHandlerThatPanics(t *testing.T) {
	for _, tt := range []struct {
		name  string
		crash func()
		log   string
		stack bool
	}{
		{"panic", func() { panic("boom") }, "boom", true},
		{"index", func() { _ = []int{}[len(os.Args)] }, "index out of range", true},
		{"ErrAbortHandler", func() { panic(http.ErrAbortHandler) }, "", false},
		{"Goexit", runtime.Goexit, "ended its goroutine", true},
	} {
		for _, flush := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, " flushed ", flush), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					v := serve(t, &fcgi.Server{MaxReqs: 1, Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
						hello(ctx, req)
						if req.Params.Get("CRASH") != "" {
							if flush {
								req.Flush()
							}
							tt.crash()
						}
						return 0, nil
					})})
					w := v.dial()
					w.send(wiretest.Get(1, true, "CRASH", "1", "SCRIPT_FILENAME", "/srv/crash", "REQUEST_URI", "/c?d"))
					if flush {
						w.want(1, helloAnswer, 500)
					} else {
						w.wantPage(1, 500, 500)
					}
					w.send(wiretest.Get(1, true))
					w.want(1, helloAnswer, 0)
					got := v.log.lines("level=ERROR", "script=/srv/crash", "uri=/c?d", "request=1", tt.log, "handler_test.go")
					if len(got) != 1 && tt.stack || !tt.stack && len(v.log.lines("ERROR")) > 0 {
						t.Errorf("logged %q", v.log.lines())
					}
				})
			})
		}
	}
}

// What is written leaves with Flush, with a full buffer, and at the end.
func TestFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := make(chan struct{})
		w := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(func(_ context.Context, req *fcgi.Request) (uint32, error) {
			for _, part := range []string{helloAnswer, "one", "two"} {
				io.WriteString(req.Stdout, part)
				<-next
				if err := req.Flush(); err != nil {
					t.Error(err)
				}
				<-next
			}
			for range 4 {
				io.WriteString(req.Stdout, strings.Repeat("x", 3000))
			}
			<-next
			req.Stdout.Write(bytes.Repeat([]byte("y"), 20000))
			<-next
			return 0, nil
		})}).dial()
		w.send(wiretest.Get(1, true))
		for _, part := range []string{helloAnswer, "one", "two"} {
			w.wantSilence()
			next <- struct{}{}
			if rec := w.next(); rec.Content != part {
				t.Errorf("got %v, want %q", rec, part)
			}
			next <- struct{}{}
		}
		if rec := w.next(); rec.Content != strings.Repeat("x", 6000) {
			t.Errorf("got %d bytes", len(rec.Content))
		}
		w.wantSilence()
		next <- struct{}{}
		if rec := w.next(); rec.Content != strings.Repeat("x", 6000) {
			t.Errorf("got %d bytes", len(rec.Content))
		}
		if rec := w.next(); rec.Content != strings.Repeat("y", 20000) {
			t.Errorf("got %d bytes", len(rec.Content))
		}
		next <- struct{}{}
		w.want(1, "", 0)
	})
}

// A Stdout of somebody else's, such as a client's, has nothing to flush.
func TestFlushOfAnotherStdout(t *testing.T) {
	if err := (&fcgi.Request{Stdout: io.Discard}).Flush(); err != nil {
		t.Error(err)
	}
	if err := new(fcgi.Request).Flush(); err != nil {
		t.Error(err)
	}
}

// What goes on writing when its handler has returned is told so, and reaches
// nobody. The buffers go round.
func TestWriteAfterReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var kept []*fcgi.Request
		var mu sync.Mutex
		w := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			mu.Lock()
			kept = append(kept, req)
			mu.Unlock()
			return hello(ctx, req)
		})}).dial()
		for range 20 {
			w.send(wiretest.Get(1, true))
			w.want(1, helloAnswer, 0)
			for _, old := range kept {
				if _, err := io.WriteString(old.Stdout, "late"); err == nil {
					t.Error("a late write has no error")
				}
				if _, err := old.Stdout.Write(make([]byte, 1<<16)); err == nil {
					t.Error("a late write has no error")
				}
				if _, err := old.Stdout.(io.ReaderFrom).ReadFrom(strings.NewReader("late")); err == nil {
					t.Error("a late copy has no error")
				}
				if err := old.Flush(); err == nil {
					t.Error("a late Flush has no error")
				}
				io.WriteString(old.Stderr, "late")
				old.Stdin.Read(make([]byte, 1))
			}
		}
		w.wantSilence()
	})
}

// STDOUT and STDERR of one request, written from many sides at once.
func TestConcurrentWrites(t *testing.T) {
	const writers, each = 8, 200
	v := serveOn(t, listen(t, "unix"), &fcgi.Server{Handler: fcgi.HandlerFunc(func(_ context.Context, req *fcgi.Request) (uint32, error) {
		io.WriteString(req.Stdout, plain)
		var all sync.WaitGroup
		for range writers {
			all.Go(func() {
				for range each {
					io.WriteString(req.Stdout, "abcdefgh")
					req.Stdout.Write([]byte("abcdefgh"))
					io.WriteString(req.Stderr, "message\n")
					req.Flush()
				}
			})
		}
		all.Wait()
		return 0, nil
	})})
	w := v.dial()
	w.send(wiretest.Get(1, true))
	r := w.reply(1)
	if got := r.Stdout; got != plain+strings.Repeat("abcdefgh", 2*writers*each) {
		t.Errorf("STDOUT has %d bytes: %.100q", len(got), got)
	}
	if got := r.Stderr; got != strings.Repeat("message\n", writers*each) {
		t.Errorf("STDERR has %d bytes: %.100q", len(got), got)
	}
}

// Both directions at once.
func TestFullDuplex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(func(_ context.Context, req *fcgi.Request) (uint32, error) {
			io.WriteString(req.Stdout, plain)
			buf := make([]byte, 10)
			for {
				n, err := req.Stdin.Read(buf)
				req.Stdout.Write(buf[:n])
				if ferr := req.Flush(); ferr != nil {
					return 0, ferr
				}
				if err != nil {
					return 0, nil
				}
			}
		})}).dial()
		w.send(wiretest.Begin(1, true), wiretest.Params(1, "CONTENT_LENGTH", "9"), wiretest.Stdin(1, "one"))
		for _, part := range []string{plain + "one", "two", "six"} {
			if rec := w.next(); rec.Content != part {
				t.Errorf("got %v, want %q", rec, part)
			}
			if next := map[string]string{plain + "one": "two", "two": "six"}[part]; next != "" {
				w.send(wiretest.Stdin(1, next))
			}
		}
		w.send(wiretest.Stdin(1, ""))
		w.want(1, "", 0)
	})
}

// An Authorizer is a handler like others; the server waits for no STDIN of it.
func TestAuthorizer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			if req.Role != fcgi.RoleAuthorizer {
				t.Errorf("role is %v", req.Role)
			}
			return hello(ctx, req)
		})}).dial()
		w.send(protocol.AppendBegin(nil, 1, protocol.Begin{Role: protocol.RoleAuthorizer, Keep: true}), wiretest.Params(1))
		w.want(1, helloAnswer, 0)
	})
}

// Any writer will do for who calls a handler without a server.
func TestRunOutsideAServer(t *testing.T) {
	var out bytes.Buffer
	status, err := fcgi.HandlerFunc(hello).ServeFCGI(t.Context(), &fcgi.Request{Stdout: &out})
	if status != 0 || err != nil || out.String() != helloAnswer {
		t.Errorf("got %q, %d, %v", out.String(), status, err)
	}
}

// A lost client is no failure of the handler's that finds out by writing.
func TestWriteToALostClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			time.Sleep(time.Second / 2)
			return echoForEver(req)
		})})
		w := v.dial()
		w.send(wiretest.Get(1, true))
		synctest.Wait()
		w.nc.Close()
		time.Sleep(time.Minute)
		if got := v.log.lines("outcome=aborted"); len(got) != 1 || len(v.log.lines("WARN")) > 0 {
			t.Errorf("logged %q", v.log.lines())
		}
	})
}

func echoForEver(req *fcgi.Request) (uint32, error) {
	for {
		if _, err := io.WriteString(req.Stdout, helloAnswer); err != nil {
			return 0, fmt.Errorf("write: %w", err)
		}
	}
}

// What a handler leaves behind can end with its context.
func TestContextEndsAfterTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		causes := make(chan error, 1)
		w := serve(t, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			go func() { <-ctx.Done(); causes <- context.Cause(ctx) }()
			return hello(ctx, req)
		})}).dial()
		w.send(wiretest.Get(1, true))
		w.want(1, helloAnswer, 0)
		if err := <-causes; err != context.Canceled {
			t.Errorf("cause is %v", err)
		}
	})
}
