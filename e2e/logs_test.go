//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"

	"bytes"
	"fmt"
	"github.com/fcgid/fcgid/fcgi"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// stoppedReader makes a FIFO that is full already and that nobody empties until
// the test does.
func stoppedReader(t *testing.T, name string) (reader *os.File) {
	t.Helper()
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(name, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	conn, err := reader.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	conn.Control(func(fd uintptr) {
		for { // until it takes no byte more
			if _, err := syscall.Write(int(fd), bytes.Repeat([]byte("\n"), 4096)); err != nil {
				return
			}
		}
	})
	return reader
}

// A log that takes nothing holds up neither requests nor a reload nor the end.
func TestStuckLogs(t *testing.T) {
	for _, test := range []struct{ name, global, slow string }{
		{"slow", "", "{after: 1ms, log: FIFO}"},
		{"access", "access_log: {output: FIFO}\n", "{after: 1ms}"},
		{"output", "log: {level: debug, output: FIFO}\n", "{after: 1ms}"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, "unix", simple)
			script := s.script("sleep", "#!/bin/sh\nsleep 0.05\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
			name := s.dir + "/fifo"
			reader := stoppedReader(t, name)
			s.configureStuck(test.global, simple+", slow: "+test.slow, name)
			s.reload(t)
			for range 20 {
				wantAnswer(t, s, function(script), 0, "hello")
			}
			s.configureStuck(test.global, simple+", slow: "+test.slow+", timeout: 50s", name)
			s.reload(t)
			if !s.status(t).Reload.OK {
				t.Errorf("reload: %s", s.status(t).Reload.Error)
			}
			if test.name != "output" {
				await(t, "a word about it", func() bool { return strings.Contains(s.out.String(), "a log takes nothing") })
			}
			s.configureStuck("", simple, name) // no more
			s.reload(t)
			wantAnswer(t, s, function(script), 0, "hello")
			s.signal(syscall.SIGTERM)
			if code := s.exitCode(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			reader.Close()
		})
	}
}

// configureStuck is configure with more global keys, of which FIFO is a name.
func (s *site) configureStuck(global, pool, fifo string) {
	s.t.Helper()
	text := "admin: {listen: 'tcp:" + s.admin + "'}\nshutdown_timeout: 10s\n" + global + "pools:\n" + s.pool("cgi", pool)
	write(s.t, s.file, strings.ReplaceAll(text, "FIFO", fifo))
}

// The daemon ends by TERM while a slow log is stuck.
func TestStopWithStuckLogs(t *testing.T) {
	for name, global := range map[string]string{"slow": "", "all": "access_log: {output: FIFO}\nlog: {level: debug, output: FIFO}\n"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "unix", simple)
			script := s.script("sleep", "#!/bin/sh\nsleep 0.05\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
			stoppedReader(t, s.dir+"/fifo")
			s.configureStuck(global, simple+", slow: {after: 1ms, log: FIFO}", s.dir+"/fifo")
			s.reload(t)
			for range 5 {
				wantAnswer(t, s, function(script), 0, "hello")
			}
			s.signal(syscall.SIGTERM)
			if code := s.exitCode(); code != 0 {
				t.Errorf("exit status %d", code)
			}
		})
	}
}

