//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// `fcgid request`.
func TestRequestCommand(t *testing.T) {
	r := newRig(t, "limits: {max_conns: 7, max_reqs: 3, multiplex: false}", "stderr: client")
	count := r.script(t, "count.sh", countScript)
	three := r.script(t, "three.sh", "#!/bin/sh\necho oh dear >&2\n"+plainHeader+"printf '%s %s' \"$REQUEST_METHOD\" \"$X\"\nexit 3\n")
	hello := r.dir + "/cgi/hello.sh"
	for _, address := range []string{"unix:" + r.unix, "tcp:" + r.tcp} {
		for _, c := range []struct {
			args, stdin            string
			code                   int
			stdout, stderr, hidden string
		}{
			{args: "--script " + hello + " --query a=b", stdout: "hello a=b"},
			{args: "--script " + hello + " -i", stdout: "HTTP/1.1 200 OK\nContent-Type: text/plain\n\nhello "},
			{args: "--values", stdout: "FCGI_MAX_CONNS=7\nFCGI_MAX_REQS=3\nFCGI_MPXS_CONNS=0\n"},
			{args: "--script " + count + " -d 12345", stdout: "5 of 5"},
			{args: "--script " + count + " -d @-", stdin: strings.Repeat("x", 100_000), stdout: "100000 of 100000"},
			{args: "--script " + count + " -d @" + hello, stdout: "72 of 72"},
			{args: "--script " + three + " -X BREW -p X=1", code: 1, stdout: "BREW 1", stderr: "oh dear\nfcgid request: appStatus 3\n"},
			{args: "--script " + r.dir + "/cgi/none.sh", code: 1, stdout: "404 Not Found\n", stderr: "fcgid request: appStatus 404\n"},
			{args: "--script " + hello + " --role filter", code: 1, stdout: "501 Not Implemented\n", stderr: "fcgid request: protocolStatus UNKNOWN_ROLE\n"},
		} {
			cmd := exec.Command(binary, append([]string{"request", address}, strings.Fields(c.args)...)...)
			cmd.Stdin = strings.NewReader(c.stdin)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != c.code || stdout.String() != c.stdout || stderr.String() != c.stderr {
				t.Errorf("request %s %s: exit status %d, stdout %q, stderr %q; want %d %q %q",
					address, c.args, code, &stdout, &stderr, c.code, c.stdout, c.stderr)
			}
		}
	}
	code, _, stderr := fcgid(t, r.dir, nil, "request", "unix:"+r.dir+"/none", "--script", hello)
	if code != 1 || !strings.Contains(stderr, "no such file") {
		t.Errorf("no socket: exit status %d, stderr %q", code, stderr)
	}
}

var curlLine = regexp.MustCompile(`(?m)^\s*curl .*$`)

// dev starts `fcgid dev` and returns its curl line, and the folder for what is
// temporary.
func dev(t testing.TB, args ...string) (p *process, curl, tmp string) {
	t.Helper()
	tmp = folder(t)
	cmd := exec.Command(binary, append([]string{"dev", "--http", "127.0.0.1:0"}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	p = start(t, cmd)
	await(t, "the curl line", func() bool {
		curl = strings.TrimSpace(curlLine.FindString(p.out.String()))
		return curl != ""
	})
	return p, curl, tmp
}

// The line that is printed works at once, and nothing is left behind.
func TestDev(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p, curl, tmp := dev(t)
		out := run(t, exec.Command("sh", "-c", curl+" -sS"))
		if !strings.HasPrefix(out, "HTTP/1.1 200 OK") || !strings.Contains(out, "Hello from process") {
			t.Errorf("%s: %s", curl, out)
		}
		p.signal(sig)
		if code := p.exitCode(); code != 0 {
			t.Errorf("exit status %d after %v", code, sig)
		}
		if left, _ := os.ReadDir(tmp); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
}

func TestDevFolder(t *testing.T) {
	dir := folder(t)
	script(t, dir+"/sub/mine.sh", "#!/bin/sh\n"+plainHeader+"n=$(wc -c)\nprintf 'mine %s %s %s' $n \"$QUERY_STRING\" \"$PATH_INFO\"\n")
	write(t, dir+"/secret.txt", "no program")
	p, curl, tmp := dev(t, dir)
	out := run(t, exec.Command("sh", "-c", curl+" -sS"))
	if !strings.HasPrefix(out, "HTTP/1.1 200 OK") {
		t.Errorf("%s: %s", curl, out)
	}
	url := strings.TrimSuffix(regexp.MustCompile(`http://\S+`).FindString(curl), "/")
	do(t, "POST", url+"/sub/mine.sh/info?q", strings.NewReader(strings.Repeat("x", 300_000))).is(t, "a script of mine", 200, "mine 300000 q /info")
	do(t, "POST", url+"/sub/mine.sh", struct{ *strings.Reader }{strings.NewReader("xyz")}).is(t, "chunked", 200, "mine 3  ")
	for path, want := range map[string]int{"/secret.txt": 200, "/sub": 301, "/none": 404, "/../../etc/passwd": 404, "/%2e%2e/%2e%2e/etc/passwd": 404, "/sub/": 200} {
		if got := do(t, "GET", url+path, nil); got.status != want {
			t.Errorf("%s: got %d %q, want %d", path, got.status, got.body, want)
		}
	}
	second := exec.Command(binary, "dev", "--http", strings.TrimPrefix(url, "http://"))
	second.Env = append(os.Environ(), "TMPDIR="+tmp)
	if out, _ := second.CombinedOutput(); second.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "address already in use") {
		t.Errorf("a second one: exit status %d, %s", second.ProcessState.ExitCode(), out)
	}
	p.signal(syscall.SIGINT)
	if code := p.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if left, _ := os.ReadDir(tmp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if code, _, stderr := fcgid(t, dir, nil, "dev", "nowhere"); code != 1 || !strings.Contains(stderr, "nowhere: there is no such folder") {
		t.Errorf("dev nowhere: exit status %d, stderr %q", code, fmt.Sprint(stderr))
	}
}
