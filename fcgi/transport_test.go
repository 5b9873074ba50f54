package fcgi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

func mustURL(s string) *url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return u
}

// asked returns the params of a request by t.
func asked(t *testing.T, transport *fcgi.Transport, r *http.Request) map[string]string {
	t.Helper()
	l := listen(t, "unix")
	got := make(map[string]string)
	v := serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
		for _, p := range req.Params {
			if _, twice := got[p.Name]; twice {
				t.Errorf("%s came twice", p.Name)
			}
			got[p.Name] = p.Value
		}
		return hello(ctx, req)
	})})
	defer v.stop()
	transport.Client = &fcgi.Client{Address: addressOf(l)}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); string(body) != "hello" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
	return got
}

func TestTransportParams(t *testing.T) {
	php := &fcgi.Transport{Root: "/srv/www/", Extensions: []string{".php"}, Index: "index.php"}
	front := &fcgi.Transport{Root: "/srv/www", Script: "/index.php", Params: func(r *http.Request, p *fcgi.Params) { p.Set("REMOTE_USER", r.Host) }}
	for _, tt := range []struct {
		transport   *fcgi.Transport
		method, url string
		body        io.Reader
		want        string // NAME=value; "NAME" alone is one that must be missing
	}{
		{php, "GET", "http://h:81/a%20b/c.php/d//e?x=%20y", nil, "SCRIPT_FILENAME=/srv/www/a b/c.php|SCRIPT_NAME=/a b/c.php|PATH_INFO=/d/e|DOCUMENT_ROOT=/srv/www/|" +
			"QUERY_STRING=x=%20y|REQUEST_URI=/a%20b/c.php/d//e?x=%20y|REQUEST_METHOD=GET|SERVER_NAME=h|SERVER_PORT=81|HTTP_HOST=h:81|CONTENT_LENGTH|HTTPS|REDIRECT_STATUS=200|SERVER_PROTOCOL=HTTP/1.1"},
		{php, "GET", "https://h/", nil, "SCRIPT_FILENAME=/srv/www/index.php|SCRIPT_NAME=/index.php|PATH_INFO|HTTPS=on|REQUEST_SCHEME=https|SERVER_PORT=443"},
		{php, "GET", "http://h/../../x.php", nil, "SCRIPT_FILENAME=/srv/www/x.php"},
		{php, "GET", "http://h/a.phpx/b", nil, "SCRIPT_NAME=/a.phpx/b|PATH_INFO"},
		{front, "GET", "http://h/blog/1", nil, "SCRIPT_FILENAME=/srv/www/index.php|SCRIPT_NAME=/index.php|PATH_INFO=/blog/1|REMOTE_USER=h"},
		{&fcgi.Transport{}, "GET", "http://h/x/", nil, "SCRIPT_FILENAME|DOCUMENT_ROOT|SCRIPT_NAME=/x/"},
		{php, "POST", "http://h/x.php", strings.NewReader("body"), "CONTENT_LENGTH=4|REQUEST_METHOD=POST"},
		{php, "POST", "http://h/x.php", nil, "CONTENT_LENGTH=0"},
		{php, "PUT", "http://h/x.php", io.MultiReader(strings.NewReader("x")), "CONTENT_LENGTH"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), tt.method, tt.url, tt.body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = http.Header{"X-A": {"1", "2"}, "Cookie": {"a=1", "b=2"}, "X_a": {"evil"}, "Proxy": {"evil"}, "User-Agent": {""}}
		got := asked(t, tt.transport, r)
		for pair := range strings.SplitSeq(tt.want+"|HTTP_X_A=1, 2|HTTP_COOKIE=a=1; b=2|HTTP_PROXY|HTTP_USER_AGENT", "|") {
			name, want, given := strings.Cut(pair, "=")
			if value, ok := got[name]; value != want || ok != given {
				t.Errorf("%s %s: %s is %q, want %q", tt.method, tt.url, name, value, want)
			}
		}
	}
}

// An httputil.ReverseProxy with a Transport is a web server before an application.
func TestTransportInReverseProxy(t *testing.T) {
	sockets(t, func(t *testing.T, l net.Listener) {
		serveOn(t, l, &fcgi.Server{Handler: fcgi.HTTP(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			w.Header().Set("X-From", r.RemoteAddr)
			fmt.Fprintf(w, "%s %s %s %s %v", r.Method, r.Host, r.URL.RequestURI(), body, err)
		}))})
		client := &fcgi.Client{Address: addressOf(l), KeepConns: 2}
		proxy := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}, Transport: &fcgi.Transport{Client: client}})
		defer client.CloseIdleConnections()
		defer proxy.Close()
		for _, body := range []string{"", "body", strings.Repeat("x", 1<<20)} {
			resp, err := proxy.Client().Post(proxy.URL+"/a?b=c", "text/plain", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if want := "POST " + proxy.Listener.Addr().String() + " /a?b=c " + body + " <nil>"; string(got) != want || err != nil || !strings.HasPrefix(resp.Header.Get("X-From"), "127.0.0.1:") {
				t.Errorf("got %.100q, %v, %v", got, err, resp.Header)
			}
		}
		client.Wait()
	})
}

