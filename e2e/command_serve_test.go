//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// refused runs `fcgid serve` with a file that cannot be served.
func refused(t testing.TB, config string, want ...string) {
	t.Helper()
	file := write(t, folder(t)+"/fcgid.yaml", config)
	code, _, stderr := fcgid(t, "/", nil, "serve", "-c", file)
	if code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	for _, w := range want {
		if !strings.Contains(stderr, w) {
			t.Errorf("stderr lacks %q:\n%s", w, stderr)
		}
	}
}

// Addresses that others have.
func TestServeAddressInUse(t *testing.T) {
	r := newRig(t, "", "")
	config := func(admin, address string) string {
		return fmt.Sprintf("admin: {listen: %q}\npools:\n- {name: cgi, listen: %q, process: {root: [%q]}}\n", admin, address, r.dir)
	}
	refused(t, config("", "unix:"+r.unix), r.unix, "in use")
	refused(t, config("", "tcp:"+r.tcp), r.tcp, "in use")
	refused(t, config("tcp:"+r.admin, "unix:"+r.dir+"/other"), r.admin, "admin", "in use")
	if _, err := os.Lstat(r.dir + "/other"); err == nil {
		t.Error("a daemon that did not start has left its socket")
	}
	file := write(t, r.dir+"/file", "precious")
	refused(t, config("", "unix:"+file), file, "no socket")
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("a file that is no socket was replaced")
	}
	refused(t, config("", "unix:"+r.dir+"/none/s"), r.dir+"/none", "no such file")
	refused(t, config("", "systemd:web"), "systemd")
	r.good(t, r.unix)
	r.good(t, r.tcp)
}

// What a killed daemon leaves is replaced; what a stopped one had is removed.
func TestServeStaleSocket(t *testing.T) {
	r := newRig(t, "", "")
	r.signal(syscall.SIGKILL)
	<-r.done
	if _, err := os.Lstat(r.unix); err != nil {
		t.Fatal("a killed daemon cannot have removed its socket")
	}
	again := start(t, exec.Command(binary, "serve", "-c", r.file))
	r.process = again
	r.awaitReady(t)
	r.good(t, r.unix)
	again.signal(syscall.SIGTERM)
	if code := again.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if _, err := os.Lstat(r.unix); err == nil {
		t.Error("a stopped daemon has left its socket")
	}
}

// waitScript waits for the file "go" in the rig's folder.
func (r *rig) waitScript(t testing.TB) string {
	return r.script(t, "wait.sh", "#!/bin/sh\nuntil [ -e "+r.dir+"/go ]; do sleep 0.02; done\n"+plainHeader+"echo waited\n")
}

// A stop lets a request end; meanwhile the daemon is healthy and not ready.
func TestServeStop(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT} {
		r := newRig(t, "", "")
		wait := r.waitScript(t)
		idle, p := connect(t, r.unix), connect(t, r.tcp)
		p.send(request(1, params(wait), ""))
		await(t, "the request to run", func() bool { return r.status(t).Pools[0].Running == 1 })
		r.signal(sig)
		await(t, "/-/ready to say 503", func() bool {
			code, _ := get(t, "http://"+r.admin+"/-/ready")
			return code == 503
		})
		if code, body := get(t, "http://"+r.admin+"/-/healthy"); code != 200 {
			t.Errorf("/-/healthy: %d %q", code, body)
		}
		if n := idle.closed(); n != 0 {
			t.Errorf("an idle connection got %d records", n)
		}
		if c, err := net.Dial("tcp", r.tcp); err == nil {
			c.Close()
			t.Error("the daemon still accepts connections")
		}
		write(t, r.dir+"/go", "")
		if got := p.reply(1); got.body() != "waited\n" {
			t.Errorf("the request that ran: %v", got)
		}
		if code := r.exitCode(); code != 0 {
			t.Errorf("%v: exit status %d", sig, code)
		}
	}
}

// A second signal ends the programs at once.
func TestServeStopTwice(t *testing.T) {
	r := newRig(t, "", "")
	wait := r.waitScript(t)
	p := connect(t, r.tcp)
	p.send(request(1, params(wait), ""))
	await(t, "the request to run", func() bool { return r.status(t).Pools[0].Running == 1 })
	r.signal(syscall.SIGTERM)
	await(t, "the stop to begin", func() bool {
		code, _ := get(t, "http://"+r.admin+"/-/ready")
		return code == 503
	})
	r.insist(syscall.SIGTERM)
	if code := r.exitCode(); code != 1 {
		t.Errorf("exit status %d", code)
	}
	r.noPrograms(t)
}

