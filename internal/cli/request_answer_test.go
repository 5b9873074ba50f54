package cli

import (
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/wiretest"
)

// The header is shown as a web server would send it, whatever form the program has used.
func TestRequestShowsHeader(t *testing.T) {
	for sent, want := range map[string]string{
		"Content-Type: text/plain\n\nx":                         "HTTP/1.1 200 OK\nContent-Type: text/plain\n\nx",
		"A: b\r\nStatus: 404 Not Here\r\nC:d\r\n\r\nx":          "HTTP/1.1 404 Not Here\nA: b\nC: d\n\nx",
		"Status: 503\nA: b\n\n":                                 "HTTP/1.1 503 Service Unavailable\nA: b\n\n",
		"Location: /there\n\n":                                  "HTTP/1.1 302 Found\nLocation: /there\n\n",
		"HTTP/1.1 201 Created\nA: b\n\nx":                       "HTTP/1.1 201 Created\nA: b\n\nx",
		"Status: 299\nSet-Cookie: a=1:2\nSet-Cookie: b=2\n\n\n": "HTTP/1.1 299\nSet-Cookie: a=1:2\nSet-Cookie: b=2\n\n\n",
	} {
		addr := "unix:" + wiretest.StartApplication(t, func(f *wiretest.AppRequest) { f.Answer(sent) })
		stdout, stderr, code := runRequest(t, "", addr, "-i")
		if code != 0 || stderr != "" || stdout != want {
			t.Errorf("%q: exit %d, stdout %q, want %q, stderr %q", sent, code, stdout, want, stderr)
		}
	}
	h, err := parseHeader([]byte("Status: 404\nA: b\n\n"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := printHeader(&out, h, true); err != nil || out.String() != "HTTP/1.1 404 Not Found\n\x1b[1mA\x1b[0m: b\n\n" {
		t.Errorf("in colour: %q, %v", &out, err)
	}
}

// --fail is curl's: what is no success is no output, and an exit status.
func TestRequestFail(t *testing.T) {
	for status, want := range map[string]struct {
		code           int
		stdout, stderr string
	}{
		"200": {0, "body", ""},
		"302": {0, "body", ""},
		"399": {0, "body", ""},
		"400": {22, "", "the answer is 400 Bad Request"},
		"404": {22, "", "the answer is 404 Not Found"},
		"503": {22, "", "the answer is 503 Service Unavailable"},
	} {
		addr := "unix:" + wiretest.StartApplication(t, func(f *wiretest.AppRequest) {
			f.Stdout("Status: " + status + "\n\nbody")
			f.End(map[bool]uint32{true: 404}[status == "404"], 0)
		})
		stdout, stderr, code := runRequest(t, "", addr, "--fail")
		if code != want.code || stdout != want.stdout || stderr != want.stderr {
			t.Errorf("%s: exit %d, stdout %q, stderr %q, want %+v", status, code, stdout, stderr, want)
		}
	}
	addr := "unix:" + wiretest.StartApplication(t, func(f *wiretest.AppRequest) { f.Stdout("A: b\n\nx"); f.End(3, 0) })
	if stdout, stderr, code := runRequest(t, "", addr, "--fail"); code != 1 || stdout != "x" || stderr != "appStatus 3" {
		t.Errorf("another failure: exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// --repeat prints a table of all answers, each with the whole body.
func TestRequestRepeat(t *testing.T) {
	var n atomic.Int64
	addr := "unix:" + wiretest.StartApplication(t, func(f *wiretest.AppRequest) {
		if body := f.Stdin(); body != "all" {
			t.Errorf("a body of %q", body)
		}
		f.Stdout(map[bool]string{true: "Status: 500\n\n", false: "A: b\n\nx"}[n.Add(1)%5 == 0])
		f.End(0, 0)
	})
	const line = `^REQUESTS +RATE +MIN +P50 +P90 +P99 +MAX +STATUSES\n20 +\d+\.\d/s( +[0-9.]+ms){5} +200: 16, 500: 4\n$`
	stdout, stderr, code := runRequest(t, "", addr, "-d", "all", "--repeat", "20")
	if code != 0 || stderr != "" || !regexp.MustCompile(line).MatchString(stdout) {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	stdout, stderr, code = runRequest(t, "", addr, "-d", "all", "--repeat", "20", "--fail")
	if code != 22 || stderr != "4 of 20 requests failed, the first: the answer is 500 Internal Server Error" || !regexp.MustCompile(line).MatchString(stdout) {
		t.Errorf("--fail: exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	stdout, stderr, code = runRequest(t, "", "unix:"+t.TempDir()+"/none", "--repeat", "2")
	if code != 1 || !strings.Contains(stderr, "2 of 2 requests failed, the first: ") || !strings.Contains(stderr, "no such file") || !strings.Contains(stdout, "\n0 ") {
		t.Errorf("nobody listens: exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestQuantile(t *testing.T) {
	s := new(series)
	for i := range 100 {
		s.took = append(s.took, time.Duration(i+1)*time.Second)
	}
	for part, want := range map[float64]int{0: 1, 0.5: 50, 0.9: 90, 0.99: 99, 1: 100} {
		if got := s.quantile(part); got != fmt.Sprintf("%d000ms", want) {
			t.Errorf("%v: %s, want %ds", part, got, want)
		}
	}
	s.took = s.took[:3]
	if got := s.quantile(0.5) + s.quantile(0.99); got != "2000ms3000ms" {
		t.Errorf("of three: %s", got)
	}
}