// The answer comes as it is written; one that is not read to its end is aborted.
func TestTransportStreams(t *testing.T) {
	causes := make(chan error, 1)
	next := make(chan struct{})
	l := listen(t, "unix")
	serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(func(ctx context.Context, req *fcgi.Request) (uint32, error) {
		io.WriteString(req.Stdout, plain)
		for {
			req.Flush()
			select {
			case <-next:
				io.WriteString(req.Stdout, "piece")
			case <-ctx.Done():
				causes <- context.Cause(ctx)
				return 0, nil
			}
		}
	})})
	transport := &fcgi.Transport{Client: &fcgi.Client{Address: addressOf(l)}}
	r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/", nil)
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		next <- struct{}{}
		if _, err := io.ReadFull(resp.Body, make([]byte, len("piece"))); err != nil {
			t.Fatal(err)
		}
	}
	resp.Body.Close()
	if cause := <-causes; !errors.Is(cause, fcgi.ErrAborted) && !errors.Is(cause, fcgi.ErrClientGone) {
		t.Errorf("cause is %v", cause)
	}
	if _, err := resp.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("read after close: %v", err)
	}
}

// A closed body tells when the application has done with it.
type closed struct {
	io.Reader
	done chan struct{}
}

func (c *closed) Close() error { close(c.done); return nil }

func TestTransportFails(t *testing.T) {
	for name, tt := range map[string]struct {
		handle fcgi.HandlerFunc
		body   bool // it fails inside the body
		want   error
	}{
		"timeout": {untilDone, false, context.DeadlineExceeded},
		"in body": {func(ctx context.Context, req *fcgi.Request) (uint32, error) {
			hello(ctx, req)
			req.Flush()
			return untilDone(ctx, req)
		}, true, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, "unix")
			serveOn(t, l, &fcgi.Server{Handler: tt.handle})
			transport := &fcgi.Transport{Client: &fcgi.Client{Address: addressOf(l)}}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			body := &closed{strings.NewReader("x"), make(chan struct{})}
			r, _ := http.NewRequestWithContext(ctx, "POST", "http://x/", body)
			resp, err := transport.RoundTrip(r)
			if tt.body && err == nil {
				_, err = io.ReadAll(resp.Body)
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("got %v", err)
			}
			<-body.done
		})
	}
}

// The body is closed when the request has failed, though somebody reads it: that is often
// what ends the reading.
func TestTransportClosesABodyThatBlocks(t *testing.T) {
	l := listen(t, "unix")
	serveOn(t, l, &fcgi.Server{Handler: fcgi.HandlerFunc(untilDone)})
	client := &fcgi.Client{Address: addressOf(l)}
	ctx, cancel := context.WithCancel(t.Context())
	body := &blocking{reads: cancel, done: make(chan struct{})}
	r, _ := http.NewRequestWithContext(ctx, "POST", "http://x/", body)
	if _, err := (&fcgi.Transport{Client: client}).RoundTrip(r); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	client.Wait()
}

// A blocking is a body whose Read ends when it is closed.
type blocking struct {
	reads func()
	done  chan struct{}
}

func (b *blocking) Read([]byte) (int, error) { b.reads(); <-b.done; return 0, io.EOF }
func (b *blocking) Close() error             { close(b.done); return nil }

// An application that refuses without an answer, or is gone, is an error; STDERR is logged.
func TestTransportOfABadApplication(t *testing.T) {
	var buf bytes.Buffer
	log := slog.New(slog.NewTextHandler(&buf, nil))
	for name, tt := range map[string]struct {
		end  protocol.End
		out  string
		want string
	}{
		"refused":             {protocol.End{Status: protocol.StatusOverloaded}, "", "refuses the request: OVERLOADED"},
		"refused with a page": {protocol.End{Status: protocol.StatusOverloaded}, "Status: 503\n\nbusy", ""},
		"no answer":           {protocol.End{}, "", "no header"},
		"no header":           {protocol.End{}, "oops", "no header: it begins with \"oops\""},
	} {
		c := new(fcgi.Client)
		piped(t, c, func(_ int, conn net.Conn) {
			for {
				rec, err := wiretest.ReadRecord(conn)
				if err != nil {
					return
				}
				if rec.Type == protocol.TypeStdin {
					out := protocol.AppendRecord(nil, protocol.TypeStderr, 1, []byte("grumble\n"))
					if tt.out != "" {
						out = protocol.AppendRecord(out, protocol.TypeStdout, 1, []byte(tt.out))
					}
					conn.Write(protocol.AppendEnd(out, 1, tt.end))
					return
				}
			}
		})
		r, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/y", nil)
		resp, err := (&fcgi.Transport{Client: c, Log: log}).RoundTrip(r)
		switch {
		case tt.want == "" && err == nil:
			if body, err := io.ReadAll(resp.Body); string(body) != "busy" || err != nil || resp.StatusCode != 503 {
				t.Errorf("%s: got %d, %q, %v", name, resp.StatusCode, body, err)
			}
		case err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want):
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := strings.Count(buf.String(), "uri=/y line=grumble"); n != 4 {
		t.Errorf("logged %q", buf.String())
	}
}