// A signal that comes twice at once, to a process and to its group, is one.
func TestServeStopEcho(t *testing.T) {
	r := newRig(t, "", "")
	p := connect(t, r.tcp)
	p.send(request(1, params(r.waitScript(t)), ""))
	await(t, "the request to run", func() bool { return r.status(t).Pools[0].Running == 1 })
	r.signal(syscall.SIGTERM)
	r.signal(syscall.SIGTERM)
	write(t, r.dir+"/go", "")
	if got := p.reply(1); got.status() != 200 {
		t.Errorf("the request that ran: %v", got)
	}
	if code := r.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// shutdown_timeout over: the request is answered with 503, and all ends.
func TestServeStopTimeout(t *testing.T) {
	r := newRig(t, "", "", func(c *exec.Cmd) { c.Args = append(c.Args, "--shutdown_timeout", "300ms") })
	wait := r.waitScript(t)
	p := connect(t, r.tcp)
	p.send(request(1, params(wait), ""))
	await(t, "the request to run", func() bool { return r.status(t).Pools[0].Running == 1 })
	r.signal(syscall.SIGTERM)
	if got := p.reply(1); got.status() != 503 || got.end == nil {
		t.Errorf("got %v, want 503", got)
	}
	if code := r.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	r.noPrograms(t)
}

// USR1 opens the log files anew, and an access log line is JSON.
func TestServeLogs(t *testing.T) {
	dir := folder(t)
	log, access := dir+"/log", dir+"/access"
	r := newRig(t, "", "", func(c *exec.Cmd) { c.Args = append(c.Args, "--log.output", log, "--access_log.output", access) })
	r.script(t, "three.sh", "#!/bin/sh\ncat >/dev/null\necho complaint >&2\nprintf 'Status: 404\\n\\nnot here'\nexit 3\n")
	p := connect(t, r.tcp)
	p.send(request(1, params(r.dir+"/cgi/three.sh", "REQUEST_METHOD", "POST", "REQUEST_URI", "/x?y", "REMOTE_ADDR", "192.0.2.1"), "body"))
	p.reply(1)
	await(t, "a line in the access log", func() bool { return lines(access) == 1 })
	text, _ := os.ReadFile(access)
	var line map[string]any
	if err := json.Unmarshal(text, &line); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for name, want := range map[string]any{
		"pool": "cgi", "method": "POST", "uri": "/x?y", "script": r.dir + "/cgi/three.sh", "client": "192.0.2.1", "remote": p.LocalAddr().String(),
		"outcome": "ok", "status": 404.0, "app_status": 3.0, "bytes_in": 4.0,
	} {
		if line[name] != want {
			t.Errorf("access log: %s is %v, want %v", name, line[name], want)
		}
	}
	for _, name := range []string{"request", "pid", "queue_ms", "run_ms", "first_byte_ms", "bytes_out", "cpu_ms", "max_rss_bytes"} {
		if n, ok := line[name].(float64); !ok || n <= 0 {
			t.Errorf("access log: %s is %v", name, line[name])
		}
	}
	if ts, _ := line["time"].(string); !recent(ts) {
		t.Errorf("access log: time is %v", line["time"])
	}
	for _, f := range []string{log, access} {
		if err := os.Rename(f, f+".1"); err != nil {
			t.Fatal(err)
		}
	}
	r.signal(syscall.SIGUSR1)
	await(t, "new files", func() bool {
		_, errLog := os.Stat(log)
		_, errAccess := os.Stat(access)
		return errLog == nil && errAccess == nil
	})
	r.one(t, r.unix, r.dir+"/cgi/three.sh")
	await(t, "a line in the new access log", func() bool { return lines(access) == 1 && lines(log) > 0 })
	await(t, "what was done", func() bool {
		b, _ := os.ReadFile(log)
		return strings.Contains(string(b), fmt.Sprintf(`"msg":"opened the files of logs anew","files":[%q,%q]`, access, log))
	})
	if n := lines(access + ".1"); n != 1 {
		t.Errorf("%d lines in the old access log", n)
	}
	b, _ := os.ReadFile(log)
	if !strings.Contains(string(b), `"line":"complaint"`) {
		t.Errorf("the new log lacks the complaint: %s", b)
	}
	if r.out.String() != "" {
		t.Errorf("the daemon printed %q", r.out)
	}
}

func recent(ts string) bool {
	at, err := time.Parse(time.RFC3339Nano, ts)
	return err == nil && time.Since(at) < time.Minute
}

func lines(file string) int {
	b, _ := os.ReadFile(file)
	return strings.Count(string(b), "\n")
}

// Flags win over variables, and these over the file.
func TestServeLogLevel(t *testing.T) {
	level := func(env string, args ...string) func(*exec.Cmd) {
		return func(c *exec.Cmd) {
			c.Env = append(os.Environ(), env)
			c.Args = append(c.Args, args...)
		}
	}
	for want, change := range map[string]func(*exec.Cmd){
		"info debug": level("X=y"), // the file says debug
		"info":       level("FCGID_LOG_LEVEL=info"),
		"":           level("FCGID_LOG_LEVEL=info", "--log.level", "error"),
		"debug info": level("FCGID_LOG_LEVEL=error", "--log.level=debug"),
	} {
		r := newRig(t, "", "", change)
		p := connect(t, r.unix)
		p.send(make([]byte, 8)) // is no record, which is for debug
		p.closed()
		r.one(t, r.unix, r.dir+"/cgi/none.sh") // for info
		r.awaitOutcome(t, "rejected", 1)
		for _, l := range []string{"debug", "info"} {
			has := func() bool { return strings.Contains(r.out.String(), `"level":"`+l+`"`) }
			if strings.Contains(want, l) {
				await(t, "level "+l+" in the log of "+want, has)
			} else if has() {
				t.Errorf("level %s is logged, want %q", l, want)
			}
		}
	}
}

// Signals and streams that must not end the daemon.
func TestServeSurvives(t *testing.T) {
	for name, streams := range map[string]string{"stderr": "2> >(:)", "both": "> >(:) 2> >(:)", "closed": ">&- 2>&-"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "", "", func(c *exec.Cmd) {
				c.Args = append([]string{"bash", "-c", `exec "$0" "$@" <&- ` + streams}, append(c.Args, "--access_log.output", "stdout")...)
				c.Args[3], c.Path = binary, need(t, "bash")
			})
			for _, sig := range []syscall.Signal{syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGCHLD, syscall.SIGWINCH, syscall.SIGURG} {
				r.signal(sig)
				r.good(t, r.unix)
			}
			r.script(t, "stderr.sh", "#!/bin/sh\necho complaint >&2\n"+plainHeader)
			if got := r.one(t, r.tcp, r.dir+"/cgi/stderr.sh"); got.status() != 200 {
				t.Errorf("got %v", got)
			}
			r.reload(t)
			r.good(t, r.tcp)
			r.signal(syscall.SIGUSR2) // the next daemon has the same streams
			if code := r.exitCode(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			next := r.status(t).PID
			t.Cleanup(func() { syscall.Kill(next, syscall.SIGTERM); awaitGone(t, []int{next}) })
			r.good(t, r.unix)
		})
	}
}

