package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// runRequest runs the command and returns what it prints and its exit status.
func runRequest(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs strings.Builder
	cmd := newRequestCommand()
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	err := cmd.ExecuteContext(t.Context())
	var exit exitError
	if errors.As(err, &exit) {
		errs.WriteString(exit.Error())
	} else if err != nil {
		t.Errorf("error %v of type %T", err, err)
	}
	return out.String(), errs.String(), exit.ExitCode()
}

// describe answers with the variables that tests ask for, and with STDIN.
func describe(f *wiretest.AppRequest) {
	body := f.Stdin()
	if f.Role == protocol.RoleFilter {
		body += "|" + f.Stdin()
	}
	var b strings.Builder
	b.WriteString("Status: 200 OK\nContent-Type: text/plain\n\n")
	for _, name := range []string{
		"REQUEST_METHOD", "SCRIPT_FILENAME", "SCRIPT_NAME", "DOCUMENT_ROOT", "REQUEST_URI", "QUERY_STRING",
		"CONTENT_LENGTH", "CONTENT_TYPE", "FCGI_DATA_LENGTH", "REDIRECT_STATUS", "EXTRA",
	} {
		if v, ok := f.Params.Lookup(name); ok {
			b.WriteString(name + "=" + v + "\n")
		}
	}
	b.WriteString(f.Role.String() + " " + body + "\n")
	f.Stdout(b.String())
	f.Stderr("a warning\n")
	f.End(0, protocol.StatusRequestComplete)
}

