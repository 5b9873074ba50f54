package fcgi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// addressOf is l's in the form that the package takes.
func addressOf(l net.Listener) string { return l.Addr().Network() + ":" + l.Addr().String() }

// A counted listener counts the connections that it has accepted.
type counted struct {
	net.Listener
	n atomic.Int64
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// get asks c for what a handler makes of QUERY_STRING.
func get(t testing.TB, c *fcgi.Client, query string) string {
	t.Helper()
	var out strings.Builder
	result, err := c.Do(t.Context(), &fcgi.Request{
		Params: fcgi.Params{{Name: "REQUEST_METHOD", Value: "GET"}, {Name: "QUERY_STRING", Value: query}}, Stdout: &out})
	if err != nil || result != (fcgi.Result{}) {
		t.Errorf("%s: %+v, %v", query, result, err)
	}
	_, body, _ := strings.Cut(out.String(), "\r\n\r\n")
	return body
}

// query answers with QUERY_STRING.
func query(_ context.Context, req *fcgi.Request) (uint32, error) {
	io.Copy(io.Discard, req.Stdin)
	_, err := io.WriteString(req.Stdout, plain+req.Params.Get("QUERY_STRING"))
	return 0, err
}

func TestClientKeepsConnections(t *testing.T) {
	for name, tt := range map[string]struct {
		client *fcgi.Client
		want   int64
	}{"none": {&fcgi.Client{}, 9}, "one": {&fcgi.Client{KeepConns: 1}, 1}} {
		t.Run(name, func(t *testing.T) {
			l := &counted{Listener: listen(t, "unix")}
			serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(query)})
			c := tt.client
			c.Address = addressOf(l)
			defer c.CloseIdleConnections()
			for i := range 9 {
				if got := get(t, c, fmt.Sprint(i)); got != fmt.Sprint(i) {
					t.Errorf("%d: got %q", i, got)
				}
			}
			if got := l.n.Load(); got != tt.want {
				t.Errorf("%d connections, want %d", got, tt.want)
			}
		})
	}
}

// What of a body the application has not read must not begin the next request.
func TestClientKeepsNoConnectionWithABody(t *testing.T) {
	l := &counted{Listener: listen(t, "unix")}
	serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(query)})
	c := &fcgi.Client{Address: addressOf(l), KeepConns: 5}
	defer c.CloseIdleConnections()
	for i, body := range []string{"x", "", strings.Repeat("x", 1<<20), ""} {
		if _, err := c.Do(t.Context(), &fcgi.Request{Stdin: strings.NewReader(body)}); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	c.Wait()
	if got := l.n.Load(); got != 3 { // the last empty body is sent where that before was
		t.Errorf("%d connections", got)
	}
}

// More requests than connections take turns, and none is lost, whoever gives up.
func TestClientMaxConns(t *testing.T) {
	sockets(t, func(t *testing.T, l net.Listener) {
		var running, most atomic.Int64
		serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			return query(ctx, req)
		})})
		for _, keep := range []int{0, 2, 3} {
			c := &fcgi.Client{Address: addressOf(l), MaxConns: 3, KeepConns: keep}
			var all sync.WaitGroup
			for i := range 20 {
				all.Go(func() {
					for n := range 20 {
						if n%5 == 4 {
							ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*50*time.Microsecond)
							c.Do(ctx, &fcgi.Request{})
							cancel()
							continue
						}
						want := fmt.Sprint(i, n)
						if got := get(t, c, want); got != want {
							t.Errorf("got %q, want %q", got, want)
						}
					}
				})
			}
			all.Wait()
			c.CloseIdleConnections()
		}
		if got := most.Load(); got > 3 {
			t.Errorf("%d at once", got)
		}
	})
}

// A server that is started anew costs no request: what was kept is seen to be closed.
func TestClientServerRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := &fcgi.Client{Address: "unix:" + path, KeepConns: 4}
	defer c.CloseIdleConnections()
	for round := range 5 {
		l, err := fcgi.Listen("unix:"+path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		v := serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(query)})
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if got := get(t, c, fmt.Sprint(round, i)); got != fmt.Sprint(round, i) {
					t.Errorf("got %q", got)
				}
			})
		}
		all.Wait()
		v.stop()
		if err := <-v.end; err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Do(t.Context(), &fcgi.Request{}); err == nil {
		t.Error("an answer came without a server")
	}
}

