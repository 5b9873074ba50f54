//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

const plainHeader = "printf 'Content-Type: text/plain\\n\\n'\n"

// Programs whose output is no CGI response, or that end badly: the client gets
// an answer, soon, and the program is gone.
func TestHostilePrograms(t *testing.T) {
	t.Parallel()
	r := newRig(t, "", "", func(c *exec.Cmd) { c.Env = append(c.Environ(), "FCGID_LOG_LEVEL=warn") })
	for i, c := range []struct {
		name, text string
		status     int
		appStatus  uint32
	}{
		{"nothing", "", 502, 500},
		{"10 MB of header lines", "yes 'X-Header: value' | head -c 10000000", 502, 0},
		{"a header line of 10 MB", "printf 'X-Header: '; head -c 10000000 /dev/zero | tr '\\000' x", 502, 0},
		{"endless header", "exec yes 'X-Header: value'", 502, 0},
		{"endless line", "exec cat /dev/zero", 502, 0},
		{"header without its end", "echo 'Content-Type: text/plain'", 502, 500},
		{"half a header line", "printf 'Content-Type: te'", 502, 500},
		{"blank line first", "printf '\\n\\nbody'", 502, 0},
		{"text", "echo 'Hello, this is no header'; echo; echo body", 502, 0},
		{"HTML", "printf '<!DOCTYPE html>\\n\\n<p>'", 502, 0},
		{"CR in a value", "printf 'Content-Type: text/plain\\rSet-Cookie: evil=1\\n\\nbody'", 502, 0},
		{"NUL in a value", "printf 'Content-Type: text\\000plain\\n\\nbody'", 502, 0},
		{"space in a name", "printf 'Content Type: text/plain\\n\\nbody'", 502, 0},
		{"folded line", "printf 'X-A: 1\\n continued\\nContent-Type: text/plain\\n\\nbody'", 502, 0},
		{"binary", "head -c 200000 /dev/urandom", 502, 0},
		{"a line that is no field", "printf '<!--: spam\\nContent-Type: text/html\\n\\n<p>'", 200, 0},
		{"early hints", "printf 'Status: 103 Early Hints\\nLink: </a>\\n\\n'; " + plainHeader, 502, 0},
		{"status with a tab", "printf 'Status:\\t404: Gone\\n\\nbody'", 404, 0},
		{"status 999", "printf 'Status: 999\\n\\nbody'", 999, 0},
		{"location alone", "printf 'Location: /there\\n\\n'", 302, 0},
		{"status word", "printf 'Status: abc\\n\\nbody'", 502, 0},
		{"status 42", "printf 'Status: 42\\n\\nbody'", 502, 0},
		{"status 1000", "printf 'Status: 1000\\n\\nbody'", 502, 0},
		{"killed before its header", "kill -9 $$", 502, 137},
		{"exit 3 before its header", "exit 3", 502, 3},
		{"exit 3 after its answer", plainHeader + "exit 3", 200, 3},
		{"killed after its answer", plainHeader + "kill -9 $$", 200, 137},
		{"stopped by itself and continued", plainHeader + "(sleep 0.2; kill -CONT $$) & kill -STOP $$", 200, 0},
		{"reads nothing", plainHeader, 200, 0},
		{"closes its input", "exec <&-\nsleep 0.1\n" + plainHeader, 200, 0},
		{"a grandchild in a session of its own holds the output", plainHeader + "setsid sleep 4 &", 200, 0},
		{"a grandchild holds the input", plainHeader + "exec <&0\nsleep 4 <&0 >/dev/null 2>&1 &", 200, 0},
		{"bad interpreter", "", 502, 500},
		{"complains without end", "timeout 0.5 yes complaint >&2\n" + plainHeader, 200, 0},
		{"a complaint without a line end", "timeout 0.5 cat /dev/zero >&2\n" + plainHeader, 200, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := "#!/bin/sh\n" + c.text + "\n"
			if c.name == "bad interpreter" {
				text = "#!/nowhere/sh\n"
			}
			path := r.script(t, fmt.Sprintf("p%d.sh", i), text)
			p := connect(t, r.unix)
			p.send(request(1, params(path, "REQUEST_METHOD", "POST", "CONTENT_LENGTH", "300000"), strings.Repeat("x", 300_000)))
			got := p.reply(1)
			if got.status() != c.status || got.end == nil {
				t.Fatalf("got %v, want %d", got, c.status)
			}
			if c.appStatus != 0 && got.end.AppStatus != c.appStatus || c.status == 502 && got.end.AppStatus == 0 {
				t.Errorf("appStatus %d, want %d", got.end.AppStatus, c.appStatus)
			}
			if strings.Contains(got.stdout, "evil") {
				t.Errorf("got %v", got)
			}
			p.send(request(1, params(r.dir+"/cgi/hello.sh"), ""))
			if got := p.reply(1); got.status() != 200 {
				t.Errorf("the next request on the connection: %v", got)
			}
		})
	}
	r.noPrograms(t)
	r.awaitMetric(t, `fcgid_requests_in_flight{pool="cgi"}`, "0")
}

