//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// A front is a web server that has been started before a pool.
type front struct {
	url string // of the folder with the programs
	// chunked is the largest upload without a length that it takes; 0 is any.
	chunked int
	// log is the name of its error log, where a program's STDERR has to appear;
	// "" if it keeps none.
	log string
}

// exercisePrograms are what every web server is tried with.
var exercisePrograms = map[string]string{
	"digest.sh": "sum=$(sha256sum)\nprintf 'Content-Type: text/plain\\n\\n%s %s' \"$CONTENT_LENGTH\" \"${sum%% *}\"\n",
	"info.sh":   "printf 'Content-Type: text/plain\\n\\n[%s] [%s]' \"$SCRIPT_NAME\" \"$PATH_INFO\"\n",
	"status.sh": "printf 'Status: 404 Not Found\\nContent-Type: text/plain\\n\\nno such thing'\n",
	"move.sh":   "printf 'Location: http://example.org/next\\n\\n'\n",
	"cookie.sh": "printf 'Set-Cookie: a=1\\nSet-Cookie: b=2; Path=/\\nContent-Type: text/plain\\n\\n%s' \"$HTTP_COOKIE\"\n",
	"stderr.sh": "echo complaint-$QUERY_STRING >&2\nprintf 'Content-Type: text/plain\\n\\nfine'\n",
	"early.sh":  "printf 'Content-Type: text/plain\\n\\nearly'\n",
	"big.sh":    "printf 'Content-Type: application/octet-stream\\n\\n'\nhead -c 3000000 /dev/zero | tr '\\000' x\n",
}

// newExerciseRig is a rig with the programs of exercise.
func newExerciseRig(t testing.TB, pool string) *rig {
	t.Helper()
	r := newRig(t, pool, "stderr: both")
	for name, text := range exercisePrograms {
		r.script(t, name, "#!/bin/sh\n"+text)
	}
	return r
}

// A page is what came of an HTTP request; a status of 0 tells that nothing did.
type page struct {
	status int
	header http.Header
	body   string
}

// do sends an HTTP request. No redirect is followed.
func do(t testing.TB, method, url string, body io.Reader, fields ...string) page {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	client := http.Client{
		Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		return page{body: err.Error()}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return page{body: err.Error()}
	}
	return page{res.StatusCode, res.Header, string(b)}
}

// is checks an answer's status and body.
func (a page) is(t testing.TB, what string, status int, body string) {
	t.Helper()
	if a.status != status || a.body != body {
		t.Errorf("%s: got %d %q, want %d %q", what, a.status, tail(a.body, 200), status, tail(body, 200))
	}
}

// exercise tries all programs through a web server.
func exercise(t *testing.T, r *rig, f front) {
	t.Helper()
	before := r.aborted(t)
	for i := range 5 {
		do(t, "GET", fmt.Sprintf("%s/hello.sh?n=%d", f.url, i), nil).is(t, "hello", 200, fmt.Sprintf("hello n=%d", i))
	}
	text := strings.Repeat("0123456789abcdef", 1<<16)
	digest := func(s string) string { return fmt.Sprintf("%d %x", len(s), sha256.Sum256([]byte(s))) }
	do(t, "POST", f.url+"/digest.sh", strings.NewReader(text)).is(t, "1 MiB", 200, digest(text))
	chunks := text
	if f.chunked > 0 {
		chunks = text[:f.chunked]
	}
	do(t, "POST", f.url+"/digest.sh", struct{ io.Reader }{strings.NewReader(chunks)}).is(t, "chunked upload", 200, digest(chunks))
	do(t, "GET", f.url+"/info.sh/more/of%20it", nil).is(t, "path info", 200, "[/info.sh] [/more/of it]")
	do(t, "GET", f.url+"/info.sh", nil).is(t, "no path info", 200, "[/info.sh] []")
	do(t, "GET", f.url+"/status.sh", nil).is(t, "status 404", 404, "no such thing")
	moved := do(t, "GET", f.url+"/move.sh", nil)
	if moved.status != 302 || moved.header.Get("Location") != "http://example.org/next" {
		t.Errorf("redirect: got %d, Location %q", moved.status, moved.header.Get("Location"))
	}
	cookies := do(t, "GET", f.url+"/cookie.sh", nil, "Cookie", "x=y; z=w")
	cookies.is(t, "cookies", 200, "x=y; z=w")
	if got := cookies.header.Values("Set-Cookie"); len(got) != 2 || got[0] != "a=1" || got[1] != "b=2; Path=/" {
		t.Errorf("Set-Cookie: %q", got)
	}
	do(t, "POST", f.url+"/early.sh", strings.NewReader(strings.Repeat(text, 3))).is(t, "an early answer to a large body", 200, "early")
	do(t, "GET", f.url+"/big.sh", nil).is(t, "3 MB", 200, strings.Repeat("x", 3_000_000))
	missing := do(t, "GET", f.url+"/missing.sh", nil)
	if missing.status != 404 {
		t.Errorf("missing script: got %d %q", missing.status, missing.body)
	}
	stderrOf(t, r, f)
	if n := r.aborted(t); n != before {
		t.Errorf("aborted requests: %s, and %s before", n, before)
	}
	// nginx closes the connection as soon as it has the header, which may count as one more.
	do(t, "HEAD", f.url+"/hello.sh", nil).is(t, "HEAD", 200, "")
	do(t, "GET", f.url+"/hello.sh?after", nil).is(t, "at the end", 200, "hello after")
}

