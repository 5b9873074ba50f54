//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// page asks a socket for a page of a pool as exporters do.
func fpmPage(t *testing.T, socket, path, query string, more ...string) (header, page string) {
	t.Helper()
	p := fcgi.Params{
		{Name: "REQUEST_METHOD", Value: "GET"}, {Name: "SCRIPT_NAME", Value: path}, {Name: "SCRIPT_FILENAME", Value: path},
		{Name: "QUERY_STRING", Value: query}, {Name: "REQUEST_URI", Value: path + "?" + query},
	}
	for i := 0; i+1 < len(more); i += 2 {
		p.Set(more[i], more[i+1])
	}
	res, out := ask(t, "unix", socket, &fcgi.Request{Params: p})
	if res.AppStatus != 0 {
		t.Errorf("%s?%s: %+v %q", path, query, res, out)
	}
	header, page, _ = strings.Cut(out, "\r\n\r\n")
	return header, page
}

// The status page has what php-fpm's has, field by field and in each format, and the ping
// is the same.
func TestStatusPathAsFPM(t *testing.T) {
	t.Parallel()
	const pages = "status_path: /status, ping_path: /ping, ping_response: here,"
	_, dir := accessSite(t, "suppress: [/ping]", pages)
	conf := write(t, dir+"/fpm.conf", fmt.Sprintf("[global]\nerror_log = %[1]s/fpm.log\n[www]\nuser = www-data\nlisten = %[1]s/fpm\nlisten.mode = 0666\npm = static\npm.max_children = 1\n"+
		"pm.status_path = /status\nping.path = /ping\nping.response = here\n", dir))
	start(t, exec.Command(phpFPM(t), "-F", "-n", "-y", conf))
	listening(t, "unix", dir+"/fpm")
	number := regexp.MustCompile(`\d[\d.]*|\{pool="www"\}|\b(Idle|Running|Ending|GET|-|/status\S*?(full|json))( *)(<|"|$)`)
	date := regexp.MustCompile(`\d\d/[A-Z][a-z][a-z]/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}`)
	for _, query := range []string{"", "full", "json", "json&full", "html", "html&full", "xml", "xml&full", "openmetrics"} {
		wantHeader, want := fpmPage(t, dir+"/fpm", "/status", query)
		gotHeader, got := fpmPage(t, dir+"/www", "/status", query)
		kind := regexp.MustCompile(`(?i)content-type: ([^;\r]*)`)
		if w, g := kind.FindStringSubmatch(wantHeader)[1], kind.FindStringSubmatch(gotHeader)[1]; w != g {
			t.Errorf("?%s: type %s, php-fpm's %s", query, g, w)
		}
		skeleton := func(page string) string {
			page = date.ReplaceAllString(page, "DATE")
			page = regexp.MustCompile(`(?m)^# HELP.*\n`).ReplaceAllString(page, "")
			page = strings.ReplaceAll(page, `, "processes"`, `,"processes"`)
			page = regexp.MustCompile(`(request (method|uri)":|request (method|URI): *|<request-(method|uri)>|<td>)("?)(GET|-|\\?/status[^"<\n]*)`).ReplaceAllString(page, "${1}${4}CLIENT")
			page = regexp.MustCompile(`(Idle|Running)`).ReplaceAllString(page, "STATE")
			return number.ReplaceAllString(page, "N")
		}
		w, g := skeleton(want), skeleton(got)
		if query == "openmetrics" {
			g = strings.ReplaceAll(g, "N N\n", " N\n")
		}
		if w != g {
			t.Errorf("?%s:\n%s\nphp-fpm:\n%s", query, g, w)
		}
	}
	for _, socket := range []string{"fpm", "www", "cgi"} {
		if _, got := fpmPage(t, dir+"/"+socket, "/ping", ""); got != "here" {
			t.Errorf("%s: %q", socket, got)
		}
		if _, got := fpmPage(t, dir+"/"+socket, "/ping", "", "REQUEST_METHOD", "HEAD"); got != "" {
			t.Errorf("%s: HEAD has the body %q", socket, got)
		}
	}
}

// An fpmStatus is what php-fpm_exporter reads.
type fpmStatus struct {
	Pool               string `json:"pool"`
	ProcessManager     string `json:"process manager"`
	StartTime          int64  `json:"start time"`
	StartSince         int64  `json:"start since"`
	AcceptedConn       int64  `json:"accepted conn"`
	ListenQueue        int64  `json:"listen queue"`
	MaxListenQueue     int64  `json:"max listen queue"`
	ListenQueueLen     int64  `json:"listen queue len"`
	IdleProcesses      int64  `json:"idle processes"`
	ActiveProcesses    int64  `json:"active processes"`
	TotalProcesses     int64  `json:"total processes"`
	MaxActive          int64  `json:"max active processes"`
	MaxChildrenReached int64  `json:"max children reached"`
	SlowRequests       int64  `json:"slow requests"`
	Processes          []struct {
		PID               int     `json:"pid"`
		State             string  `json:"state"`
		StartTime         int64   `json:"start time"`
		StartSince        int64   `json:"start since"`
		Requests          int64   `json:"requests"`
		RequestDuration   int64   `json:"request duration"`
		RequestMethod     string  `json:"request method"`
		RequestURI        string  `json:"request uri"`
		ContentLength     int64   `json:"content length"`
		User              string  `json:"user"`
		Script            string  `json:"script"`
		LastRequestCPU    float64 `json:"last request cpu"`
		LastRequestMemory int64   `json:"last request memory"`
	} `json:"processes"`
}

