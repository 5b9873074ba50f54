//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

// A site is a daemon with the pool "cgi", whose scripts lie in dir/cgi, and
// perhaps an nginx before it.
type site struct {
	*daemon
	t                testing.TB
	dir              string
	network, address string // of the pool, as net.Dial wants them
	url              string // of nginx
}

// newSite starts the daemon. The pool is what follows name and listen in its
// entry of the file; DIR in it is the site's folder.
func newSite(t testing.TB, network, pool string) *site {
	t.Helper()
	s := &site{t: t, dir: folder(t), network: network}
	if err := os.Mkdir(s.dir+"/cgi", 0o755); err != nil {
		t.Fatal(err)
	}
	s.address = s.dir + "/s"
	if network == "tcp" {
		s.address = freeAddress(t)
	}
	s.daemon = serve(t, s.dir, s.pool("cgi", pool))
	return s
}

// simple is the pool of most sites.
const simple = "process: {root: [DIR/cgi]}"

// pool is an entry of the daemon's file that listens at the site's address.
func (s *site) pool(name, rest string) string {
	return fmt.Sprintf("- {name: %s, listen: '%s:%s', %s}\n", name, s.network, s.address, s.here(rest))
}

// here puts the site's folder in the place of DIR.
func (s *site) here(text string) string { return strings.ReplaceAll(text, "DIR", s.dir) }

// script writes a program into the folder of scripts and returns its path.
func (s *site) script(name, text string) string {
	s.t.Helper()
	return script(s.t, s.dir+"/cgi/"+name, s.here(text))
}

// keepAlive is nginx's way of using a connection again.
const keepAlive = "fastcgi_keep_conn on;"

// nginx starts nginx, with these directives for all that goes to the pool.
func (s *site) nginx(directives string) {
	s.t.Helper()
	upstream, keep := s.address, ""
	if s.network == "unix" {
		upstream = "unix:" + s.address
	}
	if strings.Contains(directives, keepAlive) {
		keep = "keepalive 16;"
	}
	if !strings.Contains(directives, "SCRIPT_FILENAME") {
		directives += " fastcgi_param SCRIPT_FILENAME DIR/cgi$fastcgi_script_name;"
	}
	s.url = nginxWith(s.t, s.dir, fmt.Sprintf("upstream pool { server %s; %s }", upstream, keep),
		fmt.Sprintf("location / { include /etc/nginx/fastcgi_params; %s fastcgi_pass pool; }", s.here(directives)))
}

// nginxLog is what nginx has complained about.
func (s *site) nginxLog() string {
	b, _ := os.ReadFile(s.dir + "/nginx.log")
	return string(b)
}

// ask sends a request straight to the pool. Without a body it is a GET.
func (s *site) ask(script string, body []byte, more ...string) (fcgi.Result, string) {
	s.t.Helper()
	req := &fcgi.Request{Close: true, Params: params(script, more...)}
	if body != nil {
		req.Stdin = bytes.NewReader(body)
		req.Params.Set("REQUEST_METHOD", "POST")
		req.Params.Set("CONTENT_LENGTH", strconv.Itoa(len(body)))
	}
	return ask(s.t, s.network, s.address, req)
}

// An answer is one that a request in the background has got.
type answer struct {
	fcgi.Result
	body string
	err  error
}

// askLater sends a request straight to the pool and returns at once. When ctx
// ends, its connection is closed.
func (s *site) askLater(ctx context.Context, script string, more ...string) <-chan answer {
	s.t.Helper()
	c, err := fcgi.Dial(ctx, s.network+":"+s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan answer, 1)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	go func() {
		defer c.Close()
		defer stop()
		var out bytes.Buffer
		// Its end closes the connection; an ABORT_REQUEST is not what is meant.
		res, err := c.Do(context.Background(), &fcgi.Request{Close: true, Params: params(script, more...), Stdout: &out})
		done <- answer{res, out.String(), err}
	}()
	return done
}

// wait is what comes of c, within a minute.
func wait[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// httpDo sends a request and returns the answer with its body read.
func httpDo(t testing.TB, req *http.Request) (*http.Response, string) {
	t.Helper()
	client := http.Client{
		Timeout:       2 * time.Minute,
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v after %d bytes", req.Method, req.URL, err, len(body))
	}
	return res, string(body)
}

// request is an HTTP request of the site; header is name, value, name, value.
func (s *site) request(method, path string, body io.Reader, header ...string) *http.Request {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return req
}

// A gate stops programs until the test lets them go on: one that runs
// `echo something >DIR/in; read x <DIR/go` has arrived, and waits.
type gate struct {
	t       testing.TB
	in, out *os.File
	lines   *bufio.Reader
}

func newGate(t testing.TB, dir string) *gate {
	t.Helper()
	open := func(name string) *os.File {
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o666); err != nil {
			t.Fatal(err)
		}
		// Open both ways, so that no open of the programs waits for us.
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	g := &gate{t: t, in: open("in"), out: open("go")}
	g.lines = bufio.NewReader(g.in)
	return g
}

// arrived is what the next program says that arrives.
func (g *gate) arrived() string {
	g.t.Helper()
	g.in.SetReadDeadline(time.Now().Add(time.Minute))
	line, err := g.lines.ReadString('\n')
	if err != nil {
		g.t.Fatalf("no program arrives: %v", err)
	}
	return strings.TrimSpace(line)
}

// pids are those that the next program says when it arrives.
func (g *gate) pids() []int {
	g.t.Helper()
	var pids []int
	for _, field := range strings.Fields(g.arrived()) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			g.t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	g.t.Cleanup(func() {
		for _, pid := range pids {
			if alive(pid) {
				g.t.Logf("process %d was still there", pid)
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	})
	return pids
}

// release lets n programs go on.
func (g *gate) release(n int) {
	g.t.Helper()
	if _, err := g.out.WriteString(strings.Repeat("\n", n)); err != nil {
		g.t.Fatal(err)
	}
}

// awaitIdle waits until nothing runs or waits in the site's pool.
func (s *site) awaitIdle() {
	s.t.Helper()
	await(s.t, "the pool to be idle", func() bool {
		p := s.status(s.t).Pools[0]
		return p.Running == 0 && p.Queued == 0 && len(p.Requests) == 0
	})
}