// piped makes a Client of pipes whose other ends are handled one after the other.
func piped(t *testing.T, c *fcgi.Client, handle func(n int, conn net.Conn)) {
	n := 0
	var all sync.WaitGroup
	c.Dial = func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		number := n
		n++
		all.Go(func() { defer far.Close(); handle(number, far) })
		return near, nil
	}
	t.Cleanup(func() { c.CloseIdleConnections(); all.Wait() })
}

// answerOnce reads a request, and answers it.
func answerOnce(conn net.Conn) bool {
	for {
		rec, err := wiretest.ReadRecord(conn)
		if err != nil {
			return false
		}
		if rec.Type == protocol.TypeStdin && rec.Content == "" {
			conn.Write(append(wiretest.Rec(protocol.TypeStdout, rec.ID, helloAnswer), protocol.AppendEnd(nil, rec.ID, protocol.End{})...))
			return true
		}
	}
}

// A connection that breaks under a request is tried again where that does no harm.
func TestClientRepeats(t *testing.T) {
	for name, tt := range map[string]struct {
		method string
		stdin  io.Reader
		want   bool
	}{"GET": {"GET", nil, true}, "HEAD": {"HEAD", nil, true}, "POST": {"POST", nil, false}, "GET with a body": {"GET", strings.NewReader("x"), false}} {
		synctest.Test(t, func(t *testing.T) {
			c := &fcgi.Client{KeepConns: 1}
			piped(t, c, func(n int, conn net.Conn) {
				if answerOnce(conn) && n == 0 {
					io.ReadFull(conn, make([]byte, 8)) // and nothing comes
					return
				}
				io.Copy(io.Discard, conn)
			})
			req := &fcgi.Request{Params: fcgi.Params{{Name: "REQUEST_METHOD", Value: tt.method}}}
			if _, err := c.Do(t.Context(), req); err != nil {
				t.Fatal(err)
			}
			req.Stdin = tt.stdin
			if _, err := c.Do(t.Context(), req); (err == nil) != tt.want || !tt.want && !errors.Is(err, fcgi.ErrNoEnd) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// What fails on a new connection is the application's fault.
func TestClientRepeatsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, asked := &fcgi.Client{KeepConns: 1}, 0
		piped(t, c, func(_ int, conn net.Conn) { asked++; io.ReadFull(conn, make([]byte, 8)) })
		if _, err := c.Do(t.Context(), &fcgi.Request{Params: fcgi.Params{{Name: "REQUEST_METHOD", Value: "GET"}}}); !errors.Is(err, fcgi.ErrNoEnd) || asked != 1 {
			t.Errorf("%v after %d", err, asked)
		}
	})
}

func TestClientIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &fcgi.Client{KeepConns: 1, IdleTimeout: time.Minute}
		closed := make(chan time.Time, 1)
		piped(t, c, func(_ int, conn net.Conn) {
			for answerOnce(conn) {
			}
			closed <- time.Now()
		})
		for range 3 {
			time.Sleep(40 * time.Second)
			if _, err := c.Do(t.Context(), &fcgi.Request{}); err != nil {
				t.Fatal(err)
			}
		}
		last := time.Now()
		if got := (<-closed).Sub(last); got != time.Minute {
			t.Errorf("closed after %v", got)
		}
	})
}

func TestClientValues(t *testing.T) {
	l := listen(t, "unix")
	serveOn(t, l, &fcgi.Server{MaxReqs: 7})
	c := &fcgi.Client{Address: addressOf(l)}
	values, err := c.Values(t.Context(), fcgi.MaxReqs)
	if err != nil || values[fcgi.MaxReqs] != "7" {
		t.Errorf("got %v, %v", values, err)
	}
}