// /status shows what runs and what waits.
func TestServeStatus(t *testing.T) {
	r := newRig(t, "limits: {max_reqs: 1}", "")
	wait := r.waitScript(t)
	p := connect(t, r.tcp)
	p.send(request(1, params(wait, "REQUEST_URI", "/first"), ""))
	await(t, "a request to run", func() bool { return r.status(t).Pools[0].Running == 1 })
	p.send(request(2, params(wait, "REQUEST_URI", "/second", "REQUEST_METHOD", "HEAD"), ""))
	await(t, "a request to wait", func() bool { return r.status(t).Pools[0].Queued == 1 })
	pool := r.status(t).Pools[0]
	if pool.Name != "cgi" || pool.State != "serving" || pool.Connections != 1 || len(pool.Requests) != 2 {
		t.Fatalf("/status: %+v", pool)
	}
	requests := pool.Requests
	slices.SortFunc(requests, func(a, b struct {
		ID     uint64 `json:"request"`
		Stage  string
		PID    int
		Script string
		Method string
		URI    string
	}) int {
		return int(a.ID) - int(b.ID)
	})
	first, second := requests[0], requests[1]
	if first.Stage != "running" || first.URI != "/first" || first.Script != wait || first.Method != "GET" {
		t.Errorf("the one that runs: %+v", first)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", first.PID))
	if err != nil || !strings.Contains(string(b), wait) {
		t.Errorf("pid %d is %q, %v", first.PID, b, err)
	}
	if second.Stage != "queued" || second.URI != "/second" || second.PID != 0 || second.Method != "HEAD" {
		t.Errorf("the one that waits: %+v", second)
	}
	write(t, r.dir+"/go", "")
	p.reply(1)
	p.reply(2)
}

// The admin server on a Unix socket.
func TestServeAdminUnix(t *testing.T) {
	dir := folder(t)
	file := write(t, dir+"/fcgid.yaml", fmt.Sprintf("pools:\n- {name: cgi, listen: \"unix:%[1]s/s\", process: {root: [%[1]s]}}\n", dir))
	cmd := exec.Command(binary, "serve", "-c", file)
	cmd.Env = append(os.Environ(), "FCGID_ADMIN_LISTEN=unix:"+dir+"/admin")
	p := start(t, cmd)
	listening(t, "unix", dir+"/admin")
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", dir+"/admin")
	}}}
	for _, path := range []string{"/metrics", "/status", "/-/healthy", "/-/ready"} {
		res, err := client.Get("http://admin" + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 200 || len(b) == 0 {
			t.Errorf("%s: %d %q", path, res.StatusCode, b)
		}
	}
	if info, err := os.Stat(dir + "/admin"); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode of the admin socket: %v, %v", info.Mode(), err)
	}
	client.CloseIdleConnections()
	p.signal(syscall.SIGTERM)
	if code := p.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if _, err := os.Lstat(dir + "/admin"); err == nil {
		t.Error("the admin socket is left")
	}
}

// The kernel has room for the daemon's descriptors before they are needed.
func TestDescriptorsAreReserved(t *testing.T) {
	d := serve(t, folder(t), "  - {name: f, listen: \"tcp:127.0.0.1:0\", function: {}}\n")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "FDSize:")
	line, _, _ := strings.Cut(after, "\n")
	size, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if want := min(16<<10, limit.Max); uint64(size) < want {
		t.Errorf("there is room for %d descriptors, want %d", size, want)
	}
}
