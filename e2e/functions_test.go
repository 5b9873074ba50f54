//go:build e2e

package e2e

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// buildProgram builds a daemon that has functions of its own.
func buildProgram(t testing.TB, source string) string {
	t.Helper()
	program := filepath.Join(folder(t), "program")
	if err := harness.Build(wiretest.UnderRace(), program, source); err != nil {
		t.Fatal(err)
	}
	return program
}

// misbehaving is a daemon whose functions misbehave, built once.
var misbehaving = sync.OnceValues(func() (string, error) {
	program := filepath.Join(filepath.Dir(binary), "misbehaving")
	return program, harness.Build(wiretest.UnderRace(), program, "./testdata/functions")
})

// function is a request for a function.
func function(name string, more ...string) *fcgi.Request {
	return &fcgi.Request{Close: true, Params: params(name, more...)}
}

func wantAnswer(t testing.TB, s *site, req *fcgi.Request, status uint32, has string) {
	t.Helper()
	res, answer := ask(t, s.network, s.address, req)
	if res.AppStatus != status || !strings.Contains(answer, has) {
		t.Errorf("%s: got appStatus %d and %q, want %d and %q", req.Params.Get("SCRIPT_FILENAME"), res.AppStatus, answer, status, has)
	}
}

// The functions that every fcgid has, over both kinds of sockets.
func TestOwnFunctions(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := newSite(t, network, "function: {names: [fcgid.ping, fcgid.echo]}")
			wantAnswer(t, s, function("fcgid.ping"), 0, "\r\n\r\npong\n")
			wantAnswer(t, s, function("/any/where/fcgid.ping"), 0, "\r\n\r\npong\n")
			wantAnswer(t, s, function("", "SCRIPT_NAME", "/fcgid.ping"), 0, "\r\n\r\npong\n")
			wantAnswer(t, s, function("/bin/sh"), 404, "Status: 404 Not Found\r\n")

			body := strings.Repeat("some text\n", 20000)
			echo := function("fcgid.echo", "CONTENT_LENGTH", fmt.Sprint(len(body)), "HTTP_X_ODD", "two\nlines")
			echo.Stdin = strings.NewReader(body)
			wantAnswer(t, s, echo, 0, fmt.Sprintf("\nbody: %d bytes, sha256 %x\n", len(body), sha256.Sum256([]byte(body))))
			wantAnswer(t, s, function("fcgid.echo", "HTTP_X_ODD", "two\nlines"), 0, "\nHTTP_X_ODD=\"two\\nlines\"\n")
			s.awaitMetric(t, `fcgid_requests_total{outcome="rejected",pool="cgi"}`, "1")
		})
	}
}

// Without names a pool has those functions only that tell nothing of others.
func TestFunctionsOfAPoolWithoutNames(t *testing.T) {
	for _, empty := range []string{"{}", "{names: []}"} {
		s := newSite(t, "unix", "function: "+empty)
		wantAnswer(t, s, function("fcgid.ping"), 0, "pong")
		wantAnswer(t, s, function("fcgid.echo"), 404, "Status: 404")
		wantAnswer(t, s, function("fcgid.status"), 404, "Status: 404")
	}
}

// The status of a pool as text with php-fpm's names, and as JSON.
func TestStatusFunction(t *testing.T) {
	s := newSite(t, "unix", "function: {names: [fcgid.status]}")
	wantAnswer(t, s, function("fcgid.status"), 0, "\npool:                 cgi\nprocess manager:      function\n")
	wantAnswer(t, s, function("fcgid.status"), 0, "\nactive processes:     1\n")
	wantAnswer(t, s, function("fcgid.status", "QUERY_STRING", "full"), 0, "\nscript:               fcgid.status\n")
	wantAnswer(t, s, function("fcgid.status", "QUERY_STRING", "pool=other"), 404, "Status: 404")
	wantAnswer(t, s, function("fcgid.status", "QUERY_STRING", "%zz"), 400, "Status: 400")
	wantAnswer(t, s, function("fcgid.ping"), 404, "Status: 404") // not one of the pool's

	_, answer := ask(t, s.network, s.address, function("fcgid.status", "QUERY_STRING", "json&full"))
	_, text, _ := strings.Cut(answer, "\r\n\r\n")
	var page struct {
		Name, Runner string
		Requests     []struct{ Script string }
	}
	if err := json.Unmarshal([]byte(text), &page); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	// The request before may still be on its way out.
	if page.Name != "cgi" || page.Runner != "function" || len(page.Requests) == 0 || page.Requests[len(page.Requests)-1].Script != "fcgid.status" {
		t.Errorf("got %+v", page)
	}
}

