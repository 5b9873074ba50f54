//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

// hello makes a program that answers "hello $GEN" as fast as a program can.
func (s *site) hello() string {
	s.t.Helper()
	const source = `#include <stdio.h>
#include <stdlib.h>
int main(void) { char *g = getenv("GEN"); printf("Content-Type: text/plain\n\nhello %s", g ? g : ""); return 0; }`
	if gcc, err := exec.LookPath("gcc"); err == nil {
		binary := s.dir + "/cgi/hello"
		run(s.t, exec.Command(gcc, "-static", "-O2", "-o", binary, write(s.t, s.dir+"/hello.c", source)))
		return binary
	}
	return s.script("hello", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello %s' \"$GEN\"\n")
}

// A caller asks for the program hello once. Some requests have a body, which
// the program does not read.
type caller func(i int) (body string, err error)

// bodyOf is the body of the i-th request, nil for most.
func bodyOf(i int) []byte {
	if i%50 == 0 {
		return bytes.Repeat([]byte("b"), 300<<10)
	}
	return nil
}

// straight returns a caller with a connection of its own that it keeps.
func (s *site) straight(path string) (caller, func()) {
	var c *fcgi.Conn
	return func(i int) (string, error) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if c == nil {
				var err error
				if c, err = fcgi.Dial(ctx, s.network+":"+s.address); err != nil {
					return "", err
				}
			}
			var out bytes.Buffer
			req := &fcgi.Request{Params: params(path), Stdout: &out}
			if body := bodyOf(i); body != nil {
				req.Stdin = bytes.NewReader(body)
				req.Params.Set("CONTENT_LENGTH", strconv.Itoa(len(body)))
			}
			res, err := c.Do(ctx, req)
			if err == nil && res != (fcgi.Result{}) {
				err = fmt.Errorf("%+v %q", res, out.String())
			}
			_, body, _ := strings.Cut(out.String(), "\r\n\r\n")
			return body, err
		}, func() {
			if c != nil {
				c.Close()
			}
		}
}

// overHTTP returns a caller that goes through nginx.
func (s *site) overHTTP(path string) (caller, func()) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
	return func(i int) (string, error) {
		method, body := "GET", bodyOf(i)
		if body != nil {
			method = "POST"
		}
		req, err := http.NewRequest(method, s.url+"/"+filepath.Base(path), bytes.NewReader(body))
		if err != nil {
			return "", err
		}
		res, err := client.Do(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != 200 {
			err = fmt.Errorf("status %d %q", res.StatusCode, b)
		}
		return string(b), err
	}, client.CloseIdleConnections
}

// flood sends n requests by 8 workers and returns how often each body came. No
// request may fail.
func (s *site) flood(n int, newCaller func(worker int) (caller, func())) map[string]int {
	s.t.Helper()
	var mu sync.Mutex // guards bodies and failures
	bodies, failures := make(map[string]int), 0
	var next atomic.Int64
	var workers sync.WaitGroup
	for worker := range 8 {
		workers.Go(func() {
			call, end := newCaller(worker)
			defer end()
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				body, err := call(i)
				mu.Lock()
				bodies[body]++
				if err != nil {
					if failures++; failures <= 5 {
						s.t.Errorf("request %d: %v", i, err)
					}
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if failures > 0 {
		s.t.Errorf("%d of %d requests failed", failures, n)
	}
	return bodies
}

// storm reloads the daemon every 200 ms with the next of these configurations,
// until the function that it returns is called; that tells how often.
func (s *site) storm(configurations ...string) (end func() int) {
	stop, stopped := make(chan struct{}), make(chan int, 1)
	go func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			case <-tick.C:
				s.configure(configurations[n%len(configurations)])
				s.signal(syscall.SIGHUP)
			}
		}
	}()
	return func() int { close(stop); return <-stopped }
}

// resources are what a daemon must not collect.
type resources struct{ goroutines, fds, zombies, children, spools int }

func (s *site) resources() resources {
	s.t.Helper()
	var r resources
	r.goroutines, _ = strconv.Atoi(s.metric(s.t, "go_goroutines"))
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", s.Process.Pid))
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			r.fds++
			if strings.HasPrefix(to, os.TempDir()) && strings.HasSuffix(to, "(deleted)") {
				r.spools++
			}
		}
	}
	left, _ := filepath.Glob(os.TempDir() + "/fcgid-body-*")
	r.spools += len(left)
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		pid, _ := strconv.Atoi(filepath.Base(p))
		switch state, parent := procState(pid); {
		case parent != s.Process.Pid:
		case state == "Z":
			r.zombies++
		default:
			r.children++
		}
	}
	return r
}

