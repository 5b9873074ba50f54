//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
)

// What fcgiwrap 1.1.0 does wrong, as its users have reported it.

// fcgiwrap reads all of STDIN into the program before it reads any output.
func TestOutputBeforeInput(t *testing.T) {
	s := newSite(t, "unix", simple)
	early := s.script("early.sh", `#!/bin/sh
printf 'Content-Type: text/plain\n\n'
head -c 200000 /dev/zero | tr '\0' x
wc -c
`)
	s.nginx("")
	body := bytes.Repeat([]byte("b"), 1<<20)
	want := strings.Repeat("x", 200000) + strconv.Itoa(len(body)) + "\n"
	res, out := s.ask(early, body)
	if _, got, _ := strings.Cut(out, "\r\n\r\n"); res.AppStatus != 0 || got != want {
		t.Errorf("straight: appStatus %d, %d bytes, want %d", res.AppStatus, len(got), len(want))
	}
	answer, got := httpDo(t, s.request("POST", "/early.sh", bytes.NewReader(body)))
	if answer.StatusCode != 200 || got != want {
		t.Errorf("nginx: status %d, %d bytes, want %d", answer.StatusCode, len(got), len(want))
	}
}

// fcgiwrap waits for a hung program for ever.
func TestHungProgram(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple+", timeout: 2s, limits: {max_reqs: 1, queue: 0}")
	g := newGate(t, s.dir)
	hung := s.script("hung.sh", "#!/bin/sh\nsleep 1000 &\necho $$ $! >DIR/in\nwait\n")
	late := s.script("late.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nbegun'\necho $$ >DIR/in\nexec sleep 1000\n")
	hello := s.script("hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	s.nginx(keepAlive)

	res, out := s.ask(hung, nil)
	if res.AppStatus != 408 || !strings.HasPrefix(out, "Status: 408 ") {
		t.Errorf("straight: appStatus %d, %q; want 408 twice", res.AppStatus, out)
	}
	awaitGone(t, g.pids())
	s.slotIsFree(hello)

	code, body := get(t, s.url+"/hung.sh")
	if code != 408 || !strings.HasPrefix(body, "408 ") {
		t.Errorf("nginx: %d %q, want 408", code, body)
	}
	awaitGone(t, g.pids())
	s.slotIsFree(hello)

	// Its answer has begun: only appStatus can tell.
	res, out = s.ask(late, nil)
	if res.AppStatus != 408 || !strings.HasSuffix(out, "begun") || strings.Contains(out, "408") {
		t.Errorf("begun: appStatus %d, %q; want 408 and what was written", res.AppStatus, out)
	}
	awaitGone(t, g.pids())
	s.slotIsFree(hello)
	s.awaitMetric(t, `fcgid_requests_total{outcome="timeout",pool="cgi"}`, "3")
}

// slotIsFree runs a program in a pool that can run one.
func (s *site) slotIsFree(hello string) {
	s.t.Helper()
	s.awaitIdle()
	if res, out := s.ask(hello, nil); res.AppStatus != 0 || !strings.HasSuffix(out, "hello") {
		s.t.Errorf("the next request: %+v %q", res, out)
	}
	s.awaitIdle()
}