// A client need not know where a function lies.
func TestRequestOfFunction(t *testing.T) {
	s := newSite(t, "unix", "function: {}")
	out := run(t, exec.Command(binary, "request", "unix:"+s.address, "--script", "fcgid.ping"))
	if out != "pong\n" {
		t.Errorf("got %q", out)
	}
}

// What is wrong with a function pool is said before it runs.
func TestUnknownFunctionIsAFault(t *testing.T) {
	dir := folder(t)
	file := write(t, dir+"/f.yaml", "pools:\n- name: f\n  listen: unix:"+dir+"/s\n  function:\n    names: [fcgid.pong]\n")
	out, err := exec.Command(binary, "check", "-c", file).CombinedOutput()
	if err == nil || !strings.Contains(string(out), file+":5:13: ") || !strings.Contains(string(out), "did you mean fcgid.ping?") {
		t.Errorf("got %v and %s", err, out)
	}
}

// A pool may change from programs to functions and back: its socket stays.
func TestFunctionReloadOfKind(t *testing.T) {
	s := newSite(t, "unix", simple)
	hello := s.script("hello", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nprogram'\n")
	for range 3 {
		wantAnswer(t, s, function(hello), 0, "program")
		wantAnswer(t, s, function("/fcgid.ping"), 404, "Status: 404")
		s.configure(s.pool("cgi", "function: {}"))
		s.reload(t)
		wantAnswer(t, s, function("fcgid.ping"), 0, "pong")
		wantAnswer(t, s, function(hello), 404, "Status: 404")
		s.configure(s.pool("cgi", simple))
		s.reload(t)
	}
}

// The example is a whole daemon: it has the commands and its functions.
func TestExampleFunctions(t *testing.T) {
	program := buildProgram(t, "../examples/functions")
	if out := run(t, exec.Command(program, "version")); !strings.HasPrefix(out, "fcgid ") {
		t.Errorf("version: got %q", out)
	}
	s := &site{t: t, dir: folder(t), network: "unix"}
	s.address = s.dir + "/s"
	pools, _ := strings.CutPrefix(exampleFile(t, s, "functions.yaml"), "pools:\n")
	s.daemon = serveProgram(t, program, s.dir, pools)
	run(t, exec.Command(program, "check", "-c", s.file))
	url := nginx(t, s.dir, strings.ReplaceAll(exampleFile(t, s, "nginx.conf"), "include fastcgi_params", "include /etc/nginx/fastcgi_params"))

	if code, body := get(t, url+"/hello"); code != 200 || body != "Hello 127.0.0.1\n" {
		t.Errorf("hello: got %d %q", code, body)
	}
	if code, _ := get(t, url+"/clock/none"); code != 404 {
		t.Errorf("nginx: got %d for what it does not know", code)
	}
	res, err := http.Get(url + "/clock")
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(res.Body); lines.Scan() && len(lines.Text()) != len("15:04:05"); {
		t.Errorf("clock: got %q", lines.Text())
	}
	res.Body.Close() // and so the function ends
	await(t, "the clock to stop", func() bool { return len(s.status(t).Pools[0].Requests) == 0 })
	s.awaitMetric(t, `fcgid_requests_total{outcome="aborted",pool="functions"}`, "1")
}

// exampleFile is a file of the example with the test's socket in it, and without
// the comment it begins with.
func exampleFile(t testing.TB, s *site, name string) string {
	t.Helper()
	text, err := os.ReadFile("../examples/functions/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			kept.WriteString(line)
		}
	}
	return strings.ReplaceAll(kept.String(), "/tmp/functions.sock", s.address)
}

// newFunctionSite is a site whose functions misbehave.
func newFunctionSite(t testing.TB, network, pool string) *site {
	t.Helper()
	s := &site{t: t, dir: folder(t), network: network}
	s.address = s.dir + "/s"
	if network == "tcp" {
		s.address = freeAddress(t)
	}
	program, err := misbehaving()
	if err != nil {
		t.Fatal(err)
	}
	s.daemon = serveProgram(t, program, s.dir, s.pool("cgi", pool))
	return s
}

