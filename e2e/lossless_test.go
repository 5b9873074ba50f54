//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// echoProgram is a CGI program that answers with its body, as fast as a program can.
const echoProgram = `#include <stdio.h>
#include <unistd.h>
int main(void) {
  char part[65536];
  ssize_t n;
  if (write(1, "Content-Type: text/plain\n\n", 26) != 26) return 1;
  while ((n = read(0, part, sizeof part)) > 0)
    if (write(1, part, n) != n) return 1;
  return 0;
}`

// A lossless is a daemon behind nginx, with a pool of each kind on a Unix socket and on a TCP
// port, and the clients that ask it all the time.
type lossless struct {
	*upgradable
	url  string
	tcp  [3]string
	echo string

	answered, posts atomic.Int64
	mu              sync.Mutex // guards faults
	faults          []string
}

// losslessPools are the daemon's pools. Each has something in it that a number changes, which
// for workers means to replace them all.
const losslessPools = `
- {name: process, listen: ['unix:DIR/process', 'tcp:TCP0'], env: [GEN=N], process: {root: [DIR/cgi]}}
- {name: worker, listen: ['unix:DIR/worker', 'tcp:TCP1'], env: [GEN=N], worker: {command: COMMAND, scale: static, max: 4}}
- {name: function, listen: ['unix:DIR/function', 'tcp:TCP2'], limits: {queue: 10N}, function: {}}
`

func (l *lossless) pools(n int) string {
	return strings.NewReplacer("DIR", l.dir, "TCP0", l.tcp[0], "TCP1", l.tcp[1], "TCP2", l.tcp[2],
		"GEN=N", "GEN="+strconv.Itoa(n), "10N", strconv.Itoa(1000+n), "COMMAND", workerCommand(l.t, "c")).Replace(losslessPools)
}

// locations are the ways to ask: each pool, at each of its addresses, by connections that
// nginx keeps and by new ones.
var locations = func() (all []string) {
	for _, pool := range []string{"process", "worker", "function"} {
		for _, network := range []string{"unix", "tcp"} {
			for _, keep := range []string{"kept", "fresh"} {
				all = append(all, "/"+pool+"/"+network+"/"+keep)
			}
		}
	}
	return all
}()

// newLossless starts nginx before the daemon. It asks nothing twice: what would hide a
// connection that was lost is off.
func newLossless(t testing.TB, isApart bool) *lossless {
	t.Helper()
	l := &lossless{tcp: [3]string{freeAddress(t), freeAddress(t), freeAddress(t)}}
	l.upgradable = newUpgradable(t, isApart, "- {name: function, listen: 'unix:DIR/function', function: {}}\n")
	l.echo = l.dir + "/cgi/echo"
	run(t, exec.Command(need(t, "gcc"), "-static", "-O2", "-o", l.echo, write(t, l.dir+"/echo.c", echoProgram)))
	l.configure(l.pools(0))
	l.upgrade().is(t, "the first upgrade, to other pools", 0)

	var upstreams, server strings.Builder
	for i, pool := range []string{"process", "worker", "function"} {
		script := map[string]string{"process": l.echo, "worker": appScript, "function": "fcgid.ping"}[pool]
		for network, address := range map[string]string{"unix": "unix:" + l.dir + "/" + pool, "tcp": l.tcp[i]} {
			fmt.Fprintf(&upstreams, "upstream %s_%s_kept { server %s max_fails=0; keepalive 64; keepalive_requests 100000; }\n", pool, network, address)
			fmt.Fprintf(&upstreams, "upstream %s_%s_fresh { server %s max_fails=0; }\n", pool, network, address)
			for _, keep := range []string{"kept", "fresh"} {
				fmt.Fprintf(&server, `location /%[1]s/%[2]s/%[3]s { include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME %[4]s;
fastcgi_pass %[1]s_%[2]s_%[3]s; fastcgi_keep_conn %[5]s; fastcgi_next_upstream off; }
`, pool, network, keep, script, map[string]string{"kept": "on", "fresh": "off"}[keep])
			}
		}
	}
	l.url = nginxWith(t, l.dir, upstreams.String(), server.String())
	return l
}

