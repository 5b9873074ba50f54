//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// accessSite is a daemon with an access log of these keys, and the pools "cgi" and "www"
// in dir, the second one PHP's. DIR in its files is dir.
func accessSite(t *testing.T, keys, more string) (d *process, dir string) {
	t.Helper()
	dir = folder(t)
	admin := freeAddress(t)
	file := write(t, dir+"/fcgid.yaml", strings.NewReplacer("DIR", dir, "PHP", need(t, "php-cgi")).Replace("admin: {listen: 'tcp:"+admin+`', control: ""}
access_log: {output: DIR/access, `+keys+`}
pools:
- {name: cgi, listen: 'unix:DIR/cgi', `+more+` process: {root: [DIR/srv]}}
- {name: www, listen: 'unix:DIR/www', `+more+` worker: {command: [PHP, -n], root: [DIR/srv], extensions: [.php], scale: static, max: 1}}
`))
	script(t, dir+"/srv/id.cgi", "#!/bin/sh\necho \"cgi: $REQUEST_ID\" >&2\nprintf 'Content-Type: text/plain\\n\\n%s %s' \"$REQUEST_ID\" \"$HTTP_TRACEPARENT\"\n")
	write(t, dir+"/srv/id.php", "<?php error_log('php: '.$_SERVER['REQUEST_ID']); header('Content-Type: text/plain');"+
		"function used() { $u = getrusage(); return $u['ru_utime.tv_sec'] + $u['ru_stime.tv_sec'] + ($u['ru_utime.tv_usec'] + $u['ru_stime.tv_usec']) / 1e6; } "+
		"$end = used() + .02; while (used() < $end); echo $_SERVER['REQUEST_ID'], ' ', $_SERVER['HTTP_TRACEPARENT'] ?? '';")
	d = start(t, exec.Command(binary, "serve", "-c", file))
	d.Listening(t, "unix", dir+"/www")
	return d, dir
}

// awaitAccess waits for that many lines of a file.
func awaitAccess(t *testing.T, file string, n int) (all []string) {
	t.Helper()
	await(t, fmt.Sprintf("%d lines in %s", n, file), func() bool {
		text, _ := os.ReadFile(file)
		all = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		return len(text) > 0 && len(all) >= n
	})
	return all
}

// A request has one id: in the access log, in its program, and in what that says to
// STDERR. One that a client sends is taken if it is harmless.
func TestRequestIDs(t *testing.T) {
	t.Parallel()
	const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	d, dir := accessSite(t, "format: json", "")
	n := 0
	for pool, name := range map[string]string{"cgi": "id.cgi", "www": "id.php"} {
		for _, test := range []struct {
			sent []string
			want string // "" is one that is made
		}{
			{nil, ""},
			{[]string{"HTTP_X_REQUEST_ID", "from-client"}, "from-client"},
			{[]string{"HTTP_X_REQUEST_ID", "from\" client"}, ""},
			{[]string{"HTTP_X_REQUEST_ID", "from-client", "REQUEST_ID", "from-nginx"}, "from-nginx"},
			{[]string{"REQUEST_ID", "$(reboot)"}, ""},
			{[]string{"HTTP_TRACEPARENT", trace}, "4bf92f3577b34da6a3ce929d0e0e4736"},
		} {
			_, out := ask(t, "unix", dir+"/"+pool, function(dir+"/srv/"+name, test.sent...))
			got, traced, _ := strings.Cut(body(out), " ")
			if test.want != "" && got != test.want || test.want == "" && len(got) != 32 || (traced == trace) != (test.sent != nil && test.sent[0] == "HTTP_TRACEPARENT") {
				t.Errorf("%s, %q: the program has %q and %q", name, test.sent, got, traced)
			}
			n++
			var line struct {
				ID, Pool string
				CPU      float64 `json:"cpu_ms"`
				User     float64 `json:"cpu_user_ms"`
				RSS      int64   `json:"max_rss_bytes"`
			}
			if err := json.Unmarshal([]byte(awaitAccess(t, dir+"/access", n)[n-1]), &line); err != nil {
				t.Fatal(err)
			}
			if line.ID != got || line.Pool != pool || (pool == "cgi") != (line.RSS > 100<<10) || line.CPU <= 0 || pool == "www" && (line.CPU < 5 || line.User != 0) {
				t.Errorf("%s, %q: the access log has %+v, the program %q", name, test.sent, line, got)
			}
			await(t, "the program's word", func() bool {
				for text := range strings.Lines(d.out.String()) {
					var said struct{ ID, Line string }
					if json.Unmarshal([]byte(text), &said) == nil && strings.Contains(said.Line, ": "+got) && said.ID == got {
						return true
					}
				}
				return false
			})
		}
	}
}