// fcgiwrap calls kill with its arguments swapped, so it never ends a program.
func TestClientGoesAway(t *testing.T) {
	programs := map[string]string{
		"children":      "#!/bin/sh\nsleep 1000 &\na=$!\n(sleep 1001 & wait) &\necho $$ $a $! >DIR/in\nwait\n",
		"ignores TERM":  "#!/bin/sh\ntrap '' TERM\nsleep 1000 &\necho $$ $! >DIR/in\nwait\n",
		"has exited":    "#!/bin/sh\nsleep 1000 2>&- &\nsh -c 'trap \"\" TERM; echo $$ >DIR/in; exec sleep 1000' &\nexec sleep 1000\n",
		"writes":        "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nbegun'\necho $$ >DIR/in\nexec yes\n",
		"reads nothing": "#!/bin/sh\nsleep 1000 <&0 &\necho $$ $! >DIR/in\nwait\n",
	}
	s := newSite(t, "unix", "process: {root: [DIR/cgi], kill_grace: 200ms}, limits: {max_reqs: 1}")
	g := newGate(t, s.dir)
	s.nginx("")
	for name, text := range programs {
		t.Run(name, func(t *testing.T) {
			path := s.script("p.sh", text)
			ctx, cancel := context.WithCancel(t.Context())
			done := s.askLater(ctx, path)
			pids := g.pids()
			cancel()
			wait(t, "the client to notice", done)
			awaitGone(t, pids)
			s.awaitIdle()
		})
		t.Run(name+", nginx", func(t *testing.T) {
			s.script("p.sh", text)
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				if res, err := http.DefaultClient.Do(s.request("GET", "/p.sh", nil).WithContext(ctx)); err == nil {
					<-ctx.Done()
					res.Body.Close()
				}
			}()
			pids := g.pids()
			cancel()
			wait(t, "the client to notice", done)
			awaitGone(t, pids)
			s.awaitIdle()
		})
	}
}

// In fcgiwrap a background program that has inherited STDOUT holds the request.
func TestBackgroundChild(t *testing.T) {
	s := newSite(t, "unix", simple)
	g := newGate(t, s.dir)
	path := s.script("background.sh", `#!/bin/sh
printf 'Content-Type: text/plain\n\n'
sleep 1000 &
echo $! >DIR/in
echo done
`)
	s.nginx("")
	res, out := s.ask(path, nil)
	pids := g.pids()
	if res.AppStatus != 0 || !strings.HasSuffix(out, "done\n") || !alive(pids[0]) {
		t.Errorf("straight: %+v %q, background program lives: %v", res, out, alive(pids[0]))
	}
	syscall.Kill(pids[0], syscall.SIGKILL)
	code, body := get(t, s.url+"/background.sh")
	pids = g.pids()
	if code != 200 || body != "done\n" || !alive(pids[0]) {
		t.Errorf("nginx: %d %q, background program lives: %v", code, body, alive(pids[0]))
	}
	syscall.Kill(pids[0], syscall.SIGKILL)
	s.awaitIdle()
}

// fcgiwrap's appStatus is always 0, and its 502 has no reason.
func TestExitStatus(t *testing.T) {
	tests := []struct {
		name, text string
		appStatus  uint32
		status     int
		body, log  string
	}{
		{"exit 3", "printf 'Content-Type: text/plain\\n\\nhello'; exit 3", 3, 200, "hello", "exit status 3"},
		{"exit 3 without output", "exit 3", 3, 502, "502 Bad Gateway\n", "response has no header (exit status 3)"},
		{"segv", "kill -SEGV $$", 139, 502, "502 Bad Gateway\n", "response has no header (killed by SIGSEGV)"},
		{"segv in header", "echo 'Content-Type: text/plain'; kill -SEGV $$", 139, 502, "502 Bad Gateway\n", `response ended inside its header (killed by SIGSEGV): "Content-Type: text/plain\n"`},
		{"segv in body", "printf 'Content-Type: text/plain\\n\\nhello'; kill -SEGV $$", 139, 200, "hello", "killed by SIGSEGV"},
		{"no output", ":", 500, 502, "502 Bad Gateway\n", "response has no header"},
		{"no header", "echo hello; echo; echo world", 500, 502, "502 Bad Gateway\n", `response has no header: it begins with "hello\n\n`},
		{"half a header", "printf 'Content-Type: text/plain\\nX-A: b'", 500, 502, "502 Bad Gateway\n", "response ended inside its header: "},
		{"cannot start", "", 500, 502, "502 Bad Gateway\n", "no such file or directory"},
	}
	s := newSite(t, "unix", simple)
	s.nginx(keepAlive)
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			shell := "#!/bin/sh\n"
			if test.text == "" {
				shell = "#!/nowhere/sh\n"
			}
			name := fmt.Sprintf("exit%d.sh", i)
			path := s.script(name, shell+test.text+"\n")
			res, out := s.ask(path, nil)
			if res.AppStatus != test.appStatus || !strings.HasSuffix(out, "\r\n\r\n"+test.body) {
				t.Errorf("straight: appStatus %d, %q; want %d", res.AppStatus, out, test.appStatus)
			}
			if code, body := get(t, s.url+"/"+name); code != test.status || body != test.body {
				t.Errorf("nginx: %d %q, want %d %q", code, body, test.status, test.body)
			}
			// The log is written after END_REQUEST.
			await(t, "the reason in the log", func() bool {
				return test.log == "" || s.logged(func(l logLine) bool { return l.Script == path && strings.Contains(l.Error, test.log) })
			})
		})
	}
}

