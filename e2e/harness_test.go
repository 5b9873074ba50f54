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
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// binary is the daemon that TestMain has built.
var binary string

func TestMain(m *testing.M) { harness.Main(m, &binary) }

// The words of package harness, as the tests say them.
var (
	need        = harness.Need
	folder      = harness.Folder
	script      = harness.Script
	write       = harness.Write
	freeAddress = harness.FreeAddress
	await       = harness.Await
	listening   = harness.Listening
	run         = harness.Run
	tail        = harness.Tail
	alive       = harness.Alive
	procState   = harness.ProcState
	awaitGone   = harness.AwaitGone
	awaitPID    = harness.AwaitPID
)

// A process is a program that a test has started and that ends with it.
type process struct {
	*harness.Program
	t    testing.TB
	out  *harness.Output
	done <-chan struct{} // closed when it has exited
}

// start starts a program in the background, which is ended with the test.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := harness.Start(t, cmd)
	return &process{p, t, p.Out, p.Done}
}

func (p *process) signal(s syscall.Signal) { p.Signal(s) }

// insist sends a signal again and again until the program has exited: one that
// follows another at once counts as the same.
func (p *process) insist(s syscall.Signal) {
	p.t.Helper()
	await(p.t, p.Path+" to give in", func() bool {
		p.signal(s)
		return p.Exited()
	})
}

// exitCode waits for the program to exit.
func (p *process) exitCode() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.t.Fatalf("%s does not exit", p.Path)
	}
	return p.ProcessState.ExitCode()
}

// builtStock is the daemon that users get.
var builtStock = sync.OnceValues(func() (string, error) {
	if !wiretest.UnderRace() {
		return binary, nil
	}
	path := binary + "-stock"
	return path, harness.Build(false, path, harness.Module+"/cmd/fcgid")
})

// stock has a test run that, also where tests run with the race detector: it needs many
// times the memory.
func stock(t testing.TB) func(*exec.Cmd) {
	t.Helper()
	path, err := builtStock()
	if err != nil {
		t.Fatal(err)
	}
	return func(c *exec.Cmd) { c.Path, c.Args[0] = path, path }
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
	return launch(t, dir, pools, func(cmd *exec.Cmd) { cmd.Path, cmd.Args[0] = program, program })
}

// configure writes the daemon's file.
func (d *daemon) configure(pools string) {
	text := "log: {level: debug}\nadmin: {listen: \"tcp:" + d.admin + "\"}\nshutdown_timeout: 10s\npools:\n" + pools
	if err := harness.Create(d.file, text, 0o644); err != nil {
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
	Memory      int64 `json:"memory_bytes"`
	MemoryLimit int64 `json:"memory_limit_bytes"`
	Pools       []struct {
		Spooled     int64 `json:"spool_bytes"`
		Name        string
		State       string
		Connections int
		Running     int `json:"requests_running"`
		Overdue     int `json:"functions_overdue"`
		Outdated    struct {
			Workers int
			Why     string
		}
		Queued   int `json:"requests_queued"`
		Requests []struct {
			ID     uint64 `json:"request"`
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

// nginx starts nginx with a server block's content and returns its address.
func nginx(t testing.TB, dir, server string) string {
	t.Helper()
	return nginxWith(t, dir, "", server)
}

// nginxWith is nginx with more in its http block, such as an upstream.
func nginxWith(t testing.TB, dir, more, server string) string {
	t.Helper()
	return "http://" + harness.WebServer{Dir: dir, Global: more, Hosts: []string{server}}.Nginx(t)[0]
}

// ask sends one request straight to a pool and returns its answer.
func ask(t testing.TB, network, address string, req *fcgi.Request) (fcgi.Result, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := fcgi.Dial(ctx, network+":"+address)
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