func fpmJSON(t *testing.T, socket string) (s fpmStatus) {
	t.Helper()
	_, page := fpmPage(t, socket, "/status", "json&full")
	if err := json.Unmarshal([]byte(page), &s); err != nil {
		t.Fatalf("%v: %s", err, page)
	}
	return s
}

// With three requests waiting in a full pool the page is there, and says three. It takes no
// place, and counts nowhere.
func TestStatusPathOfFullPool(t *testing.T) {
	t.Parallel()
	const hostile = "/x\"><script>alert(1)</script>\n# EOF"
	for name, pool := range map[string]string{
		"wait.php": "worker: {command: [" + need(t, "php-cgi") + ", -n], scale: static, max: 1}", "wait.sh": "process: {root: [DIR/cgi]}, limits: {max_reqs: 1}",
	} {
		s := newSite(t, "unix", "status_path: /status, ping_path: /ping, "+pool)
		g := newGate(t, s.dir)
		s.script("wait.sh", "#!/bin/sh\necho $$ >DIR/in; read x <DIR/go\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
		s.script("wait.php", "<?php $f = fopen('DIR/in', 'w'); fwrite($f, getmypid().\"\\n\"); $g = fopen('DIR/go', 'r'); fgets($g); echo 'hello';")
		script, answers := s.dir+"/cgi/"+name, make(chan string, 4)
		for i := range 4 {
			go func() {
				_, out := ask(t, "unix", s.address, function(script, "REQUEST_URI", hostile, "REMOTE_USER", hostile, "CONTENT_LENGTH", "0"))
				answers <- out
			}()
			if i == 0 {
				g.arrive(1)
			}
		}
		var page fpmStatus
		await(t, "three that wait", func() bool {
			page = fpmJSON(t, s.address)
			return page.ListenQueue == 3
		})
		if page.Pool != "cgi" || page.AcceptedConn != 1 || page.MaxListenQueue != 3 || page.ListenQueueLen != 1024 || page.IdleProcesses != 0 ||
			page.ActiveProcesses != 1 || page.TotalProcesses != 1 || page.MaxActive != 1 || page.MaxChildrenReached != 1 || len(page.Processes) != 1 {
			t.Fatalf("%s: %+v", name, page)
		}
		x := page.Processes[0]
		if x.PID == 0 || x.State != "Running" || x.RequestURI != strings.ReplaceAll(hostile, "\n", "\ufffd") || x.User != x.RequestURI || x.Script != script || x.Requests != 1 || x.RequestDuration <= 0 {
			t.Errorf("%s: %+v", name, x)
		}
		for query, never := range map[string]string{"full": "\n# EOF", "html&full": "<script>a", "xml&full": "<script>a", "json&full": "<script>a"} {
			if _, page := fpmPage(t, s.address, "/status", query); strings.Contains(page, never) || !strings.Contains(page, "alert(1)") {
				t.Errorf("%s?%s: %s", name, query, page)
			}
		}
		if _, got := fpmPage(t, s.address, "/ping", ""); got != "pong" {
			t.Errorf("%s: ping is %q", name, got)
		}
		for i := range 4 {
			g.release(1)
			if out := wait(t, "an answer", answers); !strings.HasSuffix(out, "hello") {
				t.Errorf("%s: answer %q", name, out)
			}
			if i < 3 {
				g.arrive(1)
			}
		}
		s.awaitMetric(t, `fcgid_requests_total{outcome="ok",pool="cgi"}`, "4")
		if got := s.metric(t, `fcgid_own_requests_total{pool="cgi"}`); got == "0" || got == "" {
			t.Errorf("%s: own requests: %q", name, got)
		}
	}
}

// A front controller gives nobody the page: by what the client asks for is not decided.
func TestStatusPathIsNotTheClients(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", "status_path: /status, "+simple)
	hello := s.script("hello.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	wantAnswer(t, s, function(hello, "SCRIPT_NAME", "/hello.cgi", "REQUEST_URI", "/status", "PATH_INFO", "/status"), 0, "hello")
	wantAnswer(t, s, function(hello, "SCRIPT_NAME", "/hello.cgi/status", "REQUEST_URI", "/status?full", "DOCUMENT_URI", "/status"), 0, "hello")
	wantAnswer(t, s, function(hello, "SCRIPT_NAME", "", "PATH_INFO", "/status"), 0, "hello") // as web servers send what a client asks for
	wantAnswer(t, s, function(hello, "SCRIPT_NAME", "/status"), 0, "process manager:      process\n")
}

// The location of docs/php-fpm.md.
func TestDocumentedStatusLocation(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", "status_path: /status, ping_path: /ping, "+simple)
	s.nginx(harness.Documented(t, "docs/php-fpm.md", "status-location", "/run/fcgid/php.sock", s.address, "include fastcgi", "include /etc/nginx/fastcgi"))
	for path, want := range map[string]string{"/status?full": "\naccepted conn:        0\n", "/ping": "pong"} {
		if code, page := get(t, s.url+path); code != 200 || !strings.Contains(page, want) {
			t.Errorf("%s: %d %q", path, code, page)
		}
	}
}
