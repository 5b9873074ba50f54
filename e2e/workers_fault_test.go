//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// killWorkers kills a worker every 50 ms, until the function that it returns is
// called.
func (s *site) killWorkers(killed *atomic.Int64) (end func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			w := s.workers()
			if len(w.List) == 0 {
				continue
			}
			if one := w.List[rand.IntN(len(w.List))]; one.PID != 0 && one.State != "stopping" {
				killed.Add(1)
				syscall.Kill(one.PID, syscall.SIGKILL)
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// naps returns a caller through nginx with a connection of its own. It goes on
// until enough workers were killed. Each third request is a POST, which may come
// to grief, but not in any way.
func (s *site) naps(killed *atomic.Int64) (caller, func()) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{}}
	once := func(i int) error {
		method, body := "GET", ""
		if i%3 == 0 {
			method, body = "POST", "some=thing"
		}
		before := killed.Load()
		req, err := http.NewRequest(method, s.url+appScript+"?nap", strings.NewReader(body))
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		// A GET is asked again once, which may be killed too.
		repeats := method == "GET" && killed.Load()-before < 2
		if err == nil && !repeats && res.StatusCode == 502 && strings.HasPrefix(string(text), "502") {
			return nil
		}
		if err == nil {
			_, err = parseWorker(string(text))
		}
		if err != nil || res.StatusCode != 200 {
			return fmt.Errorf("%s: %s %q %v", method, res.Status, text, err)
		}
		return nil
	}
	return func(i int) (string, error) {
		for killed.Load() < 40 && !s.t.Failed() {
			if err := once(i); err != nil {
				return "", err
			}
			i += 8
		}
		return "", nil
	}, client.CloseIdleConnections
}

// However workers die, each request has a whole answer, and one that can be
// repeated its own.
func TestWorkerKilled(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: dynamic, max: 6, min_spare: 2"))
	s.nginx(keepAlive)
	var killed atomic.Int64
	end := s.killWorkers(&killed)
	s.flood(8, func(int) (caller, func()) { return s.naps(&killed) })
	end()
	if a := s.asked(""); a.gen != "a" {
		t.Errorf("afterwards: %+v", a)
	}
	w := s.workers()
	if w.Exits["crash"]+w.Exits["exit"]+w.Exits["start"] < 30 {
		t.Errorf("%d were killed, exits are %v", killed.Load(), w.Exits)
	}
}

// A program that cannot be started is tried ever more seldom, which is told
// everywhere, and recovers by itself.
func TestWorkerCannotStart(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: static, max: 4")+", limits: {queue_timeout: 300ms}")
	s.awaitWorkers("4 that are idle", func(w workersStatus) bool { return w.in("idle") == 4 })
	before := s.workers()
	broken := write(t, s.dir+"/broken", "")
	for _, pid := range before.pids() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	const why = "exit status 3: cannot read the settings"
	w := s.awaitWorkers("three failures", func(w workersStatus) bool { return w.Degraded != "" && s.refusals() >= 3 })
	if w.Degraded != why {
		t.Errorf("degraded is %q, want %q", w.Degraded, why)
	}
	// Four at once, and then one for each failure that was told.
	if starts, told := w.Starts-before.Starts, s.refusals(); starts > 4+told {
		t.Errorf("%d starts with %d failures", starts, told)
	}
	if got := s.metric(t, `fcgid_workers_degraded{pool="cgi"}`); got != "1" {
		t.Errorf("fcgid_workers_degraded is %s", got)
	}
	for _, args := range [][]string{{"status"}, {"status", "cgi"}} {
		code, out, stderr := fcgid(t, s.dir, nil, append(args, "-c", s.file)...)
		if code != 0 || !strings.Contains(out, "degraded") || len(args) > 1 && !strings.Contains(out, why) {
			t.Errorf("%q: exit status %d, %s%s", args, code, out, stderr)
		}
	}
	res, out := s.ask(s.dir+"/cgi"+appScript, nil)
	if res.AppStatus != 503 || !strings.HasPrefix(out, "Status: 503 ") {
		t.Errorf("meanwhile: %+v %q", res, out)
	}
	await(t, "the reason in the log", func() bool {
		return s.logged(func(l logLine) bool { return strings.Contains(l.Error, "workers cannot be started: "+why) })
	})
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	s.awaitWorkers("all to be well again", func(w workersStatus) bool {
		if w.Degraded != "" { // one is proven by an answer
			s.ask(s.dir+"/cgi"+appScript, nil)
		}
		return w.Degraded == "" && w.in("idle") == 4
	})
	s.asked("")
	if got := s.metric(t, `fcgid_workers_degraded{pool="cgi"}`); got != "0" {
		t.Errorf("fcgid_workers_degraded is %s", got)
	}
}

// refusals is how often the log has said that workers cannot be started.
func (s *site) refusals() int { return strings.Count(s.out.String(), `"workers cannot be started"`) }

// A worker that does not end a request in time, or answers nonsense, is replaced
// by another one at once.
func TestWorkerReplaced(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		program, query string
		status         int
		reason         string
	}{
		{"c", "hang", 408, "timeout"},
		{"php", "hang", 408, "timeout"},
		{"c", "garbage", 502, "protocol"},
	} {
		t.Run(test.program+" "+test.query, func(t *testing.T) {
			s := newWorkerSite(t, "worker: {command: "+workerCommand(t, test.program)+", scale: static, max: 1, stop_grace: 200ms}"+workerEnv("a")+", timeout: 2s")
			s.nginx(keepAlive)
			last := s.asked("").pid
			for n := 1; n <= 2; n++ {
				res, text := httpDo(t, s.request("GET", appScript+"?"+test.query, nil))
				if res.StatusCode != test.status || !strings.HasPrefix(text, fmt.Sprint(test.status)) {
					t.Errorf("got %s %q", res.Status, text)
				}
				a := s.viaNginx("GET", "", nil)
				if a.pid == last {
					t.Errorf("%d answers again", a.pid)
				}
				awaitGone(t, []int{last})
				last = a.pid
				s.awaitWorkers("one worker", func(w workersStatus) bool { return len(w.List) == 1 && w.Exits[test.reason] == n })
			}
			series := fmt.Sprintf(`fcgid_worker_exits_total{pool="cgi",reason=%q}`, test.reason)
			s.awaitMetric(t, series, "2")
		})
	}
}

// A request that hangs takes nobody with it who is served by the same worker.
func TestWorkerOneOfSeveralHangs(t *testing.T) {
	t.Parallel()
	s := newWorkerSite(t, phpPool(t, "scale: static, max: 1, concurrency: 4, stop_grace: 200ms", "PHP_FCGI_CHILDREN=4")+", timeout: 3s")
	s.asked("")
	hangs := s.later("hang")
	for range 20 {
		s.asked("")
	}
	if a := wait(t, "the end", hangs.c); a.AppStatus != 408 || !strings.HasPrefix(a.body, "Status: 408 ") {
		t.Errorf("got %+v", a)
	}
	s.asked("")
	s.awaitWorkers("one worker", func(w workersStatus) bool { return len(w.List) == 1 && w.Exits["timeout"] == 1 })
}
