//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// lighttpd starts lighttpd and returns its address and the name of its error log.
func lighttpd(t testing.TB, root, conf string) (url, log string) {
	t.Helper()
	dir, address := folder(t), freeAddress(t)
	host, port, _ := strings.Cut(address, ":")
	log = write(t, dir+"/error.log", "")
	file := write(t, dir+"/lighttpd.conf", fmt.Sprintf(`
server.modules = ("mod_fastcgi")
server.bind = %q
server.port = %s
server.document-root = %q
server.errorlog = %q
server.upload-dirs = (%q)
mimetype.assign = ("" => "text/plain")
static-file.exclude-extensions = (".sh")
%s`, host, port, root, log, dir, conf))
	start(t, exec.Command(need(t, "lighttpd"), "-D", "-f", file))
	listening(t, "tcp", address)
	return "http://" + address, log
}

func TestLighttpd(t *testing.T) {
	r := newExerciseRig(t, "")
	host, port, _ := strings.Cut(r.tcp, ":")
	for name, c := range map[string]string{
		"unix":     fmt.Sprintf(`fastcgi.server = (".sh" => (("socket" => %q)))`, r.unix),
		"tcp":      fmt.Sprintf(`fastcgi.server = (".sh" => (("host" => %q, "port" => %s)))`, host, port),
		"streamed": fmt.Sprintf("server.stream-response-body = 2\n"+`fastcgi.server = (".sh" => (("socket" => %q)))`, r.unix),
	} {
		t.Run(name, func(t *testing.T) {
			url, log := lighttpd(t, r.dir+"/cgi", c)
			exercise(t, r, front{url: url, log: log})
		})
	}
}

// lighttpd names the protected file as the authorizer's script, so the authorizer
// is the interpreter of such files.
func TestLighttpdAuthorizer(t *testing.T) {
	dir := folder(t)
	authorizer := script(t, dir+"/authorizer.sh", fmt.Sprintf(authorizerScript, dir))
	script(t, dir+"/www/protected/page.txt", "the page")
	script(t, dir+"/www/open.txt", "open")
	d := serve(t, dir, fmt.Sprintf("- {name: cgi, listen: \"unix:%[1]s/s\", process: {root: [%[1]s/www], interpreters: [\".txt=%[2]s\"]}}\n", dir, authorizer))
	url, _ := lighttpd(t, dir+"/www", fmt.Sprintf(
		`fastcgi.server = ("/protected/" => (("socket" => "%s/s", "mode" => "authorizer", "check-local" => "disable")))`, dir))
	for range 3 {
		asks(t, url+"/protected/page.txt", "alice", "secret").is(t, "alice", 200, "the page")
		asks(t, url+"/protected/page.txt", "alice", "wrong").is(t, "wrong password", 401, "who are you?")
		asks(t, url+"/protected/page.txt", "", "").is(t, "nobody", 401, "who are you?")
		asks(t, url+"/open.txt", "", "").is(t, "open page", 200, "open")
	}
	d.awaitOutcome(t, "ok", 9)
}

// haproxy starts HAProxy before a pool and returns its address.
func haproxy(t testing.TB, r *rig, upstream, options string) string {
	t.Helper()
	dir, address := folder(t), freeAddress(t)
	conf := write(t, dir+"/haproxy.cfg", fmt.Sprintf(`
global
    nbthread 1
    log stdout format raw local0
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    http-reuse always
    retries 0
frontend www
    bind %s
    default_backend pool
backend pool
    use-fcgi-app cgi
    server one %s proto fcgi pool-max-conn 10
fcgi-app cgi
    log-stderr global
    docroot %s/cgi
    path-info ^(/[^/]+\.sh)(/.*)?$
%s`, address, upstream, r.dir, options))
	start(t, exec.Command(need(t, "haproxy"), "-db", "-f", conf))
	listening(t, "tcp", address)
	return "http://" + address
}

func TestHAProxy(t *testing.T) {
	r := newExerciseRig(t, "")
	for name, c := range map[string][2]string{
		"unix, a connection each": {"unix@" + r.unix, "    no option keep-conn\n"},
		"tcp, keep-conn":          {r.tcp, "    option keep-conn\n    option get-values\n"},
		"unix, multiplexed":       {"unix@" + r.unix, "    option keep-conn\n    option get-values\n    option mpxs-conns\n    option max-reqs 50\n"},
	} {
		t.Run(name, func(t *testing.T) {
			// HAProxy answers 400 itself to a chunked upload that is over its buffer.
			exercise(t, r, front{url: haproxy(t, r, c[0], c[1]), chunked: 8000})
		})
	}
}

// HAProxy sends several requests on one connection: those that wait do not delay
// their neighbours.
func TestHAProxyMultiplexes(t *testing.T) {
	r := newRig(t, "limits: {max_reqs: 20}", "")
	r.script(t, "wait.sh", "#!/bin/sh\nuntil [ -e "+r.dir+"/go ]; do sleep 0.02; done\nprintf 'Content-Type: text/plain\\n\\nwaited'\n")
	url := haproxy(t, r, r.tcp, "    option keep-conn\n    option get-values\n    option mpxs-conns\n    option max-reqs 50\n")
	do(t, "GET", url+"/hello.sh", nil).is(t, "hello", 200, "hello ")
	var waiting sync.WaitGroup
	for range 6 {
		waiting.Go(func() { do(t, "GET", url+"/wait.sh", nil).is(t, "one that waits", 200, "waited") })
	}
	await(t, "six requests to run", func() bool { return r.status(t).Pools[0].Running == 6 })
	for i := range 20 {
		do(t, "GET", fmt.Sprintf("%s/hello.sh?%d", url, i), nil).is(t, "their neighbour", 200, fmt.Sprintf("hello %d", i))
	}
	pool := r.status(t).Pools[0]
	if pool.Running != 6 || pool.Connections != 1 {
		t.Errorf("%d requests run on %d connections, want 6 on 1", pool.Running, pool.Connections)
	}
	if err := os.WriteFile(r.dir+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	waiting.Wait()
}