// With php-fpm's format a line is what php-fpm writes for the same request.
func TestAccessLogAsFPM(t *testing.T) {
	t.Parallel()
	const format = `%R - %u "%m %r%Q%q" %s %f %l %n %{REMOTE_ADDR}e %{X-A}o%% %{X-None}o %{HTTP_HOST}e`
	_, dir := accessSite(t, "format: '"+format+"', suppress: [/ping.php]", "")
	write(t, dir+"/srv/a.php", "<?php http_response_code(201); header('X-A: b'); echo strlen(file_get_contents('php://input'));")
	write(t, dir+"/srv/ping.php", "<?php if (isset($_SERVER['HTTP_X_FAIL'])) http_response_code(503); echo 'pong';")
	conf := write(t, dir+"/fpm.conf", fmt.Sprintf("[global]\nerror_log = %[1]s/fpm.log\n[www]\nuser = www-data\nlisten = %[1]s/fpm\nlisten.mode = 0666\npm = static\npm.max_children = 1\n"+
		"access.log = %[1]s/fpm.access\naccess.format = \"%[2]s\"\naccess.suppress_path[] = /ping.php\n", dir, strings.ReplaceAll(format, `"`, `\"`)))
	start(t, exec.Command(phpFPM(t), "-F", "-n", "-y", conf))
	listening(t, "unix", dir+"/fpm")
	requests := []struct {
		script, body string
		more         []string
	}{
		{"a.php", "", []string{"QUERY_STRING", "b=c%20d"}},
		{"a.php", "12345", []string{"REQUEST_METHOD", "POST", "CONTENT_LENGTH", "5", "HTTP_HOST", "example.org"}},
		{"a.php", "", []string{"PATH_INFO", "/x", "SCRIPT_NAME", "/a.php/x"}},
		{"ping.php", "", nil}, // the one that is left out
		{"ping.php", "", []string{"QUERY_STRING", "x"}},
		{"ping.php", "", []string{"HTTP_X_FAIL", "1"}},
		{"ping.php", "1", []string{"REQUEST_METHOD", "POST", "CONTENT_LENGTH", "1"}},
	}
	for _, pool := range []string{"www", "fpm"} {
		for _, r := range requests {
			req := &fcgi.Request{Params: params(dir+"/srv/"+r.script, append([]string{
				"REMOTE_ADDR", "192.0.2.1", "HTTP_AUTHORIZATION", "Basic am9lOnNlY3JldA==", "DOCUMENT_ROOT", dir + "/srv", "CONTENT_LENGTH", "",
			}, r.more...)...)}
			if r.body != "" {
				req.Stdin = strings.NewReader(r.body)
			}
			ask(t, "unix", dir+"/"+pool, req)
		}
	}
	want := awaitAccess(t, dir+"/fpm.access", len(requests)-1)
	got := awaitAccess(t, dir+"/access", len(requests)-1)
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			t.Errorf("line %d:\nphp-fpm %q\nfcgid   %q", i, want, got)
			break
		}
	}
}

// The access log of docs/operations.md.
func TestDocumentedAccessLog(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple)
	access := harness.Documented(t, "docs/operations.md", "access-log", "/var/log/fcgid/access.log", s.dir+"/access")
	write(t, s.file, access+"admin: {listen: 'tcp:"+s.admin+"'}\npools:\n"+s.pool("cgi", simple))
	s.reload(t)
	hello := s.script("hello.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	for _, query := range []string{"", "a=\"b\x1b c\""} {
		wantAnswer(t, s, function(hello, "REMOTE_ADDR", "192.0.2.1", "SCRIPT_NAME", "/ping", "QUERY_STRING", query, "REQUEST_METHOD", "GET", "HTTP_X_REQUEST_ID", "x-1"), 0, "hello")
	}
	line := regexp.MustCompile(`^192\.0\.2\.1 - - \d\d/\w\w\w/\d{4}:\d\d:\d\d:\d\d [+-]\d{4} "GET /ping\?a=\\x22b\\x1B\\x20c\\x22" 200 \d+\.\d{3} \d+ \d+\.\d\d% x-1$`)
	if got := awaitAccess(t, s.dir+"/access", 1); !line.MatchString(got[0]) || len(got) != 1 {
		t.Errorf("got %q", got)
	}
}

// What a noisy program writes to STDERR is logged at a rate, and the rest counted.
func TestNoisyProgram(t *testing.T) {
	t.Parallel()
	for name, pool := range map[string]string{
		"noisy.cgi": "process: {root: [DIR/cgi]}", "noisy.php": "worker: {command: [" + need(t, "php-cgi") + ", -n, -d, log_errors_max_len=0], scale: static, max: 1}",
	} {
		s := newSite(t, "unix", "limits: {stderr_rate: 1KiB}, "+pool)
		s.script("noisy.cgi", "#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\000' x >&2\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
		s.script("noisy.php", "<?php for ($i = 0; $i < 60; $i++) error_log(str_repeat('x', 50000)); echo 'hello';")
		wantAnswer(t, s, function(s.dir+"/cgi/"+name), 0, "hello")
		await(t, "a count of what was dropped", func() bool {
			n, _ := strconv.ParseFloat(s.metric(t, `fcgid_stderr_dropped_bytes_total{pool="cgi"}`), 64)
			return n > 2_000_000
		})
		s.signal(syscall.SIGTERM)
		if code := s.exitCode(); code != 0 {
			t.Errorf("%s: exit status %d", name, code)
		}
		if out := s.out.String(); len(out) > 1_000_000 || !strings.Contains(out, "limits.stderr_rate") {
			t.Errorf("%s: the log has %d bytes: %s", name, len(out), tail(out, 500))
		}
	}
}