// ask asks at all locations in turn, every second time with a body, until stop is closed.
func (l *lossless) ask(client int, stop <-chan struct{}) {
	transport := &http.Transport{DisableKeepAlives: client%2 == 0}
	defer transport.CloseIdleConnections()
	to := http.Client{Transport: transport, Timeout: time.Minute}
	body := strings.Repeat(strconv.Itoa(client), 3000)
	for i := client; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		location, method, sent := locations[i%len(locations)], "GET", ""
		if (i/len(locations)+client)%2 == 0 {
			method, sent = "POST", body
			l.posts.Add(1)
		}
		if err := l.once(&to, method, location, sent); err != nil {
			l.fault("%s %s: %v", method, location, err)
		}
		l.answered.Add(1)
	}
}

func (l *lossless) once(to *http.Client, method, location, sent string) error {
	req, err := http.NewRequest(method, l.url+location+"?echo", bytes.NewReader([]byte(sent)))
	if err != nil {
		return err
	}
	res, err := to.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err
	case res.StatusCode != 200:
		return fmt.Errorf("status %d", res.StatusCode)
	case !strings.HasPrefix(location, "/function") && !bytes.Contains(got, []byte(sent)):
		return fmt.Errorf("it does not answer with the body, but with %d bytes", len(got))
	}
	return nil
}

func (l *lossless) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

// Upgrades, and reloads of which each changes every pool, while clients ask through nginx on
// kept and on fresh connections, with and without a body: no request fails, and the counters and the access log have every one of them. make
// test-lossless does more of it.
func TestLossless(t *testing.T) {
	for name, isApart := range map[string]bool{"one process": false, "two processes": true} {
		t.Run(name, func(t *testing.T) {
			if isApart {
				needRoot(t)
			}
			testLossless(t, isApart)
		})
	}
}

func testLossless(t *testing.T, isApart bool) {
	clients, upgrades, reloads := 40, 3, 2
	if os.Getenv("FCGID_TEST_LOSSLESS") != "" {
		clients, upgrades, reloads = 200, 20, 5
	}
	l := newLossless(t, isApart)
	stop := make(chan struct{})
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() { l.ask(client, stop) })
	}
	began, n := time.Now(), 0
	for range upgrades {
		for range reloads {
			n++
			l.configure(l.pools(n))
			code, _, stderr := fcgid(t, "/", nil, "reload", "--control", l.dir+"/control")
			if code != 0 {
				t.Errorf("reload %d: %d %s", n, code, stderr)
			}
		}
		l.upgrade().is(t, "upgrade", 0)
	}
	took := time.Since(began)
	close(stop)
	all.Wait()
	answered := l.answered.Load()
	t.Logf("%d upgrades and %d reloads in %v: %d requests, %d of them POST, %d failed", upgrades, n, took.Round(time.Second), answered, l.posts.Load(), len(l.faults))
	for i, fault := range l.faults {
		if i < 10 {
			t.Error(fault)
		}
	}
	if errors, _ := os.ReadFile(l.dir + "/nginx.log"); bytes.Contains(errors, []byte("[error]")) || bytes.Contains(errors, []byte("[crit]")) {
		t.Errorf("nginx has told of errors:\n%s", tail(string(errors), 2000))
	}
	awaitLines(t, l.dir+"/access", int(answered))
	await(t, "the counters to tell of all requests", func() bool {
		sum := 0
		for _, pool := range []string{"process", "worker", "function"} {
			ok, _ := strconv.ParseFloat(l.metric(t, `fcgid_requests_total{outcome="ok",pool="`+pool+`"}`), 64)
			sum += int(ok)
		}
		return sum == int(answered)
	})
}
