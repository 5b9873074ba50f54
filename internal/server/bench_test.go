package server

import (
	"net"
	"net/http"
	"net/http/fcgi"
	"path/filepath"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// typicalGet is what nginx sends for a page, on a connection that it keeps.
var typicalGet = get(1, true,
	"SCRIPT_FILENAME", "/srv/www/cgi-bin/hello", "QUERY_STRING", "a=b&c=d", "REQUEST_METHOD", "GET",
	"CONTENT_TYPE", "", "CONTENT_LENGTH", "", "SCRIPT_NAME", "/cgi-bin/hello", "REQUEST_URI", "/cgi-bin/hello?a=b&c=d",
	"DOCUMENT_URI", "/cgi-bin/hello", "DOCUMENT_ROOT", "/srv/www", "SERVER_PROTOCOL", "HTTP/1.1",
	"REQUEST_SCHEME", "https", "HTTPS", "on", "GATEWAY_INTERFACE", "CGI/1.1", "SERVER_SOFTWARE", "nginx/1.22.1",
	"REMOTE_ADDR", "192.0.2.1", "REMOTE_PORT", "54321", "SERVER_ADDR", "192.0.2.2", "SERVER_PORT", "443",
	"SERVER_NAME", "example.org", "REDIRECT_STATUS", "200", "HTTP_HOST", "example.org",
	"HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "HTTP_ACCEPT", "*/*")

// A benchClient asks for the same page again and again.
type benchClient struct {
	nc net.Conn
	r  *protocol.Reader
}

func dialBench(tb testing.TB, l net.Listener) *benchClient {
	nc, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	return &benchClient{nc, protocol.NewReader(nc)}
}

func (c *benchClient) get(tb testing.TB) {
	if _, err := c.nc.Write(typicalGet); err != nil {
		tb.Error(err)
		return
	}
	for {
		rec, err := c.r.Next()
		if err != nil {
			tb.Error(err)
			return
		}
		if rec.Type == protocol.TypeEndRequest {
			return
		}
	}
}

// benchServer is a Server as it runs, with all limits and no logs.
func benchServer(tb testing.TB) net.Listener {
	settings := testSettings(hello)
	settings.Limits.MaxReqs, settings.Limits.Queue = 64, 256
	l, err := net.Listen("unix", filepath.Join(tb.TempDir(), "s"))
	if err != nil {
		tb.Fatal(err)
	}
	s := startServer(tb, l, settings)
	s.opt.Hooks.Done = func(*Result) {}
	return l
}

// stdlibServer is the same page by net/http/fcgi.
func stdlibServer(tb testing.TB) net.Listener {
	l, err := net.Listen("unix", filepath.Join(tb.TempDir(), "std"))
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.Write([]byte("hello"))
		}))
	}()
	tb.Cleanup(func() { l.Close(); <-served })
	return l
}

func BenchmarkHello(b *testing.B) {
	for _, server := range []struct {
		name  string
		start func(testing.TB) net.Listener
	}{{"fcgid", benchServer}, {"net-http-fcgi", stdlibServer}} {
		for _, conns := range []int{1, 8} {
			name := map[int]string{1: "1conn", 8: "8conns"}[conns]
			b.Run(server.name+"/"+name, func(b *testing.B) {
				l := server.start(b)
				clients := make([]*benchClient, conns)
				for i := range clients {
					clients[i] = dialBench(b, l)
					clients[i].get(b)
				}
				b.ReportAllocs()
				b.ResetTimer()
				var all sync.WaitGroup
				for i, c := range clients {
					all.Go(func() {
						for n := i; n < b.N; n += conns {
							c.get(b)
						}
					})
				}
				all.Wait()
			})
		}
	}
}

// The steady state stays as lean as it is.
func TestAllocationsOfARequest(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates too")
	}
	c := dialBench(t, benchServer(t))
	c.get(t)
	if got := testing.AllocsPerRun(500, func() { c.get(t) }); got > 22 {
		t.Errorf("%v allocations, want 22 at most", got)
	}
}
