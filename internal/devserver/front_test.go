package devserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// A frontTest is the front before a fake application, with a client for it.
type frontTest struct {
	t      *testing.T
	url    string
	client *http.Client
}

func newTest(t *testing.T, docRoot string, handle func(*wiretest.AppRequest)) *frontTest {
	t.Helper()
	return newTestLog(t, docRoot, io.Discard, handle)
}

func newTestLog(t *testing.T, docRoot string, out io.Writer, handle func(*wiretest.AppRequest)) *frontTest {
	t.Helper()
	return newSiteTest(t, &site{dir: docRoot, worker: []string{"application"}}, out, handle) // it answers for all that is no file
}

func newSiteTest(t *testing.T, site *site, out io.Writer, handle func(*wiretest.AppRequest)) *frontTest {
	t.Helper()
	socket := wiretest.StartApplication(t, handle)
	server := httptest.NewUnstartedServer(newFront(site, dialUnix(socket), newConsole(out)))
	server.Config.ErrorLog = stdlog.New(failingLog{t}, "", 0)
	server.Start()
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return &frontTest{t, server.URL, &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// A failingLog is net/http's log of panics and wrong calls: there are none.
type failingLog struct{ t *testing.T }

func (l failingLog) Write(p []byte) (int, error) {
	l.t.Errorf("net/http: %s", p)
	return len(p), nil
}

func dialUnix(socket string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
}

// do sends a request, "GET /path", and returns the answer and its body.
func (d *frontTest) do(methodAndPath string, body io.Reader, change ...func(*http.Request)) (*http.Response, string) {
	d.t.Helper()
	method, path, _ := strings.Cut(methodAndPath, " ")
	req, err := http.NewRequestWithContext(d.t.Context(), method, d.url+path, body)
	if err != nil {
		d.t.Fatal(err)
	}
	for _, c := range change {
		c(req)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp, string(text)
}

// echoParams answers with all variables but those of addresses, and with STDIN.
func echoParams(f *wiretest.AppRequest) {
	body := f.Stdin()
	var b strings.Builder
	b.WriteString("Content-Type: text/plain\n\n")
	for name, value := range f.Params.All() {
		switch name {
		case "REMOTE_ADDR", "REMOTE_PORT", "SERVER_ADDR", "SERVER_PORT", "SERVER_NAME", "HTTP_HOST":
			if value == "" {
				fmt.Fprintf(&b, "%s is empty\n", name)
			}
		default:
			fmt.Fprintf(&b, "%s=%s\n", name, value)
		}
	}
	f.Stdout(b.String() + body)
	f.End(0, protocol.StatusRequestComplete)
}

func TestDevParams(t *testing.T) {
	d := newTest(t, "/srv/www/", echoParams)
	_, got := d.do("POST /a/..//b%20c.cgi/?q=1&r=%20", strings.NewReader("body"), func(r *http.Request) {
		r.Header = http.Header{
			"Content-Type":    {"text/x"},
			"Cookie":          {"a=1", "b=2"},
			"X-Two":           {"1", "2"},
			"X_two":           {"3"},
			"Proxy":           {"evil"},
			"User-Agent":      {"test"},
			"Accept-Encoding": {"identity"},
		}
	})
	want := `SCRIPT_FILENAME=/srv/www/
DOCUMENT_ROOT=/srv/www/
SCRIPT_NAME=
QUERY_STRING=q=1&r=%20
REQUEST_METHOD=POST
CONTENT_TYPE=text/x
CONTENT_LENGTH=4
REQUEST_URI=/a/..//b%20c.cgi/?q=1&r=%20
DOCUMENT_URI=/b c.cgi/
SERVER_PROTOCOL=HTTP/1.1
GATEWAY_INTERFACE=CGI/1.1
SERVER_SOFTWARE=fcgid dev
REDIRECT_STATUS=200
REQUEST_SCHEME=http
HTTP_ACCEPT_ENCODING=identity
HTTP_COOKIE=a=1; b=2
HTTP_USER_AGENT=test
HTTP_X_TWO=1, 2
PATH_INFO=/b c.cgi/
FCGID_DEV_REQUEST=1
body`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, got := d.do("POST /x", io.MultiReader(strings.NewReader("chunked"))); strings.Contains(got, "CONTENT_LENGTH") ||
		!strings.HasSuffix(got, "\nchunked") {
		t.Errorf("unknown length:\n%s", got)
	}
	if _, got := d.do("POST /x", http.NoBody); !strings.Contains(got, "CONTENT_LENGTH=0\n") {
		t.Errorf("empty body:\n%s", got)
	}
	if _, got := d.do("GET /x", nil); strings.Contains(got, "CONTENT_LENGTH") {
		t.Errorf("no body:\n%s", got)
	}
	if resp, _ := d.do("GET /a%00b", nil); resp.StatusCode != 400 {
		t.Errorf("NUL: %d", resp.StatusCode)
	}
}

func TestDevResponse(t *testing.T) {
	for response, want := range map[string]struct {
		status   int
		location string
		body     string
	}{
		"A: b\n\nx":                          {200, "", "x"},
		"Status: 404 Gone?\r\n\r\nx":         {404, "", "x"},
		"Status: 204\n\n":                    {204, "", ""},
		"Status: 304\n\nmust not be sent":    {304, "", ""},
		"Location: http://other/\n\nx":       {302, "http://other/", "x"},
		"Location: //other/\n\nx":            {302, "//other/", "x"},
		"Status: 303\nLocation: /here\n\nx":  {303, "/here", "x"},
		"Connection: close\nUpgrade: y\n\nx": {200, "", "x"},
		"no header\n\n":                      {502, "", "502 Bad Gateway: /x\nanswer of the application: response has no header: it begins with \"no header\\n\\n\" (Content-Type: text/html and an empty line come first)\nAn answer begins with a header and an empty line, for example: Content-Type: text/html\n"},
		"A: b\n":                             {502, "", "502 Bad Gateway: /x\nanswer of the application: response ended inside its header: \"A: b\\n\"\nAn answer begins with a header and an empty line, for example: Content-Type: text/html\n"},
		"":                                   {502, "", "502 Bad Gateway: /x\nanswer of the application: response has no header\nAn answer begins with a header and an empty line, for example: Content-Type: text/html\n"},
		"Location: /here?x\n\nx":             {302, "/here?x", "x"},
		"<!--: x\nA: b\n\nx":                 {200, "", "x"},
		"Status: 500\n\n":                    {500, "", "500 Internal Server Error: /x\nThe program answered 500, wrote no page and nothing to STDERR\n"},
		"Status: 500\nA: b\n\nx":             {500, "", "x"},
		"Status: 503\n\n":                    {503, "", ""},
	} {
		d := newTest(t, t.TempDir(), func(f *wiretest.AppRequest) { f.Answer(response) })
		resp, body := d.do("GET /x", nil)
		if resp.StatusCode != want.status || resp.Header.Get("Location") != want.location || body != want.body || resp.Close ||
			resp.Header.Get("Upgrade") != "" {
			t.Errorf("%q: got %d, %v, %q, close %v", response, resp.StatusCode, resp.Header, body, resp.Close)
		}
	}
}

// A 500 that nobody explains says how its program ended, if that is known.
func TestDevMute(t *testing.T) {
	f := newFront(&site{dir: t.TempDir()}, nil, nil)
	r := httptest.NewRequest("GET", "/x", nil)
	for want, end := range map[string]ending{
		"The program answered 500, wrote no page and nothing to STDERR: exit status 4": {Exit: "exit status 4"},
		"told": {Reason: "told"},
	} {
		if p := f.newProblem(500, r, &target{}, end, nil); p.Reason != want {
			t.Errorf("got %q, want %q", p.Reason, want)
		}
	}
}

func TestDevRepeatedHeadersAndHead(t *testing.T) {
	d := newTest(t, t.TempDir(), func(f *wiretest.AppRequest) {
		f.Answer("Set-Cookie: a=1\nSet-Cookie: b=2\nContent-Length: 4\n\nbody")
	})
	resp, body := d.do("HEAD /x", nil)
	if diff := cmp.Diff([]string{"a=1", "b=2"}, resp.Header.Values("Set-Cookie")); diff != "" || body != "" || resp.ContentLength != 4 {
		t.Errorf("%s body %q, length %d", diff, body, resp.ContentLength)
	}
}

func TestDevStreams(t *testing.T) {
	next := make(chan struct{})
	d := newTest(t, t.TempDir(), func(f *wiretest.AppRequest) {
		f.Stdout("A: b\n\n")
		for i := range 3 {
			<-next
			f.Stdout(fmt.Sprintf("line %d\n", i))
		}
		f.End(0, protocol.StatusRequestComplete)
	})
	resp, err := d.client.Get(d.url + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	for i := range 3 {
		next <- struct{}{}
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("line %d\n", i) {
			t.Errorf("got %q, %v", line, err)
		}
	}
}

// The answer comes while the body is sent: net/http must not take the body away.
func TestDevDuplex(t *testing.T) {
	d := newTest(t, t.TempDir(), func(f *wiretest.AppRequest) {
		f.Stdout("A: b\n\n")
		for {
			piece, err := f.Next()
			if err != nil {
				break
			}
			f.Stdout(piece)
		}
		f.End(0, protocol.StatusRequestComplete)
	})
	body, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", d.url+"/x", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer := bufio.NewReader(resp.Body)
	for i := range 3 {
		line := fmt.Sprintf("line %d\n", i)
		if _, err := io.WriteString(w, line); err != nil {
			t.Fatal(err)
		}
		if got, err := answer.ReadString('\n'); err != nil || got != line {
			t.Errorf("got %q, %v", got, err)
		}
	}
	w.Close()
	if _, err := answer.ReadByte(); err != io.EOF {
		t.Errorf("got %v, want the end", err)
	}
}

// The answer is complete before the body has come; the client gets all of it.
func TestDevBodyNotTaken(t *testing.T) {
	d := newTest(t, t.TempDir(), func(f *wiretest.AppRequest) {
		f.Stdout("A: b\n\nearly")
		f.End(0, protocol.StatusRequestComplete)
	})
	body, w := io.Pipe()
	defer w.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", d.url+"/x", body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || string(text) != "early" || !resp.Close {
		t.Errorf("got %q, %v, close %v", text, err, resp.Close)
	}
}

func TestDevClientLeaves(t *testing.T) {
	started, aborted := make(chan struct{}), make(chan error, 1)
	d := newTest(t, t.TempDir(), func(f *wiretest.AppRequest) {
		f.Stdin()
		close(started)
		_, err := f.Next()
		aborted <- err
		f.End(0, protocol.StatusRequestComplete)
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "POST", d.url+"/x", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-started
		cancel()
	}()
	if resp, err := d.client.Do(req); err == nil {
		resp.Body.Close()
		t.Error("an answer came")
	}
	if err := <-aborted; err != wiretest.ErrAborted {
		t.Errorf("the application got %v, want ABORT_REQUEST", err)
	}
}

func TestDevBrokenApplication(t *testing.T) {
	d := newTest(t, t.TempDir(), func(f *wiretest.AppRequest) {
		switch f.Params.Get("PATH_INFO") {
		case "/refuse":
			f.Stdin()
			f.End(0, protocol.StatusOverloaded)
		case "/busy":
			f.Stdin()
			f.Stdout("Status: 503\n\nbusy")
			f.End(0, protocol.StatusOverloaded)
		case "/half":
			f.Stdin()
			f.Stdout("A: b\n\nhalf")
		}
	})
	if resp, body := d.do("GET /lost", nil); resp.StatusCode != 502 || !strings.Contains(body, "closed before END_REQUEST") {
		t.Errorf("got %d, %q", resp.StatusCode, body)
	}
	if resp, body := d.do("GET /refuse", nil); resp.StatusCode != 502 || !strings.Contains(body, "refuses the request: OVERLOADED") {
		t.Errorf("got %d, %q", resp.StatusCode, body)
	}
	if resp, body := d.do("GET /busy", nil); resp.StatusCode != 503 || body != "busy" {
		t.Errorf("got %d, %q", resp.StatusCode, body)
	}
	resp, err := d.client.Get(d.url + "/half")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("half an answer passes for a whole one: %q", text)
	}
}

func TestDevNoApplication(t *testing.T) {
	dial := func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody listens") }
	recorder := httptest.NewRecorder()
	front := newFront(&site{dir: t.TempDir(), worker: []string{"application"}}, dial, nil)
	front.ServeHTTP(recorder, httptest.NewRequest("POST", "/x", strings.NewReader("body")))
	if recorder.Code != 502 || recorder.Body.String() != "502 Bad Gateway: /x\nnobody listens\n" {
		t.Errorf("got %d, %q", recorder.Code, recorder.Body)
	}
}

// A request is a line for a person, with what its program has written below it, and
// nothing of it reaches the terminal as it came.
func TestDevTerminal(t *testing.T) {
	var out lockedBuffer
	d := newTestLog(t, t.TempDir(), &out, func(f *wiretest.AppRequest) {
		f.Stderr("one\r\ntw\x1b[31m")
		f.Stderr("o\n")
		f.Stderr("rest")
		f.Answer("A: b\n\nbody")
	})
	d.do("GET /x?%1b[31m", nil)
	d.client.CloseIdleConnections()
	polltest.Until(t, "the lines", func() bool { return strings.Contains(out.String(), "stderr: rest\n") })
	duration := regexp.MustCompile(`  [0-9.]+[mµ]?s  `)
	want := "200 GET  /x?%1b[31m  TIME  4 B\n     stderr: one\n     stderr: \"tw\\x1b[31mo\"\n     stderr: rest\n"
	if got := duration.ReplaceAllString(out.String(), "  TIME  "); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

type lockedBuffer struct {
	mu sync.Mutex // guards the field below
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestDevFolder(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "a b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{
		"run.sh": 0o755, "<b>.sh": 0o755, "text.txt": 0o644, ".hidden": 0o755, "a b/x?.cgi": 0o755,
	} {
		if err := os.WriteFile(filepath.Join(root, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(root, "out")); err != nil {
		t.Fatal(err)
	}
	d := newSiteTest(t, &site{dir: root}, io.Discard, func(f *wiretest.AppRequest) { f.Answer("Status: 404\n\nasked") })
	inside := []string{`<li><a href="/">../</a></li>`, `<li><a href="/a%20b/x%3F.cgi">x?.cgi</a></li>`}
	for path, want := range map[string]struct {
		code  int
		items []string
	}{
		"/": {200, []string{
			`<li><a href="/%3Cb%3E.sh">&lt;b&gt;.sh</a></li>`, `<li><a href="/a%20b/">a b/</a></li>`,
			`<li><a href="/run.sh">run.sh</a></li>`, `<li><a href="/text.txt">text.txt</a></li>`,
		}},
		"/a%20b":      {301, nil},
		"/a%20b/":     {200, inside},
		"/out/":       {404, nil},
		"/none":       {404, nil},
		"/.hidden":    {404, nil},
		"/text.txt":   {200, nil},
		"/text.txt/x": {404, nil},
	} {
		resp, body := d.do("GET "+path, nil)
		var got []string
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "<li>") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if diff := cmp.Diff(want.items, got); diff != "" || resp.StatusCode != want.code {
			t.Errorf("%s: %d %s\n%s", path, resp.StatusCode, diff, body)
		}
	}
	for _, path := range []string{"/run.sh", "/run.sh/more"} {
		if _, body := d.do("GET "+path, nil); body != "asked" {
			t.Errorf("%s: %q", path, body)
		}
	}
	if resp, _ := d.do("POST /", strings.NewReader("x")); resp.StatusCode != 405 {
		t.Errorf("POST of a folder: %d", resp.StatusCode)
	}
}

// What is refused before any program is explained like what a program fails at.
func TestDevRefuses(t *testing.T) {
	root := t.TempDir()
	if err := os.WriteFile(filepath.Join(root, "a.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d := newSiteTest(t, &site{dir: root}, io.Discard, func(*wiretest.AppRequest) { t.Error("asked") })
	for request, want := range map[string]string{
		"POST /a.txt": "405 Method Not Allowed: /a.txt\nit can only be read\n",
		"PUT /":       "405 Method Not Allowed: /\nit can only be read\n",
		"GET /a%00b":  "400 Bad Request: \"/a\\x00b\"\nthere is a NUL in the path\n",
	} {
		resp, body := d.do(request, nil)
		if body != want || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %q %v", request, body, resp.Header)
		}
	}
}