// A logLine is a part of a line of the daemon's log.
type logLine struct {
	Level, Msg, Pool, Script, Line, Error string
	PID                                   int
	Request                               uint64
}

// logged reports whether a line of the log fits.
func (s *site) logged(fits func(logLine) bool) bool {
	for text := range strings.Lines(s.out.String()) {
		var l logLine
		if json.Unmarshal([]byte(text), &l) == nil && fits(l) {
			return true
		}
	}
	return false
}

// fcgiwrap has no log: STDERR goes to the web server, unnamed.
func TestStderr(t *testing.T) {
	const text = `#!/bin/sh
echo first line >&2
printf 'second ' >&2
printf 'Content-Type: text/plain\n\n%s' $$
printf 'line\n' >&2
printf unended >&2
`
	for _, to := range []string{"log", "client", "both"} {
		t.Run(to, func(t *testing.T) {
			s := newSite(t, "unix", "process: {root: [DIR/cgi], stderr: "+to+"}")
			path := s.script("stderr.sh", text)
			s.nginx("")
			var stderr bytes.Buffer
			ask(t, s.network, s.address, &fcgi.Request{Close: true, Params: params(path), Stderr: &stderr})
			if wants := to != "log"; (stderr.String() == "first line\nsecond line\nunended") != wants {
				t.Errorf("FCGI_STDERR is %q", stderr.String())
			}
			code, pid := get(t, s.url+"/stderr.sh")
			if code != 200 {
				t.Fatalf("%d %s", code, pid)
			}
			if got := strings.Contains(s.nginxLog(), "first line"); got != (to != "log") {
				t.Errorf("nginx has logged it: %v\n%s", got, s.nginxLog())
			}
			for _, line := range []string{"first line", "second line", "unended"} {
				logged := func() bool {
					return s.logged(func(l logLine) bool {
						return l.Msg == "script stderr" && l.Line == line && l.Script == path && strconv.Itoa(l.PID) == pid && l.Pool == "cgi" && l.Request > 0
					})
				}
				if to != "client" {
					await(t, "the log to say "+line, logged)
				} else if logged() {
					t.Errorf("the log says %q", line)
				}
			}
		})
	}
}

// A program may be wanted although nobody waits for its answer.
func TestIgnoreClientAbort(t *testing.T) {
	s := newSite(t, "unix", simple+", on_client_abort: ignore")
	g := newGate(t, s.dir)
	path := s.script("finish.sh", `#!/bin/sh
printf 'Content-Type: text/plain\n\n'
echo "$$" >DIR/in
read x <DIR/go
head -c 300000 /dev/zero || exit 1
echo "$QUERY_STRING" >DIR/done
`)
	s.nginx("")
	finishes := func(query, aborted string) {
		t.Helper()
		await(t, "the request to be aborted", func() bool {
			return s.metric(t, `fcgid_requests_total{outcome="aborted",pool="cgi"}`) == aborted
		})
		g.release(1)
		await(t, query+" to finish", func() bool {
			b, _ := os.ReadFile(s.dir + "/done")
			return string(b) == query+"\n"
		})
		s.awaitIdle()
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := s.askLater(ctx, path, "QUERY_STRING", "straight")
	g.pids()
	cancel()
	wait(t, "the client to notice", done)
	finishes("straight", "1")

	ctx, cancel = context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if res, err := http.DefaultClient.Do(s.request("GET", "/finish.sh?nginx", nil).WithContext(ctx)); err == nil {
			res.Body.Close()
		}
	}()
	g.pids()
	cancel()
	wait(t, "the client to notice", gone)
	finishes("nginx", "2")
}