// stderrOf sees to a program's STDERR: in the daemon's log and in the server's.
func stderrOf(t *testing.T, r *rig, f front) {
	t.Helper()
	mark := fmt.Sprint(time.Now().UnixNano())
	do(t, "GET", f.url+"/stderr.sh?"+mark, nil).is(t, "complaint", 200, "fine")
	await(t, "the complaint in the daemon's log", func() bool {
		return strings.Contains(r.out.String(), `"line":"complaint-`+mark+`"`)
	})
	if f.log == "" {
		return
	}
	await(t, "the complaint in "+f.log, func() bool {
		b, _ := os.ReadFile(f.log)
		return strings.Contains(string(b), "complaint-"+mark)
	})
}

// aborted is how many requests their clients have given up.
func (r *rig) aborted(t testing.TB) string {
	return r.metric(t, `fcgid_requests_total{outcome="aborted",pool="cgi"}`)
}

// connections is how many the pool has accepted.
func (r *rig) connections(t testing.TB) string {
	return r.metric(t, `fcgid_connections_total{pool="cgi"}`)
}

const nginxLocation = `location / { include /etc/nginx/fastcgi_params; fastcgi_split_path_info ^(/[^/]+)(/.*)?$;
	fastcgi_param SCRIPT_FILENAME %[1]s/cgi$fastcgi_script_name; fastcgi_param PATH_INFO $fastcgi_path_info;
	fastcgi_param SCRIPT_NAME $fastcgi_script_name; fastcgi_pass %[2]s; %[3]s }`

func TestNginxPrograms(t *testing.T) {
	r := newExerciseRig(t, "")
	for name, c := range map[string][2]string{
		"unix":            {"unix:" + r.unix, ""},
		"tcp, keep-alive": {r.tcp, "fastcgi_keep_conn on;"},
		"unbuffered":      {"unix:" + r.unix, "fastcgi_request_buffering off; fastcgi_buffering off;"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			url := nginx(t, dir, fmt.Sprintf(nginxLocation, r.dir, c[0], c[1]))
			exercise(t, r, front{url: url, log: dir + "/nginx.log"})
		})
	}
}

// php-fpm's oldest complaint: 16 idle connections of nginx would hold the two
// places to run for ever.
func TestNginxKeepalive(t *testing.T) {
	t.Parallel()
	r := newRig(t, "limits: {max_reqs: 2}", "")
	r.script(t, "nap.sh", "#!/bin/sh\nsleep 0.02\nprintf 'Content-Type: text/plain\\n\\nrested'\n")
	dir := folder(t)
	upstream := freeAddress(t)
	conf := write(t, dir+"/keepalive.conf", fmt.Sprintf("upstream pool { server unix:%s; keepalive 16; }\n", r.unix))
	url := nginx(t, dir, fmt.Sprintf(nginxLocation, r.dir, "pool", "fastcgi_keep_conn on;")+" } include "+conf+"; server { listen "+upstream+";")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 8 {
				if got := do(t, "GET", url+"/nap.sh", nil); got.status != 200 || got.body != "rested" {
					t.Errorf("got %d %q", got.status, got.body)
				}
			}
		})
	}
	wg.Wait()
	if got := r.status(t).Pools[0].Connections; got == 0 || got > 32 {
		t.Errorf("%d connections are kept", got)
	}
	r.good(t, r.tcp)
	r.awaitOutcome(t, "ok", 129)
}

// The tool of libfcgi exits with the program's status.
func TestCgiFcgi(t *testing.T) {
	r := newRig(t, "", "stderr: client")
	r.script(t, "three.sh", "#!/bin/sh\nread line\necho oh dear >&2\nprintf 'Content-Type: text/plain\\n\\ngot %s' \"$line\"\nexit 3\n")
	for _, address := range []string{r.unix, r.tcp} {
		cmd := exec.Command(need(t, "cgi-fcgi"), "-bind", "-connect", address)
		cmd.Env = []string{"REQUEST_METHOD=POST", "CONTENT_LENGTH=4", "SCRIPT_FILENAME=" + r.dir + "/cgi/three.sh"}
		cmd.Stdin = strings.NewReader("abc\n")
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 3 || !strings.HasSuffix(stdout.String(), "\r\n\r\ngot abc") || stderr.String() != "oh dear\n" {
			t.Errorf("%s: exit status %d, stdout %q, stderr %q", address, code, &stdout, &stderr)
		}
	}
}

func TestCaddy(t *testing.T) {
	r := newExerciseRig(t, "")
	// Without split the whole path is PATH_INFO, and SCRIPT_NAME is empty.
	const split, whole = "split .sh", "env SCRIPT_FILENAME %s/cgi{http.request.uri.path}"
	for name, c := range map[string][2]string{
		"unix": {"unix/" + r.unix, split}, "tcp": {r.tcp, split}, "without split": {"unix/" + r.unix, fmt.Sprintf(whole, r.dir)},
	} {
		t.Run(name, func(t *testing.T) {
			dir, address := folder(t), freeAddress(t)
			conf := write(t, dir+"/Caddyfile", fmt.Sprintf(`{
	admin off
	auto_https off
}
http://%s {
	reverse_proxy %s {
		transport fastcgi {
			root %s/cgi
			%s
		}
	}
}
`, address, c[0], r.dir, c[1]))
			cmd := exec.Command(need(t, "caddy"), "run", "--config", conf, "--adapter", "caddyfile")
			cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
			start(t, cmd)
			listening(t, "tcp", address)
			exercise(t, r, front{url: "http://" + address})
		})
	}
}