// An error says what to do.
func TestClientNonsense(t *testing.T) {
	for want, c := range map[string]*fcgi.Client{
		"neither Address nor Dial is set":         {},
		"did you mean unix:/run/app.sock?":        {Address: "/run/app.sock"},
		"did you mean tcp:127.0.0.1:9000?":        {Address: "127.0.0.1:9000"},
		"/nowhere/s: connect: no such file or di": {Address: "unix:/nowhere/s"},
	} {
		if _, err := c.Do(t.Context(), &fcgi.Request{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := (&fcgi.Transport{}).RoundTrip(&http.Request{URL: mustURL("http://x/")}); err == nil || !strings.Contains(err.Error(), "Client is not set") {
		t.Errorf("no Client: %v", err)
	}
}

// A panic of the caller's Stdout is the caller's, and costs one connection.
func TestClientPanic(t *testing.T) {
	l := listen(t, "unix")
	serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(query)})
	c := &fcgi.Client{Address: addressOf(l), KeepConns: 1, MaxConns: 1}
	defer c.CloseIdleConnections()
	if !panics(func() { c.Do(t.Context(), &fcgi.Request{Stdout: panicker{}}) }) {
		t.Error("no panic")
	}
	if got := get(t, c, "after"); got != "after" {
		t.Errorf("got %q", got)
	}
}

type panicker struct{}

func (panicker) Write([]byte) (int, error) { panic("boom") }

func TestReadResponse(t *testing.T) {
	for text, want := range map[string]struct {
		status int
		body   string
		err    error
	}{
		"A: b\n\nbody":                                 {200, "body", nil},
		"Status: 404 Gone\r\n\r\n":                     {404, "", nil},
		"Location: /x\n\n":                             {302, "", nil},
		"HTTP/1.1 404 Not Found\nA: b\n\nx":            {404, "x", nil},
		"Content-Length: 3\n\nlonger":                  {200, "lon", nil},
		"Content-Length: 9\n\nshort":                   {200, "short", io.ErrUnexpectedEOF},
		"Status: 304\n\nnone":                          {304, "", nil},
		"Status: 204\nContent-Length: 7\n\nx":          {204, "", nil},
		"Content-Length: x\n\nall":                     {200, "all", nil},
		"A: " + strings.Repeat("x", 9000) + "\n\nbody": {200, "body", nil},
	} {
		for _, r := range []io.Reader{strings.NewReader(text), byteReader{strings.NewReader(text)}} {
			resp, err := fcgi.ReadResponse(r, nil)
			if err != nil {
				t.Errorf("%.30q: %v", text, err)
				continue
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != want.status || string(body) != want.body || err != want.err || resp.Header.Get("Status") != "" {
				t.Errorf("%.30q: got %d, %q, %v", text, resp.StatusCode, body, err)
			}
		}
	}
	for text, want := range map[string]string{
		"": "no header", "A: b\n": "ended inside its header", "hello\n\n": "it begins with \"hello\\n\\n\"", "A: b\nhello\n\n": "a line that is none", strings.Repeat("A: b\n", 20000): "larger than 64 KiB",
	} {
		if _, err := fcgi.ReadResponse(strings.NewReader(text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
	resp, err := fcgi.ReadResponse(strings.NewReader("Content-Length: 4\nSet-Cookie: a\nSet-Cookie: b\n\nbody"), &http.Request{Method: "HEAD"})
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); len(body) > 0 || err != nil || resp.ContentLength != 4 || len(resp.Header["Set-Cookie"]) != 2 {
		t.Errorf("HEAD: got %+v, %q, %v", resp, body, err)
	}
}

// A byteReader returns a byte at a time.
type byteReader struct{ r io.Reader }

func (b byteReader) Read(p []byte) (int, error) { return b.r.Read(p[:min(1, len(p))]) }

// A failing reads nothing.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// A body that cannot be read is no connection that was closed: PARAMS have been sent.
func TestClientRepeatsNoRequestWithABrokenBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, conns := &fcgi.Client{KeepConns: 1}, 0
		piped(t, c, func(_ int, conn net.Conn) {
			conns++
			answerOnce(conn)
			io.Copy(io.Discard, conn)
		})
		req := &fcgi.Request{Params: fcgi.Params{{Name: "REQUEST_METHOD", Value: "POST"}}}
		if _, err := c.Do(t.Context(), req); err != nil {
			t.Fatal(err)
		}
		req.Stdin = failing{net.ErrClosed}
		if _, err := c.Do(t.Context(), req); !errors.Is(err, net.ErrClosed) || conns != 1 {
			t.Errorf("%v, on %d connections", err, conns)
		}
	})
}

// A slow one blocks for an hour.
type slow struct{}

func (slow) Read([]byte) (int, error) { time.Sleep(time.Hour); return 0, io.EOF }

// Wait waits for whatever of a request is still read.
func TestClientWait(t *testing.T) {
	for name, req := range map[string]fcgi.Request{"Stdin": {Stdin: slow{}}, "Data": {Role: fcgi.RoleFilter, Data: slow{}}} {
		synctest.Test(t, func(t *testing.T) {
			c := new(fcgi.Client)
			piped(t, c, func(_ int, conn net.Conn) { io.Copy(io.Discard, conn) })
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			if _, err := c.Do(ctx, &req); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			if c.Wait(); time.Since(began) != time.Hour {
				t.Errorf("%s: waited %v", name, time.Since(began))
			}
		})
	}
}
