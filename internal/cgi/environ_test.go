package cgi

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fcgid/fcgid/internal/protocol"
)

// An envTest is what the environment of a script is made of.
type envTest struct{ pass, env []string }

// of is the environment for these params, sorted.
func (e envTest) of(t *testing.T, pairs ...string) []string {
	t.Helper()
	list, err := e.try(pairs...)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(slices.Values(list))
}

func (e envTest) try(pairs ...string) ([]string, error) {
	params := paramsOf(append([]string{"SCRIPT_FILENAME", "/usr/bin/env"}, pairs...)...)
	s, err := new(Rules).Find(&params)
	if err != nil {
		return nil, err
	}
	return (&Environment{Software: "fcgid/test", Fixed: FixedEnv(e.pass, e.env)}).Of(&params, &s)
}

// wantRefusal compares an error with a refusal.
func wantRefusal(t *testing.T, err error, status int, reason string) {
	t.Helper()
	ref, ok := err.(*protocol.Refusal)
	if !ok || ref.HTTPStatus != status || int(ref.AppStatus) != status || !strings.Contains(ref.Error(), reason) {
		t.Errorf("error is %#v, want a refusal with %d: %s", err, status, reason)
	}
}

const ownPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// wantEnv compares an environment with what each one has and more.
func wantEnv(t *testing.T, got []string, more ...string) {
	t.Helper()
	want := []string{"GATEWAY_INTERFACE=CGI/1.1", ownPath, "QUERY_STRING=", "SCRIPT_FILENAME=/usr/bin/env", "SERVER_SOFTWARE=fcgid/test"}
	for _, kv := range more {
		name, _, _ := strings.Cut(kv, "=")
		want = slices.DeleteFunc(want, func(s string) bool { return strings.HasPrefix(s, name+"=") })
		want = append(want, kv)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("FCGID_TEST_SECRET", "of the daemon")
	var p envTest
	wantEnv(t, p.of(t))
	wantEnv(t, p.of(t, "GATEWAY_INTERFACE", "CGI/1.0", "SERVER_SOFTWARE", "nginx", "QUERY_STRING", "a=b"),
		"GATEWAY_INTERFACE=CGI/1.0", "SERVER_SOFTWARE=nginx", "QUERY_STRING=a=b")
	for _, length := range []string{"", "-1", "007", "12x"} {
		wantEnv(t, p.of(t, "CONTENT_LENGTH", length), "CONTENT_LENGTH="+length)
	}
	wantEnv(t, p.of(t, "lower", "1", "_", "2", "A9", "3", "EMPTY", "", "UTF", "\xff=é\t"),
		"lower=1", "_=2", "A9=3", "EMPTY=", "UTF=\xff=é\t")
}

func TestRepeatedParams(t *testing.T) {
	var p envTest
	wantEnv(t, p.of(t, "A", "1", "HTTP_X", "a", "A", "2", "HTTP_COOKIE", "c=1", "HTTP_X", "b", "HTTP_COOKIE", "d=2", "HTTP_X", "c", "A", "3"),
		"A=3", "HTTP_X=a, b, c", "HTTP_COOKIE=c=1; d=2")
	wantEnv(t, p.of(t, "HTTP_X", "", "HTTP_X", ""), "HTTP_X=, ")
	wantEnv(t, p.of(t, "SCRIPT_FILENAME", "/bin/false", "SCRIPT_FILENAME", "/usr/bin/env"))
}

// A header that is repeated very often costs no time worth having.
func TestRepeatedWithoutEnd(t *testing.T) {
	var pairs []string
	for range 50_000 {
		pairs = append(pairs, "HTTP_X", "0123456789abcdef")
	}
	var p envTest
	began := time.Now()
	_, err := p.try(pairs...)
	wantRefusal(t, err, 431, "HTTP_X is longer than the 131072 bytes")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestDroppedParams(t *testing.T) {
	dropped := []string{"HTTP_PROXY", "", "A=B", "A-B", "HTTP_X-Y", "A%", "9A", "A B", "A.B", "É", "A\x00", "A\n",
		"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "BASH_FUNC_x", "BASH_FUNC_x%%", "ENV", "IFS", "PS4", "SHELLOPTS", "ZDOTDIR",
		"PERL5LIB", "PERL5OPT", "PERL5DB", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONINSPECT", "RUBYOPT", "RUBYLIB",
		"NODE_OPTIONS", "LUA_INIT_5_4", "_JAVA_OPTIONS", "JULIA_LOAD_PATH", "GCONV_PATH", "GLIBC_TUNABLES", "MALLOC_TRACE", "OPENSSL_CONF"}
	pairs := []string{"NUL", "a\x00b"}
	for _, name := range dropped {
		pairs = append(pairs, name, "/evil")
	}
	var p envTest
	wantEnv(t, p.of(t, pairs...))
	// A dropped name does not take a good one with it.
	wantEnv(t, p.of(t, "HTTP_PROXY", "x", "HTTP_PROXYS", "y", "NUL", "a", "NUL", "b\x00"), "HTTP_PROXYS=y", "NUL=a")
}

func TestConfiguredEnv(t *testing.T) {
	t.Setenv("FCGID_A", "daemon")
	t.Setenv("FCGID_B", "daemon")
	t.Setenv("FCGID_EMPTY", "")
	t.Setenv("PATH", "/daemon/bin")
	p := envTest{
		pass: []string{"FCGID_A", "FCGID_B", "FCGID_EMPTY", "FCGID_UNSET"},
		env:  []string{"FCGID_B=env", "SERVER_SOFTWARE=env", "LD_LIBRARY_PATH=/lib", "HTTP_PROXY=http://proxy", "EQUALS=a=b", "TWICE=1", "TWICE=2"},
	}
	got := p.of(t, "FCGID_A", "param", "FCGID_B", "param", "SERVER_SOFTWARE", "param", "HTTP_PROXY", "param", "TWICE", "param")
	wantEnv(t, got, "FCGID_A=daemon", "FCGID_B=env", "FCGID_EMPTY=", "SERVER_SOFTWARE=env",
		"LD_LIBRARY_PATH=/lib", "HTTP_PROXY=http://proxy", "EQUALS=a=b", "TWICE=2")
}

func TestPath(t *testing.T) {
	t.Setenv("PATH", "/daemon/bin")
	wantEnv(t, envTest{}.of(t, "PATH", "/apache/bin"), "PATH=/apache/bin")
	passed := envTest{pass: []string{"PATH"}}
	wantEnv(t, passed.of(t, "PATH", "/apache/bin"), "PATH=/daemon/bin")
	set := envTest{[]string{"PATH"}, []string{"PATH=/env/bin"}}
	wantEnv(t, set.of(t, "PATH", "/apache/bin"), "PATH=/env/bin")
	mustDo(t, os.Unsetenv("PATH"))
	wantEnv(t, envTest{pass: []string{"PATH"}}.of(t))
}

// The kernel takes strings of 32 pages, their end included.
func TestLongestString(t *testing.T) {
	limit := 32*os.Getpagesize() - 1
	var p envTest
	longest := "X=" + strings.Repeat("v", limit-2)
	wantEnv(t, p.of(t, "X", longest[2:]), longest)
	_, err := p.try("X", longest[2:]+"v")
	wantRefusal(t, err, 431, fmt.Sprintf("X is longer than the %d bytes", limit+1))

	half := strings.Repeat("v", (limit-len("HTTP_X=")-2)/2)
	last := strings.Repeat("v", limit-len("HTTP_X=")-2-len(half))
	wantEnv(t, p.of(t, "HTTP_X", half, "HTTP_X", last), "HTTP_X="+half+", "+last)
	_, err = p.try("HTTP_X", half, "HTTP_X", last+"v")
	wantRefusal(t, err, 431, "HTTP_X is longer")
}

// The params that the caller has are not changed.
func TestParamsAreKept(t *testing.T) {
	params := paramsOf("A", "1", "A", "2", "HTTP_PROXY", "x", "SCRIPT_FILENAME", "/usr//bin/env/x", "SCRIPT_NAME", "/env/x")
	before := string(params.Append(nil))
	s, err := new(Rules).Find(&params)
	mustDo(t, err)
	env, err := new(Environment).Of(&params, &s)
	mustDo(t, err)
	if got := string(params.Append(nil)); got != before || !slices.Contains(env, "PATH_INFO=/x") {
		t.Errorf("params are %q, were %q; environment %q", got, before, env)
	}
}

// What a Refusal says of a script that was not found.
func TestRefusalNamesTheReason(t *testing.T) {
	var p envTest
	_, err := p.try("SCRIPT_FILENAME", "/nothing/here")
	wantRefusal(t, err, 404, `script "/nothing/here": no such file or directory`)
	_, err = p.try("SCRIPT_FILENAME", write(t, tempDir(t)+"/plain", "", 0o644))
	wantRefusal(t, err, 403, "plain is not executable: ")
}