func TestRequest(t *testing.T) {
	addr := "unix:" + wiretest.StartApplication(t, describe)
	file := filepath.Join(t.TempDir(), "body")
	if err := os.WriteFile(file, []byte("of a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args string
		want string
	}{
		{"", `REQUEST_METHOD=GET
SCRIPT_NAME=/
DOCUMENT_ROOT=/
REQUEST_URI=/
QUERY_STRING=
REDIRECT_STATUS=200
RESPONDER 
`},
		{"--script /srv/cgi/a%20b --query x=1 -p EXTRA=a=b -p EXTRA=c --role authorizer -i", `HTTP/1.1 200 OK
Content-Type: text/plain

REQUEST_METHOD=GET
SCRIPT_FILENAME=/srv/cgi/a%20b
SCRIPT_NAME=/a%20b
DOCUMENT_ROOT=/srv/cgi
REQUEST_URI=/a%2520b?x=1
QUERY_STRING=x=1
REDIRECT_STATUS=200
EXTRA=c
AUTHORIZER 
`},
		{"-d text -p REDIRECT_STATUS= -p SCRIPT_NAME=/x", `REQUEST_METHOD=POST
SCRIPT_NAME=/x
DOCUMENT_ROOT=/
REQUEST_URI=/
QUERY_STRING=
CONTENT_LENGTH=4
CONTENT_TYPE=application/x-www-form-urlencoded
REDIRECT_STATUS=
RESPONDER text
`},
		{"-X PUT -d @" + file + " -p CONTENT_TYPE=text/plain", `REQUEST_METHOD=PUT
SCRIPT_NAME=/
DOCUMENT_ROOT=/
REQUEST_URI=/
QUERY_STRING=
CONTENT_LENGTH=9
CONTENT_TYPE=text/plain
REDIRECT_STATUS=200
RESPONDER of a file
`},
		{"-d @- --role filter --script " + file, `REQUEST_METHOD=POST
SCRIPT_FILENAME=` + file + `
SCRIPT_NAME=/body
DOCUMENT_ROOT=` + filepath.Dir(file) + `
REQUEST_URI=/body
QUERY_STRING=
CONTENT_TYPE=application/x-www-form-urlencoded
FCGI_DATA_LENGTH=9
REDIRECT_STATUS=200
FILTER from stdin|of a file
`},
	} {
		stdout, stderr, code := runRequest(t, "from stdin", append([]string{addr}, strings.Fields(test.args)...)...)
		if code != 0 || stderr != "a warning\n" || stdout != test.want {
			t.Errorf("%s: exit %d, stderr %q, stdout:\n%s\nwant:\n%s", test.args, code, stderr, stdout, test.want)
		}
	}
}

func TestRequestFails(t *testing.T) {
	for name, test := range map[string]struct {
		handle         func(*wiretest.AppRequest)
		stdout, stderr string
	}{
		"appStatus": {
			func(f *wiretest.AppRequest) { f.Stdout("A: b\n\nx"); f.End(3, 0) },
			"x", "appStatus 3",
		},
		"502": {
			func(f *wiretest.AppRequest) { f.Stdout("Status: 502 Bad Gateway\n\nx"); f.End(500, 0) },
			"x", "502 (appStatus 500): the daemon's log says why",
		},
		"refused": {
			func(f *wiretest.AppRequest) { f.End(0, protocol.StatusOverloaded) },
			"", "protocolStatus OVERLOADED",
		},
		"refused with an answer": {
			func(f *wiretest.AppRequest) { f.Stdout("Status: 503\n\nbusy"); f.End(0, protocol.StatusOverloaded) },
			"busy", "protocolStatus OVERLOADED",
		},
		"lost": {
			func(f *wiretest.AppRequest) { f.Stdin(); f.Stdout("A: b\n\nhalf") },
			"half", "connection closed before END_REQUEST",
		},
		"lost in the header": {
			func(f *wiretest.AppRequest) { f.Stdin(); f.Stdout("A: b\n") },
			"A: b\n", "connection closed before END_REQUEST",
		},
		"timeout": {
			func(f *wiretest.AppRequest) { f.Stdin(); _, _ = f.Next(); f.End(0, 0) },
			"", "no end within 50ms",
		},
	} {
		t.Run(name, func(t *testing.T) {
			addr := "unix:" + wiretest.StartApplication(t, test.handle)
			stdout, stderr, code := runRequest(t, "", addr, "--timeout", map[bool]string{true: "50ms", false: "1m"}[name == "timeout"])
			if code != 1 || stdout != test.stdout || !strings.HasSuffix(stderr, test.stderr) {
				t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
}

func TestRequestNoHeader(t *testing.T) {
	addr := "unix:" + wiretest.StartApplication(t, func(f *wiretest.AppRequest) { f.Answer("no header\n\nat all") })
	stdout, stderr, code := runRequest(t, "", addr)
	if code != 0 || stdout != "no header\n\nat all" || stderr != "request: no CGI header: response has no header: it begins with \"no header\\n\\n\" (Content-Type: text/html and an empty line come first)\n" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestRequestValues(t *testing.T) {
	addr := "unix:" + wiretest.StartApplication(t, describe)
	stdout, stderr, code := runRequest(t, "", addr, "--values")
	if code != 0 || stdout != "FCGI_MAX_REQS=1\nFCGI_MPXS_CONNS=1\n" || stderr != "" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

func TestRequestNobodyListens(t *testing.T) {
	_, stderr, code := runRequest(t, "", "unix:"+filepath.Join(t.TempDir(), "none"))
	if code != 1 || !strings.Contains(stderr, "no such file") {
		t.Errorf("exit %d, stderr %q", code, stderr)
	}
}

func TestRequestUsage(t *testing.T) {
	for args, want := range map[string]string{
		"":                            "got no argument",
		"unix:/a unix:/b":             "got 2 arguments",
		"/run/a":                      "did you mean unix:/run/a?",
		"localhost:9000":              "did you mean tcp:localhost:9000?",
		"nonsense":                    "is not unix:/path",
		"unix:run/a":                  "needs an absolute path of a socket, or @name",
		"unix:@":                      "needs an absolute path of a socket, or @name",
		"tcp:localhost":               "needs a host and a port",
		"tcp::9000":                   "needs a host and a port",
		"tcp:localhost:0":             "needs a host and a port",
		"tcp:localhost:99999":         "needs a port from 0 to 65535",
		"tcp:::1:9000":                "needs a host and a port",
		"unix:/a -p noequals":         `--param "noequals" is not NAME=VALUE`,
		"unix:/a -p =x":               `--param "=x" is not NAME=VALUE`,
		"unix:/a --script b/a.cgi":    `--script "b/a.cgi" is neither an absolute path nor the name of a function`,
		"unix:/a -d @/no/such/file":   "/no/such/file",
		"unix:/a -d @/":               "/ is a folder",
		"unix:/a -d @":                "names no file",
		"unix:/a -X (":                `--method "(" is no method`,
		"unix:/a --role king":         `--role "king" is none of responder, authorizer, filter`,
		"unix:/a --timeout -1s":       "--timeout -1s is negative",
		"unix:/a --timeout soon":      "invalid",
		"unix:/a --nope":              "unknown flag: --nope",
		"unix:/a --repeat 0":          "--repeat 0 is less than 1",
		"unix:/a --repeat 2 -i":       "--include means nothing with it",
		"unix:/a --repeat 2 -d @-":    "--data @- can be read once only",
		"unix:/a --values --repeat 2": "--repeat means nothing with it",
		"unix:/a --values --fail":     "--fail means nothing with it",
		"unix:/a --values -i":         "--include means nothing with it",
		"unix:/a --values --script /": "--script means nothing with it",
		"unix:/a --role filter --script /no/such/file": "/no/such/file",
	} {
		stdout, stderr, code := runRequest(t, "", strings.Fields(args)...)
		if code != 2 || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d, stdout %q, stderr %q, want %q", args, code, stdout, stderr, want)
		}
	}
}

func TestParseDialAddress(t *testing.T) {
	for addr, want := range map[string][2]string{
		"unix:/run/a:b":      {"unix", "/run/a:b"},
		"unix:@name":         {"unix", "@name"},
		"tcp:127.0.0.1:9000": {"tcp", "127.0.0.1:9000"},
		"tcp:[::1]:9000":     {"tcp", "[::1]:9000"},
	} {
		network, address, err := parseDialAddress(addr)
		if got := [2]string{network, address}; err != nil || got != want {
			t.Errorf("%s: got %q, %v", addr, got, err)
		}
	}
}

func TestRequestAborts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	aborted := make(chan error, 1)
	addr := "unix:" + wiretest.StartApplication(t, func(f *wiretest.AppRequest) {
		f.Stdin()
		cancel()
		_, err := f.Next()
		aborted <- err
	})
	cmd := newRequestCommand()
	cmd.SetArgs([]string{addr})
	if err := cmd.ExecuteContext(ctx); err == nil {
		t.Error("no error")
	}
	if err := <-aborted; err != wiretest.ErrAborted {
		t.Errorf("the application got %v", err)
	}
}