// A program that does not end is ended at its timeout, however it resists. One that
// has closed its output has answered before that.
func TestHostileTimeout(t *testing.T) {
	t.Parallel()
	r := newRig(t, "timeout: 4s, limits: {max_reqs: 20}", "")
	var all sync.WaitGroup
	for i, c := range []struct {
		name, text string
		status     int
	}{
		{"sleeps", "sleep 1000", 408},
		{"busy", "while :; do :; done", 408},
		{"ignores TERM", "trap '' TERM\nwhile :; do sleep 0.1; done", 408},
		{"stopped", "kill -STOP $$", 408},
		{"header half out", "printf 'Content-Type'\nexec sleep 1000", 408},
		{"closes its output without an answer", "exec >&- 2>&-\nexec sleep 1000", 502},
		{"a grandchild writes on", plainHeader + "(while echo x; do sleep 0.01; done) &", 200},
		{"a grandchild floods", plainHeader + "yes &", 200},
		{"closes its output after its answer", plainHeader + "exec >&- 2>&-\nexec sleep 1000", 200},
		{"writes for ever", plainHeader + "exec cat /dev/zero", 200},
		{"complains for ever", plainHeader + "exec cat /dev/zero >&2", 200},
		{"in the background too", "sleep 1000 & sleep 1000", 408},
	} {
		// All at once, however many tests may run in parallel: each takes its timeout.
		all.Go(func() {
			t.Run(c.name, func(t *testing.T) {
				path := r.script(t, fmt.Sprintf("t%d.sh", i), "#!/bin/sh\n"+c.text+"\n")
				began := time.Now()
				p := connect(t, r.tcp)
				p.send(request(1, params(path), ""))
				status, ended := 0, false
				for !ended { // not with reply: the output is endless
					rec, ok := p.next()
					if !ok {
						t.Fatal("the connection was closed")
					}
					if rec.Type == protocol.TypeStdout && status == 0 {
						status = reply{stdout: string(rec.Content)}.status()
					}
					ended = rec.Type == protocol.TypeEndRequest
				}
				atTimeout := !strings.Contains(c.text, ">&-") && !strings.Contains(c.text, "exec cat /dev/zero >&2")
				if took := time.Since(began); status != c.status || atTimeout && took < 3900*time.Millisecond {
					t.Errorf("got %d after %v, want %d", status, took, c.status)
				}
				noProgramsOf(t, path)
				p.send(request(1, params(r.dir+"/cgi/hello.sh"), ""))
				if got := p.reply(1); got.status() != 200 {
					t.Errorf("the next request on the connection: %v", got)
				}
			})
		})
	}
	all.Wait()
}

// The client goes away, or gives up, while the program works: it is ended.
func TestHostileClientGone(t *testing.T) {
	t.Parallel()
	for _, pool := range []struct {
		buffering string
		programs  []string
	}{
		{"true", []string{"silent", "writing"}},
		{"false", []string{"silent", "writing", "reading"}}, // who reads STDIN as it comes can lose its client in the middle
	} {
		r := newRig(t, "limits: {request_buffering: "+pool.buffering+"}", "")
		if err := syscall.Mkfifo(r.dir+"/up", 0o666); err != nil {
			t.Fatal(err)
		}
		text := map[string]string{
			"silent":  "echo >" + r.dir + "/up\nexec sleep 1001",
			"writing": plainHeader + "echo >" + r.dir + "/up\nexec cat /dev/zero",
			"reading": "echo >" + r.dir + "/up\nexec cat >/dev/null",
		}
		for _, name := range pool.programs {
			path := r.script(t, name+".sh", "#!/bin/sh\n"+text[name]+"\n")
			for _, leave := range []func(p *peer){
				func(p *peer) { p.Close() },
				func(p *peer) {
					p.send(protocol.AppendRecord(nil, protocol.TypeAbortRequest, 1, nil))
					go io.Copy(io.Discard, p.Conn)
				},
			} {
				r.both(t, func(t *testing.T, address string) {
					p := connect(t, address)
					p.send(begin(1, protocol.RoleResponder, true), pairs(1, params(path, "CONTENT_LENGTH", "1000000")))
					body := strings.Repeat(string(stdin(1, strings.Repeat("x", 50000))), 2)
					if name != "reading" {
						body = strings.Repeat(body, 10) + string(stdin(1, ""))
					}
					p.send([]byte(body))
					up, err := exec.Command("cat", r.dir+"/up").CombinedOutput()
					if err != nil {
						t.Fatal(err, string(up))
					}
					leave(p)
					r.noPrograms(t)
					await(t, "the request to end", func() bool { return len(r.status(t).Pools[0].Requests) == 0 })
					r.good(t, address)
				})
			}
		}
	}
}
