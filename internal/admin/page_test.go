package admin

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/status"
)

// get asks the server for a path. The connection ends with the body.
func (s *Server) get(t *testing.T, path string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://localhost"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	addr := s.l.Addr()
	res, err := clientOf(addr.Network(), addr.String(), nil).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// The page runs what it has brought along, and asks nobody but its own server.
func TestPage(t *testing.T) {
	s, _ := newTestServer(t)
	s.change(t, "tcp:127.0.0.1:0")
	res := s.get(t, "/")
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || string(body) != statusPage {
		t.Fatalf("%s, %v, %d bytes", res.Status, err, len(body))
	}
	policy := res.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; script-src 'sha256-") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy: %s", policy)
	}
	for _, element := range []string{"script", "style"} {
		if n := strings.Count(statusPage, "<"+element); n != 1 || !strings.Contains(statusPage, "<"+element+">") {
			t.Errorf("%d elements %s: the policy has the hash of one", n, element)
		}
	}
	// What makes markup or code of text is not used, nor what the policy would not let run.
	if found := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|\son\w+=|\sstyle=`).FindString(statusPage); found != "" {
		t.Errorf("the page has %q", found)
	}
	for _, match := range regexp.MustCompile(`https?://[^"' ]*`).FindAllString(statusPage, -1) {
		if match != "http://www.w3.org/2000/svg" { // the name of SVG
			t.Errorf("the page names %s", match)
		}
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Content-Type": "text/html; charset=utf-8", "Referrer-Policy": "no-referrer"} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Nothing that changes anything is done by the admin server, whatever is sent to it.
func TestNoOrdersByAdminServer(t *testing.T) {
	s, _ := newTestServer(t)
	for _, address := range []string{"tcp:127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
		s.change(t, address)
		addr := s.l.Addr()
		client := clientOf(addr.Network(), addr.String(), nil)
		for _, path := range []string{"/", "/orders", "/events", "/status", "/metrics", "/-/ready", "/-/reload", "/-/quit"} {
			for _, method := range []string{"POST", "PUT", "DELETE", "PATCH"} {
				for _, verb := range []string{"reload", "diff", "kill", "drain", "pause", "resume", "recycle", "scale"} {
					req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(`{"verb":"`+verb+`","pool":"php","ids":[1],"n":1}`))
					if err != nil {
						t.Fatal(err)
					}
					res, err := client.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					res.Body.Close()
					if res.StatusCode != http.StatusNotFound && res.StatusCode != http.StatusMethodNotAllowed {
						t.Errorf("%s %s at %s: %s", method, path, address, res.Status)
					}
				}
			}
		}
	}
}

// A watcher is a client of /events.
type watcher struct {
	t    *testing.T
	res  *http.Response
	text *bufio.Reader
}

func (s *Server) watch(t *testing.T) *watcher {
	t.Helper()
	res := s.get(t, "/events")
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s %v", res.Status, res.Header)
	}
	return &watcher{t, res, bufio.NewReader(res.Body)}
}

// next is the next event, or the end of them.
func (w *watcher) next() (e struct {
	PID             int
	Pools           []status.Pool
	Rates           []status.Rates
	More            []int
	LeavingRequests []status.OpenRequest `json:"leaving_requests"`
	MoreLeaving     int                  `json:"more_leaving"`
}, err error) {
	for {
		line, err := w.text.ReadString('\n')
		if err != nil {
			return e, err
		}
		if text, ok := strings.CutPrefix(line, "data: "); ok {
			return e, json.Unmarshal([]byte(text), &e)
		}
	}
}

// ends waits until no more events come.
func (w *watcher) ends() {
	w.t.Helper()
	for {
		if _, err := w.next(); err != nil {
			return
		}
	}
}

// awaitWatchers waits until that many are being told.
func (s *Server) awaitWatchers(t *testing.T, n int) {
	t.Helper()
	polltest.Until(t, fmt.Sprintf("%d clients of /events", n), func() bool { return len(s.eventClients) == n })
}