// A function that panics fails its request, and no other.
func TestFunctionPanics(t *testing.T) {
	s := newFunctionSite(t, "unix", "function: {}")
	wantAnswer(t, s, function("panic"), 500, "Status: 500 Internal Server Error\r\n")
	wantAnswer(t, s, function("status"), 7, "seven")
	await(t, "what the function wrote to STDERR", func() bool { // the log is written after the answer
		return strings.Contains(s.out.String(), `"msg":"function stderr","pool":"cgi","line":"about to fail","request":2,`)
	})
	log := s.out.String()
	if !strings.Contains(log, "out of cheese") || !strings.Contains(log, "testdata/functions/main.go:") {
		t.Errorf("the log lacks the panic or its stack:\n%s", log)
	}
	s.awaitMetric(t, `fcgid_responses_total{code="5xx",pool="cgi"}`, "1")
}

// At the timeout the client gets 408 and the place is free, also when the function
// does not care. It is counted until it returns, and takes a place after a second: there
// are never more of them than max_reqs.
func TestFunctionTimeout(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := newFunctionSite(t, network, "timeout: 200ms, limits: {max_reqs: 2, queue: 0}, function: {}")
			wantAnswer(t, s, function("obedient"), 408, "Status: 408 Request Timeout\r\n")
			wantAnswer(t, s, function("deaf", "QUERY_STRING", s.dir+"/go"), 408, "Status: 408 Request Timeout\r\n")
			wantAnswer(t, s, function("fcgid.ping"), 0, "pong")
			overdue := func() string { return s.metric(t, `fcgid_functions_overdue{pool="cgi"}`) }
			await(t, "the function to be overdue", func() bool { return overdue() == "1" })
			wantAnswer(t, s, function("deaf", "QUERY_STRING", s.dir+"/go"), 408, "Status: 408 Request Timeout\r\n")
			await(t, "the next to be overdue", func() bool { return overdue() == "2" })
			wantAnswer(t, s, function("fcgid.ping"), 503, "Status: 503 Service Unavailable\r\n")
			if pool := s.status(t).Pools[0]; pool.Running != 2 || pool.Overdue != 2 {
				t.Errorf("%d run, %d are overdue", pool.Running, pool.Overdue)
			}
			await(t, "the log", func() bool { return strings.Contains(s.out.String(), "2 of them by functions that do not return") })
			write(t, s.dir+"/go", "")
			await(t, "the functions to return", func() bool { return overdue() == "0" })
			wantAnswer(t, s, function("fcgid.ping"), 0, "pong")
			s.awaitMetric(t, `fcgid_requests_total{outcome="timeout",pool="cgi"}`, "3")
		})
	}
}

// A function that never returns does not keep the daemon from stopping.
func TestStopWithDeafFunction(t *testing.T) {
	t.Setenv("FCGID_SHUTDOWN_TIMEOUT", "100ms")
	s := newFunctionSite(t, "unix", "timeout: 100ms, function: {}")
	wantAnswer(t, s, function("deaf", "QUERY_STRING", s.dir+"/never"), 408, "Status: 408")
	s.signal(syscall.SIGTERM)
	if code := s.exitCode(); code != 0 {
		t.Errorf("exit status: got %d, want 0", code)
	}
	if !strings.Contains(s.out.String(), "functions that do not return") {
		t.Errorf("the log does not tell:\n%s", s.out)
	}
}

// A name that is fcgid's own cannot be taken.
func TestReservedName(t *testing.T) {
	source := write(t, folder(t)+"/main.go", `package main

import (
	"context"

	"github.com/fcgid/fcgid"
	"github.com/fcgid/fcgid/fcgi"
)

func main() {
	var functions fcgi.Registry
	functions.HandleFunc("fcgid.mine", func(context.Context, *fcgi.Request) (uint32, error) { return 0, nil })
	fcgid.Main(&functions)
}
`)
	out, err := exec.Command(buildProgram(t, source), "version").CombinedOutput()
	if err == nil || !strings.Contains(string(out), `"fcgid.mine"`) {
		t.Errorf("got %v and %s", err, out)
	}
}
