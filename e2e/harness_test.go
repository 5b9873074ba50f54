//go:build e2e

// Package e2e runs the real daemon behind real web servers. Its tests need the
// Debian packages that `make test` installs, and fail when one is missing.
//
// The daemon is built as the tests are: `go test -race` has one with the race
// detector, `go test` the one that users get. They make other system calls.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

// binary is the daemon that TestMain has built.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "fcgid-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		// Programs run as the user who runs the tests, web servers as others.
		os.Chmod(dir, 0o755)
		// What a daemon leaves behind is looked for, and others may run daemons too.
		os.Setenv("TMPDIR", dir)
		binary = filepath.Join(dir, "fcgid")
		if err := build(underRace(), binary, "../cmd/fcgid"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// underRace reports whether the tests were built with the race detector.
func underRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// build builds a program with the race detector, or as `make` builds the daemon.
func build(race bool, program, source string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if race {
		cmd = exec.Command("go", "build", "-race", "-o", program, source)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// need is the path of a program that a test cannot do without.
func need(t testing.TB, name string) string {
	t.Helper()
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/lib/git-core/" + name, "/usr/lib/cgit/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed; `make test` installs what the tests need", name)
	return ""
}

// folder is a short-named folder that every user can read: a Unix socket's name
// holds 107 bytes.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "f")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// script writes an executable file.
func script(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := create(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// write writes a file.
func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := create(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// create puts a file in its place when it is whole: a daemon may be reading the one
// that was there. No process is forked meanwhile, since that would hold the file open
// for writing until it executes something, and what is open for writing cannot be
// executed (ETXTBSY).
func create(path, text string, mode os.FileMode) error {
	part := path + ".part"
	syscall.ForkLock.RLock()
	err := os.WriteFile(part, []byte(text), mode)
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	return os.Rename(part, path)
}

// A process is a program that a test has started and that ends with it.
type process struct {
	*exec.Cmd
	t    testing.TB
	out  *output
	done chan struct{} // closed when it has exited
	err  error         // of Wait, once done
}

// output collects what a program prints. It may be read meanwhile.
type output struct {
	mu  sync.Mutex // guards the field below
	buf bytes.Buffer
}

// Write collects p.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String is what has been collected.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start starts a program in the background. It gets TERM at the end of the test,
// and KILL when it does not end by that; its output is shown if the test fails.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{Cmd: cmd, t: t, out: new(output), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(20 * time.Second):
			t.Errorf("%s did not end by TERM", cmd.Path)
			p.signal(syscall.SIGKILL)
			<-p.done
		}
		if t.Failed() {
			t.Logf("%s %v printed:\n%s", cmd.Path, cmd.Args[1:], tail(p.out.String(), 8000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

func (p *process) signal(s syscall.Signal) {
	select {
	case <-p.done:
	default:
		p.Process.Signal(s)
	}
}

// insist sends a signal again and again until the program has exited: one that
// follows another at once counts as the same.
func (p *process) insist(s syscall.Signal) {
	p.t.Helper()
	await(p.t, p.Path+" to give in", func() bool {
		p.signal(s)
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	})
}

// exitCode waits for the program to exit.
func (p *process) exitCode() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("%s does not exit", p.Path)
	}
	return p.ProcessState.ExitCode()
}

// A daemon is a running fcgid.
type daemon struct {
	*process
	dir   string
	file  string // its configuration
	admin string // address of its admin server, host:port
}

// serve starts the daemon with these pools, as they stand in its file below
// "pools:", and waits until it is ready. It makes dir its folder.
func serve(t testing.TB, dir, pools string) *daemon {
	t.Helper()
	return serveProgram(t, binary, dir, pools)
}

// serveProgram is serve with a daemon that has functions of its own.
func serveProgram(t testing.TB, program, dir, pools string) *daemon {
	t.Helper()
	d := &daemon{dir: dir, file: filepath.Join(dir, "fcgid.yaml"), admin: freeAddress(t)}
	d.configure(pools)
	t.Cleanup(func() { // after it has ended
		if d.process != nil && strings.Contains(d.out.String(), "DATA RACE") {
			t.Errorf("the daemon has a data race:\n%s", tail(d.out.String(), 20000))
		}
	})
	cmd := exec.Command(program, "serve", "-c", d.file)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10") // a second, if not told
	d.process = start(t, cmd)
	await(t, "the daemon to be ready", func() bool {
		select {
		case <-d.done:
			t.Fatalf("the daemon has exited: %v\n%s", d.err, d.out)
		default:
		}
		status, _ := get(t, "http://"+d.admin+"/-/ready")
		return status == 200
	})
	return d
}

// configure writes the daemon's file.
func (d *daemon) configure(pools string) {
	text := "log: {level: debug}\nadmin: {listen: \"tcp:" + d.admin + "\"}\nshutdown_timeout: 10s\npools:\n" + pools
	if err := create(d.file, text, 0o644); err != nil {
		panic(err)
	}
}

// reload sends HUP and waits until the daemon has read its file.
func (d *daemon) reload(t testing.TB) {
	t.Helper()
	before := d.status(t).Reload.Time
	d.signal(syscall.SIGHUP)
	await(t, "the reload", func() bool { return d.status(t).Reload.Time != before })
}

// A status is a part of the admin server's /status.
type status struct {
	PID    int `json:"pid"`
	Reload struct {
		Time  string
		OK    bool
		Error string
	} `json:"last_reload"`
	Pools []struct {
		Name        string
		State       string
		Connections int
		Running     int `json:"requests_running"`
		Queued      int `json:"requests_queued"`
		Requests    []struct {
			ID     uint64
			Stage  string
			PID    int
			Script string
			Method string
			URI    string
		}
	}
}

func (d *daemon) status(t testing.TB) status {
	t.Helper()
	code, body := get(t, "http://"+d.admin+"/status")
	var s status
	if err := json.Unmarshal([]byte(body), &s); err != nil || code != 200 {
		t.Fatalf("/status: %d %v\n%s", code, err, body)
	}
	return s
}

// metric is the value of one series, such as `fcgid_requests_total{outcome="ok",pool="cgi"}`.
func (d *daemon) metric(t testing.TB, series string) string {
	t.Helper()
	_, body := get(t, "http://"+d.admin+"/metrics")
	for line := range strings.Lines(body) {
		if v, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// freeAddress is a loopback address that nothing listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await polls until what is wanted is there, for a minute at most.
func await(t testing.TB, what string, there func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !there() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// listening waits until somebody accepts connections at an address.
func listening(t testing.TB, network, address string) {
	t.Helper()
	await(t, address+" to accept connections", func() bool {
		c, err := net.Dial(network, address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// get fetches a page; a status of 0 tells that there was no answer.
func get(t testing.TB, url string) (status int, body string) {
	t.Helper()
	client := http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(b)
}

// run runs a program to its end and returns what it printed.
func run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// nginx starts nginx with a server block's content and returns its address.
func nginx(t testing.TB, dir, server string) string {
	t.Helper()
	return nginxWith(t, dir, "", server)
}

// nginxWith is nginx with more in its http block, such as an upstream.
func nginxWith(t testing.TB, dir, more, server string) string {
	t.Helper()
	address := freeAddress(t)
	conf := write(t, filepath.Join(dir, "nginx.conf"), fmt.Sprintf(`
daemon off; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log; user %[4]s;
worker_processes 2;
events { worker_connections 1024; }
http {
  access_log off; client_max_body_size 0;
  client_body_temp_path %[1]s/body; fastcgi_temp_path %[1]s/fastcgi; proxy_temp_path %[1]s/proxy;
  uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
  %[5]s
  server { listen %[2]s; %[3]s }
}`, dir, address, server, currentUser(), more))
	start(t, exec.Command(need(t, "nginx"), "-c", conf, "-p", dir))
	listening(t, "tcp", address)
	return "http://" + address
}

// currentUser is who runs the tests: web servers run as the same, so that
// they reach sockets with the default mode.
func currentUser() string {
	if os.Getuid() == 0 {
		return "root"
	}
	return os.Getenv("USER")
}

// ask sends one request straight to a pool and returns its answer.
func ask(t testing.TB, network, address string, req *fcgi.Request) (fcgi.Result, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := fcgi.Dial(ctx, network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out bytes.Buffer
	req.Stdout = &out
	res, err := c.Do(ctx, req)
	if err != nil {
		t.Fatalf("request %s: %v (got %q)", req.Params.Get("SCRIPT_FILENAME"), err, out.String())
	}
	return res, out.String()
}

// params are those of a GET of a script, and more as name, value, name, value.
func params(script string, more ...string) fcgi.Params {
	p := fcgi.Params{
		{Name: "REQUEST_METHOD", Value: "GET"}, {Name: "SCRIPT_FILENAME", Value: script},
		{Name: "SCRIPT_NAME", Value: "/" + filepath.Base(script)}, {Name: "REQUEST_URI", Value: "/" + filepath.Base(script)},
		{Name: "SERVER_PROTOCOL", Value: "HTTP/1.1"}, {Name: "QUERY_STRING", Value: ""},
	}
	for i := 0; i+1 < len(more); i += 2 {
		p.Set(more[i], more[i+1])
	}
	return p
}