func TestEvents(t *testing.T) {
	s, d := newTestServer(t)
	s.eventTime = time.Millisecond
	d.page.Pools = []status.Pool{{
		Name: "a\nb\r\n\r\ndata: x", Ended: map[string]int64{"ok": 1}, Latencies: status.Latencies{{UpTo: 1, N: 1}},
	}}
	for i := range eventRequests + 7 {
		d.page.Pools[0].Requests = append(d.page.Pools[0].Requests, status.Request{ID: uint64(i), Age: float64(i), URI: "/a?secret"})
	}
	for i := range eventRequests + 3 {
		r := status.Request{ID: uint64(i), Age: float64(i), URI: "/old?secret"}
		d.page.LeavingRequests = append(d.page.LeavingRequests, status.OpenRequest{Pool: "a", Leaving: 70, Request: r})
	}
	s.change(t, "tcp:127.0.0.1:0")
	w := s.watch(t)
	for range 3 {
		e, err := w.next()
		if err != nil {
			t.Fatal(err)
		}
		pool := e.Pools[0]
		if e.PID != 71 || pool.Name != d.page.Pools[0].Name || pool.Latencies != nil || len(e.Rates) != 1 {
			t.Errorf("event %+v", e)
		}
		if len(pool.Requests) != eventRequests || e.More[0] != 7 || pool.Requests[0].ID != eventRequests+6 || pool.Requests[0].URI != "/a" {
			t.Errorf("%d requests and %d more: %+v", len(pool.Requests), e.More[0], pool.Requests[0])
		}
		old := e.LeavingRequests
		if len(old) != eventRequests || e.MoreLeaving != 3 || old[0].ID != eventRequests+2 || old[0].URI != "/old" {
			t.Errorf("of daemons before: %d requests and %d more: %+v", len(old), e.MoreLeaving, old[0])
		}
	}
	w.res.Body.Close()
	s.awaitWatchers(t, 0)
}

// Only so many look at once, and only from this server's own page.
func TestEventsAreBounded(t *testing.T) {
	s, _ := newTestServer(t)
	s.change(t, "tcp:127.0.0.1:0")
	for site, code := range map[string]int{"cross-site": 403, "same-site": 403, "same-origin": 200, "none": 200} {
		res := s.get(t, "/events", "Sec-Fetch-Site", site)
		res.Body.Close()
		if res.StatusCode != code {
			t.Errorf("%s: %s", site, res.Status)
		}
	}
	s.awaitWatchers(t, 0)
	var all []*watcher
	for range maxEventClients {
		all = append(all, s.watch(t))
	}
	if res := s.get(t, "/events"); res.StatusCode != 503 {
		t.Errorf("one too many: %s", res.Status)
	}
	all[0].res.Body.Close()
	s.awaitWatchers(t, maxEventClients-1)
	s.watch(t)
}

// Whoever looks is let in again or not by new settings, and holds up no end.
func TestEventsEnd(t *testing.T) {
	s, _ := newTestServer(t)
	s.eventTime = time.Millisecond
	settings := Settings{Address: "tcp:127.0.0.1:0"}
	s.changeTo(t, settings)
	first := s.watch(t)
	s.changeTo(t, settings)
	first.ends()
	s.eventTime = time.Hour
	second := s.watch(t)
	if _, err := second.next(); err != nil {
		t.Fatal(err)
	}
	s.change(t, "unix:"+filepath.Join(t.TempDir(), "s"))
	second.ends()
}

// A client that takes nothing does not keep the server from its end.
func TestEventsToStuckClient(t *testing.T) {
	s, d := newTestServer(t)
	s.eventTime = time.Millisecond
	d.page.File = strings.Repeat("x", 1<<20)
	s.change(t, "tcp:127.0.0.1:0")
	conn, err := net.Dial("tcp", s.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	s.awaitWatchers(t, 1)
	s.change(t, "")
	if n := len(s.eventClients); n != 0 {
		t.Errorf("%d are still being told", n)
	}
}
