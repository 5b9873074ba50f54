package runner_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner"
)

// envProgram prints its environment, a variable a line.
func envProgram(change ...func(*options)) *program {
	opt := options{Software: "fcgid/test"}
	for _, f := range change {
		f(&opt)
	}
	return &program{runner.NewProcess(opt), "/usr/bin/env"}
}

// environment is what env prints for these params, sorted.
func environment(t *testing.T, p *program, pairs ...string) []string {
	t.Helper()
	c := p.call(pairs...).run(t, p)
	if c.err != nil || c.status != 0 {
		t.Fatalf("Run returned %d, %v", c.status, c.err)
	}
	return slices.Sorted(strings.SplitSeq(strings.TrimSuffix(c.out.String(), "\n"), "\n"))
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
	p := envProgram()
	wantEnv(t, environment(t, p))
	wantEnv(t, environment(t, p, "GATEWAY_INTERFACE", "CGI/1.0", "SERVER_SOFTWARE", "nginx", "QUERY_STRING", "a=b"),
		"GATEWAY_INTERFACE=CGI/1.0", "SERVER_SOFTWARE=nginx", "QUERY_STRING=a=b")
	for _, length := range []string{"", "-1", "007", "12x"} {
		wantEnv(t, environment(t, p, "CONTENT_LENGTH", length), "CONTENT_LENGTH="+length)
	}
	wantEnv(t, environment(t, p, "lower", "1", "_", "2", "A9", "3", "EMPTY", "", "UTF", "\xff=é\t"),
		"lower=1", "_=2", "A9=3", "EMPTY=", "UTF=\xff=é\t")
}

func TestRepeatedParams(t *testing.T) {
	p := envProgram()
	wantEnv(t, environment(t, p, "A", "1", "HTTP_X", "a", "A", "2", "HTTP_COOKIE", "c=1", "HTTP_X", "b", "HTTP_COOKIE", "d=2", "HTTP_X", "c", "A", "3"),
		"A=3", "HTTP_X=a, b, c", "HTTP_COOKIE=c=1; d=2")
	wantEnv(t, environment(t, p, "HTTP_X", "", "HTTP_X", ""), "HTTP_X=, ")
	wantEnv(t, environment(t, p, "SCRIPT_FILENAME", "/bin/false", "SCRIPT_FILENAME", "/usr/bin/env"))
}

// A header that is repeated very often costs no time worth having.
func TestRepeatedWithoutEnd(t *testing.T) {
	var pairs []string
	for range 50_000 {
		pairs = append(pairs, "HTTP_X", "0123456789abcdef")
	}
	p := envProgram()
	c := p.call(pairs...)
	began := time.Now()
	c.run(t, p).wantRefusal(t, 431, 431, "HTTP_X is longer than the 131072 bytes")
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
	p := envProgram()
	wantEnv(t, environment(t, p, pairs...))
	// A dropped name does not take a good one with it.
	wantEnv(t, environment(t, p, "HTTP_PROXY", "x", "HTTP_PROXYS", "y", "NUL", "a", "NUL", "b\x00"), "HTTP_PROXYS=y", "NUL=a")
}

func TestConfiguredEnv(t *testing.T) {
	t.Setenv("FCGID_A", "daemon")
	t.Setenv("FCGID_B", "daemon")
	t.Setenv("FCGID_EMPTY", "")
	t.Setenv("PATH", "/daemon/bin")
	p := envProgram(func(o *options) {
		o.PassEnv = []string{"FCGID_A", "FCGID_B", "FCGID_EMPTY", "FCGID_UNSET"}
		o.Env = []string{"FCGID_B=env", "SERVER_SOFTWARE=env", "LD_LIBRARY_PATH=/lib", "HTTP_PROXY=http://proxy", "EQUALS=a=b", "TWICE=1", "TWICE=2"}
	})
	got := environment(t, p, "FCGID_A", "param", "FCGID_B", "param", "SERVER_SOFTWARE", "param", "HTTP_PROXY", "param", "TWICE", "param")
	wantEnv(t, got, "FCGID_A=daemon", "FCGID_B=env", "FCGID_EMPTY=", "SERVER_SOFTWARE=env",
		"LD_LIBRARY_PATH=/lib", "HTTP_PROXY=http://proxy", "EQUALS=a=b", "TWICE=2")
}

func TestPath(t *testing.T) {
	t.Setenv("PATH", "/daemon/bin")
	wantEnv(t, environment(t, envProgram(), "PATH", "/apache/bin"), "PATH=/apache/bin")
	passed := envProgram(func(o *options) { o.PassEnv = []string{"PATH"} })
	wantEnv(t, environment(t, passed, "PATH", "/apache/bin"), "PATH=/daemon/bin")
	set := envProgram(func(o *options) { o.PassEnv, o.Env = []string{"PATH"}, []string{"PATH=/env/bin"} })
	wantEnv(t, environment(t, set, "PATH", "/apache/bin"), "PATH=/env/bin")
	mustDo(t, os.Unsetenv("PATH"))
	wantEnv(t, environment(t, envProgram(func(o *options) { o.PassEnv = []string{"PATH"} })))
}

// The kernel takes strings of 32 pages, their end included.
func TestLongestString(t *testing.T) {
	limit := 32*os.Getpagesize() - 1
	p := envProgram()
	longest := "X=" + strings.Repeat("v", limit-2)
	wantEnv(t, environment(t, p, "X", longest[2:]), longest)
	p.call("X", longest[2:]+"v").run(t, p).wantRefusal(t, 431, 431, fmt.Sprintf("X is longer than the %d bytes", limit+1))

	half := strings.Repeat("v", (limit-len("HTTP_X=")-2)/2)
	last := strings.Repeat("v", limit-len("HTTP_X=")-2-len(half))
	wantEnv(t, environment(t, p, "HTTP_X", half, "HTTP_X", last), "HTTP_X="+half+", "+last)
	p.call("HTTP_X", half, "HTTP_X", last+"v").run(t, p).wantRefusal(t, 431, 431, "HTTP_X is longer")
}

// All strings together are more than the kernel takes.
func TestTooManyStrings(t *testing.T) {
	var pairs []string
	for i := range 64 {
		pairs = append(pairs, fmt.Sprintf("X%d", i), strings.Repeat("v", 120<<10))
	}
	p := envProgram()
	p.call(pairs...).run(t, p).wantRefusal(t, 431, 431, "the environment is larger than the kernel takes")
}

// The params that the caller has are not changed.
func TestParamsAreKept(t *testing.T) {
	p := envProgram()
	c := p.call("A", "1", "A", "2", "HTTP_PROXY", "x", "SCRIPT_FILENAME", "/usr//bin/env/x", "SCRIPT_NAME", "/env/x")
	before := string(c.Params.Append(nil))
	c.run(t, p)
	if got := string(c.Params.Append(nil)); got != before || !strings.Contains(c.out.String(), "PATH_INFO=/x\n") {
		t.Errorf("params are %q, were %q; environment\n%s", got, before, c.out.String())
	}
}

// What a Refusal says of a script that was not started.
func TestRefusalNamesTheReason(t *testing.T) {
	p := envProgram()
	c := p.call("SCRIPT_FILENAME", "/nothing/here").run(t, p)
	c.wantRefusal(t, 404, 404, `script "/nothing/here": no such file or directory`)
	p.call("SCRIPT_FILENAME", write(t, tempDir(t)+"/plain", "", 0o644)).run(t, p).wantRefusal(t, 403, 403, "plain is not executable: ")
	if _, isRefusal := c.err.(*protocol.Refusal); !isRefusal {
		t.Errorf("error is a %T", c.err)
	}
}