// backTo waits until the daemon holds no more than it did before.
func (s *site) backTo(before resources) {
	s.t.Helper()
	var now resources
	defer func() {
		if s.t.Failed() {
			s.t.Logf("before %+v, now %+v", before, now)
		}
	}()
	await(s.t, "the daemon to hold no more than before", func() bool {
		now = s.resources()
		return now.goroutines <= before.goroutines && now.fds <= before.fds && now.zombies == 0 && now.children == 0 && now.spools == 0
	})
}

// stopNginx ends nginx, and with it the connections that it keeps.
func (s *site) stopNginx() {
	s.t.Helper()
	text, err := os.ReadFile(s.dir + "/nginx.pid")
	if err != nil {
		s.t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		s.t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGTERM)
	awaitGone(s.t, []int{pid})
}

// 10,000 requests, half of them through nginx, while the daemon is reloaded every 200 ms with a pool that
// really changes, and with another that comes and goes. None fails, and nothing
// is left behind.
func TestReloadUnderLoad(t *testing.T) {
	pools := func(s *site) []string {
		a := simple + ", env: [GEN=a], limits: {max_reqs: 8, queue: 100}"
		b := simple + ", env: [GEN=b], limits: {max_reqs: 4, queue: 200, body_memory: 4KiB, params: 64KiB}, timeout: 30s"
		return []string{s.pool("cgi", b), s.pool("cgi", a)}
	}
	comesAndGoes := func(s *site) []string {
		first := s.pool("cgi", simple+", env: [GEN=a], limits: {max_reqs: 8}")
		second := fmt.Sprintf("- {name: second, listen: 'unix:%s/second', %s}\n", s.dir, s.here(simple))
		return []string{first + second, first}
	}
	for _, test := range []struct {
		name  string
		pools func(*site) []string
		want  []string
	}{
		{"changed pool", pools, []string{"hello a", "hello b"}},
		{"second pool", comesAndGoes, []string{"hello a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, "unix", simple+", env: [GEN=a], limits: {max_reqs: 8}")
			path := s.hello()
			s.flood(50, func(int) (caller, func()) { return s.straight(path) })
			s.awaitIdle()
			before := s.resources()
			s.nginx(keepAlive)
			end := s.storm(test.pools(s)...)
			bodies := s.flood(10000, func(worker int) (caller, func()) {
				if worker%2 == 0 {
					return s.straight(path)
				}
				return s.overHTTP(path)
			})
			reloads := end()
			t.Logf("%d reloads, %v", reloads, bodies)
			for _, want := range test.want {
				if bodies[want] == 0 {
					t.Errorf("nobody got %q", want)
				}
				delete(bodies, want)
			}
			if len(bodies) > 0 {
				t.Errorf("other answers: %v", bodies)
			}
			s.configure(s.pool("cgi", simple))
			s.reload(t)
			done, _ := strconv.Atoi(s.metric(t, `fcgid_config_reloads_total{result="success"}`))
			if failed := s.metric(t, `fcgid_config_reloads_total{result="failure"}`); done < reloads/2 || failed != "0" {
				t.Errorf("of %d reloads %d were done, %s failed", reloads, done, failed)
			}
			s.stopNginx()
			s.awaitIdle()
			s.backTo(before)
		})
	}
}