// Nor does a pipe that nobody reads, as the standard error.
func TestStuckStderr(t *testing.T) {
	s := &site{t: t, dir: folder(t), network: "unix"}
	s.address = s.dir + "/s"
	stoppedReader(t, s.dir+"/fifo")
	program := s.script("daemon", "#!/bin/sh\nexec "+binary+" \"$@\" 2>DIR/fifo\n")
	s.daemon = serveProgram(t, program, s.dir, s.pool("cgi", simple))
	hello := s.script("hello", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	for range 20 {
		wantAnswer(t, s, function(hello), 0, "hello")
	}
	s.reload(t)
	s.signal(syscall.SIGTERM)
	if code := s.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// A folder for the sockets of workers that cannot be made is an error of the
// start and of the reload, which changes nothing.
func TestWorkerFolder(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", filepath.Join(folder(t), "none")+":/tmp")
	s := newSite(t, "unix", simple)
	s.configure(s.pool("cgi", cPool(t, "max: 1")))
	s.reload(t)
	status := s.status(t)
	if status.Reload.OK || !strings.Contains(status.Reload.Error, "pool cgi: make a folder for workers' sockets") {
		t.Errorf("reload: %+v", status.Reload)
	}
	wantAnswer(t, s, function(s.script("hello", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")), 0, "hello")
	s.signal(syscall.SIGTERM) // who starts has the addresses first
	s.exitCode()
	code, _, stderr := fcgid(t, s.dir, []string{"FCGID_ADMIN_LISTEN="}, "serve", "-c", s.file)
	if code != 1 || !strings.Contains(stderr, "folder for workers' sockets") {
		t.Errorf("exit status %d, %s", code, stderr)
	}

	t.Setenv("RUNTIME_DIRECTORY", s.dir+":/none")
	s = newWorkerSite(t, cPool(t, "scale: static, max: 1"))
	s.asked("")
}

// Slow requests are counted, also those that nobody had the time to look at. Of
// those that have ended meanwhile no program is looked at.
func TestSlowRequestsAreCounted(t *testing.T) {
	const waiting, tooMany = 64, 5 // for the reporter
	const slow = ", limits: {max_reqs: 200}, slow: {after: 50ms, log: DIR/slow.log, command: [/bin/sh, -c, 'echo {pid} >DIR/in; read x <DIR/go']}"
	s := newSite(t, "unix", simple+slow)
	looks := newGate(t, s.dir)
	hold := newGate(t, s.dir+"/cgi")
	script := s.script("wait", "#!/bin/sh\necho $$ >DIR/cgi/in; read x <DIR/cgi/go\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	answers := make(chan string, 200)
	begin := func() {
		go func() {
			_, answer := ask(t, s.network, s.address, function(script))
			answers <- answer
		}()
	}
	looked := make(chan bool, 1)
	go func() {
		looks.arrive(1)
		looked <- true
	}()
	open, busy := 0, false
	for !busy { // one whose program is late in starting is not looked at for long
		begin()
		hold.arrive(1)
		open++
		await(t, "the reporter", func() bool {
			busy = len(looked) > 0
			return busy || len(slowRecords(t, s.dir+"/slow.log")) == open
		})
	}
	for range waiting + tooMany {
		begin()
	}
	hold.arrive(waiting + tooMany)
	all := open + waiting + tooMany
	await(t, "all to be slow", func() bool { return s.metric(t, `fcgid_slow_requests_total{pool="cgi"}`) == fmt.Sprint(all) })
	s.awaitMetric(t, `fcgid_slow_requests_dropped_total{pool="cgi"}`, fmt.Sprint(tooMany))
	hold.release(all)
	for range all {
		wait(t, "an answer", answers)
	}
	await(t, "no request", func() bool { return len(s.status(t).Pools[0].Requests) == 0 })
	looks.release(1)
	await(t, "the records", func() bool { return len(slowRecords(t, s.dir+"/slow.log")) == open+waiting })
	for i, r := range slowRecords(t, s.dir+"/slow.log") {
		if r.Ended != (i >= open) || r.Ended && (r.Processes != nil || r.Output != "") {
			t.Errorf("record %d is %+v", i, r)
		}
	}
}

// A reload while a slow request is looked at does not lose its record.
func TestReloadKeepsSlowRecord(t *testing.T) {
	const slow = simple + ", slow: {after: 50ms, log: DIR/slow.log, command: [/bin/sh, -c, 'echo {pid} >DIR/in; read x <DIR/go; echo seen']}"
	s := newSite(t, "unix", slow)
	looks := newGate(t, s.dir)
	hold := newGate(t, s.dir+"/cgi")
	script := s.script("wait", "#!/bin/sh\necho $$ >DIR/cgi/in; read x <DIR/cgi/go\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	got := make(chan string, 1)
	go func() {
		_, answer := ask(t, s.network, s.address, function(script))
		got <- answer
	}()
	hold.arrive(1)
	looks.arrive(1)
	s.configure(s.pool("cgi", slow+", timeout: 50s"))
	s.reload(t)
	looks.release(1)
	await(t, "the record", func() bool { return len(slowRecords(t, s.dir+"/slow.log")) == 1 })
	if r := slowRecords(t, s.dir+"/slow.log")[0]; r.Output != "seen\n" || r.Ended {
		t.Errorf("record is %+v", r)
	}
	hold.release(1)
	wait(t, "the answer", got)
}

// The series of workers go with the workers of a pool, and come back with them.
func TestWorkerMetricsAreForgotten(t *testing.T) {
	const series = `fcgid_worker_starts_total{pool="cgi"}`
	s := newWorkerSite(t, cPool(t, "scale: static, max: 1"))
	for range 2 {
		await(t, "a start", func() bool { return s.metric(t, series) == "1" })
		s.configure(s.pool("cgi", simple))
		s.reload(t)
		await(t, "no series", func() bool { return s.metric(t, series) == "" })
		if got := s.metric(t, `fcgid_requests_total{outcome="ok",pool="cgi"}`); got != "0" {
			t.Errorf("requests: %q", got)
		}
		s.configure(s.pool("cgi", cPool(t, "scale: static, max: 1")))
		s.reload(t)
	}
}

// The status of a pool of workers has php-fpm's names.
func TestStatusFunctionOfWorkers(t *testing.T) {
	s := newWorkerSite(t, cPool(t, "scale: static, max: 2"))
	s.configure(s.pool("cgi", cPool(t, "scale: static, max: 2")) + s.here("- {name: f, listen: 'unix:DIR/f', function: {names: [fcgid.status]}}\n"))
	s.reload(t)
	g := newGate(t, s.dir)
	all := s.gated(1)
	pid := g.arrive(1)[0]
	s.awaitWorkers("1 that is busy", func(w workersStatus) bool { return w.in("busy") == 1 && w.in("idle") == 1 })
	status := func(query string) string {
		_, answer := ask(t, "unix", s.dir+"/f", function("fcgid.status", "QUERY_STRING", "pool=cgi"+query))
		return answer
	}
	for _, line := range []string{
		"process manager:      static", "idle processes:       1", "active processes:     1",
		"total processes:      2", "max children reached: 0", "listen queue:         0",
	} {
		if page := status(""); !strings.Contains(page, "\n"+line+"\n") || strings.Contains(page, "****") {
			t.Errorf("no %q in\n%s", line, page)
		}
	}
	worker := fmt.Sprintf("\npid:                  %d\nstate:                busy\nstart time:           ", pid)
	if page := status("&full"); !strings.Contains(page, worker) || strings.Count(page, "****\n") != 3 || !strings.Contains(page, "last request since:") {
		t.Errorf("no %q in\n%s", worker, page)
	}
	g.finish(all...)
}

// A file that is named as an argument is not silently another one.
func TestFileAsArgument(t *testing.T) {
	if code, _, stderr := fcgid(t, folder(t), nil, "serve", "my.yaml"); code != 2 || !strings.Contains(stderr, "write -c my.yaml") {
		t.Errorf("serve: exit status %d, %s", code, stderr)
	}
	if code, _, stderr := fcgid(t, folder(t), nil, "check", "my.yaml"); code != 78 || !strings.HasPrefix(stderr, "my.yaml: open: no such file") {
		t.Errorf("check: exit status %d, %s", code, stderr)
	}
	if code, _, stderr := fcgid(t, folder(t), nil, "status", "-c", "none.yaml"); code != 78 || !strings.Contains(stderr, "--admin ADDRESS") {
		t.Errorf("exit status %d, %s", code, stderr)
	}
}

// What is not there or not allowed is told at info, whoever looks for it: the daemon, in
// pools of programs, workers and functions, or a worker by itself. Of many it tells a few.
func TestRefusalsAreTold(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	write(t, dir+"/srv/a.txt", "no program")
	admin := freeAddress(t)
	file := write(t, dir+"/fcgid.yaml", strings.NewReplacer("DIR", dir, "PHP", need(t, "php-cgi")).Replace("admin: {listen: 'tcp:"+admin+`'}
pools:
- {name: process, listen: 'unix:DIR/process', process: {root: [DIR/srv]}}
- {name: worker, listen: 'unix:DIR/worker', worker: {command: [PHP], root: [DIR/srv], extensions: [.php], max: 1}}
- {name: alone, listen: 'unix:DIR/alone', worker: {command: [PHP], max: 1}}
- {name: function, listen: 'unix:DIR/function', function: {}}
`))
	d := start(t, exec.Command(binary, "serve", "-c", file))
	d.Listening(t, "unix", dir+"/function")
	const many = 40
	for pool, scripts := range map[string]map[string]int{
		"process":  {"/srv/none.cgi": 404, "/srv/a.txt": 403},
		"worker":   {"/srv/none.php": 404, "/srv/a.txt": 403},
		"alone":    {"/srv/none.php": 404},
		"function": {"/none": 404},
	} {
		for name, want := range scripts {
			for range many {
				if res, out := ask(t, "unix", dir+"/"+pool, &fcgi.Request{Params: params(dir + name)}); !strings.HasPrefix(out, fmt.Sprintf("Status: %d ", want)) {
					t.Fatalf("%s in pool %s: %+v %q", name, pool, res, out)
				}
			}
		}
	}
	d.signal(syscall.SIGTERM)
	d.exitCode()
	count := make(map[string]int)
	for text := range strings.Lines(d.out.String()) {
		var l logLine
		if json.Unmarshal([]byte(text), &l) != nil || l.Script == "" {
			continue
		}
		if l.Level != "info" || l.Error == "" && l.Msg != "worker has not found the script" {
			t.Errorf("told is %s", text)
		}
		count[l.Pool+strings.TrimPrefix(l.Script, dir)]++
	}
	for _, name := range []string{"process/srv/none.cgi", "process/srv/a.txt", "worker/srv/none.php", "worker/srv/a.txt", "alone/srv/none.php", "function/none"} {
		if n := count[name]; n < 10 || n > many/2 {
			t.Errorf("%s is told of %d times of %d", name, n, many)
		}
	}
}
