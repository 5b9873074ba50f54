package cgi

import (
	"fmt"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/users"
)

// An envTest is what the environment of a script is made of.
type envTest struct {
	env, pass, params, single []string
	dropped                   func(name, why string)
}

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
	return e.environment().Of(&params, new(protocol.RequestID), &s)
}

func (e envTest) environment() *Environment {
	return NewEnvironment(Options{
		Software: "fcgid/test", Env: e.env, PassEnv: e.pass, PassParams: e.params, SingleFields: e.single, Dropped: e.dropped,
	})
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

// ofUser are the variables of who runs the tests.
func ofUser(t *testing.T) []string {
	t.Helper()
	u, err := user.Current()
	mustDo(t, err)
	return []string{"HOME=" + u.HomeDir, "USER=" + u.Username, "LOGNAME=" + u.Username}
}

// wantEnv compares an environment with what each one has and more.
func wantEnv(t *testing.T, got []string, more ...string) {
	t.Helper()
	want := append(ofUser(t), "GATEWAY_INTERFACE=CGI/1.1", ownPath, "QUERY_STRING=", "SCRIPT_FILENAME=/usr/bin/env", "SERVER_SOFTWARE=fcgid/test")
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

// The values of a header that is repeated very often are not copied with each one.
func TestRepeatedWithoutEnd(t *testing.T) {
	var pairs []string
	for range 50_000 {
		pairs = append(pairs, "HTTP_X", "0123456789abcdef")
	}
	var p envTest
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := p.try(pairs...)
	runtime.ReadMemStats(&after)
	wantRefusal(t, err, 431, "HTTP_X is longer than the 131072 bytes")
	if n := (after.TotalAlloc - before.TotalAlloc) >> 20; n > 64 { // they are 1 MiB
		t.Errorf("it took %d MiB", n)
	}
}

// A field that may come once only is refused where its values differ.
func TestSingleFields(t *testing.T) {
	p := envTest{single: []string{"*_USER", "HTTP_X_ROLE?", "["}}
	for _, name := range []string{"HOST", "AUTHORIZATION", "CONTENT_TYPE", "CONTENT_LENGTH", "RANGE", "IF_MATCH", "USER_AGENT", "REFERER", "X_USER", "REMOTE_USER", "X_ROLES"} {
		name = "HTTP_" + name
		wantEnv(t, p.of(t, name, "a", name, "a", "A", "1", name, "a"), name+"=a", "A=1")
		_, err := p.try(name, "a", "A", "1", name, "b")
		wantRefusal(t, err, 400, name+" has come twice")
		_, err = p.try(name, "", name, "b")
		wantRefusal(t, err, 400, name+" has come twice")
	}
	for _, name := range []string{"X_USERS", "X_ROLE", "ACCEPT", "X_FORWARDED_FOR", "HOSTS", "IF"} {
		name = "HTTP_" + name
		wantEnv(t, p.of(t, name, "a", name, "b"), name+"=a, b")
	}
	// A param of the web server's own: what comes later is meant.
	wantEnv(t, p.of(t, "CONTENT_LENGTH", "1", "CONTENT_LENGTH", "", "REMOTE_USER", "a", "REMOTE_USER", "b"), "CONTENT_LENGTH=", "REMOTE_USER=b")
}

func TestDroppedParams(t *testing.T) {
	dropped := []string{"HTTP_PROXY", "", "A=B", "A-B", "HTTP_X-Y", "A%", "9A", "A B", "A.B", "É", "A\x00", "A\n",
		"LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "BASH_ENV", "BASH_FUNC_x", "BASH_FUNC_x%%", "IFS", "PS4", "SHELLOPTS", "ZDOTDIR",
		"PERL5LIB", "PERL5OPT", "PERL5DB", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONINSPECT", "RUBYOPT", "RUBYLIB", "PHPRC",
		"NODE_OPTIONS", "LUA_INIT_5_4", "_JAVA_OPTIONS", "JULIA_LOAD_PATH", "GCONV_PATH", "GLIBC_TUNABLES", "MALLOC_TRACE", "OPENSSL_CONF",
		"HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_COUNT", "GIT_CONFIG_KEY_0", "GIT_SSH_COMMAND", "GIT_EXEC_PATH", "GIT_EXTERNAL_DIFF", "HGRCPATH",
		"http_proxy", "https_PROXY", "Ftp_Proxy", "aLL_proxy", "HTTP_proxy", "GIT_PROXY", "CGI_HTTP_PROXY", "Socks5_Proxy", "LANGUAGE", "LC_ALL", "LC_MESSAGES",
		"ZIP", "ZIPOPT", "LTDL_LIBRARY_PATH", "DOTDIR", "MANOPT", "HDF5_PLUGIN_PATH", "PGSSLKEY", "TNS_ADMIN"}
	arriving := []string{"ENV", "PATH", "PYTHONIOENCODING", "NODE_ENV", "GIT_PROJECT_ROOT", "GIT_HTTP_EXPORT_ALL", "GIT_PROTOCOL", "CONTENT_TYPE",
		"GITWEB_CONFIG", "CGIT_CONFIG", "GITOLITE_HTTP_HOME", "MS_MAPFILE", "NAGIOS_CGI_CONFIG", "APP_ENV", "SSL_CLIENT_CERT", "TZ", "USER", "HTTP_LANGUAGE", "PGHOST",
		"HDF5_USE_FILE_LOCKING", "BEHIND_PROXY", "GSS_NAME", "MANAGER", "GMT_OFFSET"}
	pairs := []string{"NUL", "a\x00b"}
	for _, name := range dropped {
		pairs = append(pairs, name, "/evil")
	}
	var want []string
	for _, name := range arriving {
		pairs = append(pairs, name, "/value")
		want = append(want, name+"=/value")
	}
	told := make(map[string]int)
	p := envTest{dropped: func(name, why string) { told[name]++ }}
	params := paramsOf(append([]string{"SCRIPT_FILENAME", "/usr/bin/env"}, pairs...)...)
	e := p.environment()
	for range 3 {
		s, err := new(Rules).Find(&params)
		mustDo(t, err)
		got, err := e.Of(&params, new(protocol.RequestID), &s)
		mustDo(t, err)
		wantEnv(t, slices.Sorted(slices.Values(got)), want...)
	}
	if n := len(dropped) + 1; len(told) != n || told["NUL"] != 1 || told["HOME"] != 1 || told["HTTP_PROXY"] != 1 {
		t.Errorf("told of %v, want each of %d once", told, n)
	}
	// Languages have names, and the way to a file is none.
	wantEnv(t, envTest{}.of(t, "LANGUAGE", "de:en", "LANG", "de_DE.UTF-8", "LC_ALL", "C.UTF-8", "LC_TIME", "../x", "LC_CTYPE", ""),
		"LANGUAGE=de:en", "LANG=de_DE.UTF-8", "LC_ALL=C.UTF-8", "LC_CTYPE=")
	// A dropped name does not take a good one with it.
	wantEnv(t, envTest{}.of(t, "HTTP_PROXY", "x", "HTTP_PROXYS", "y", "NUL", "a", "NUL", "b\x00"), "HTTP_PROXYS=y", "NUL=a")
}

// What env has is not dropped: it arrives from there. So is what may pass.
func TestDroppedParamsThatArrive(t *testing.T) {
	p := envTest{
		env: []string{"PERL5LIB=/env"}, params: []string{"PHPRC", "HTTP_PROXY", "HOME"},
		dropped: func(name, why string) { t.Errorf("told of %s: %s", name, why) },
	}
	wantEnv(t, p.of(t, "PERL5LIB", "/param", "PHPRC", "/param", "HTTP_PROXY", "/param", "HOME", "/param"),
		"PERL5LIB=/env", "PHPRC=/param", "HTTP_PROXY=/param", "HOME=/param")
}

// Clients that think of ever more names do not fill the log, nor memory.
func TestDroppedWithoutEnd(t *testing.T) {
	told := 0
	p := envTest{dropped: func(string, string) { told++ }}
	var pairs []string
	for i := range 10_000 {
		pairs = append(pairs, fmt.Sprintf("LD_%d", i), "x")
	}
	wantEnv(t, p.of(t, pairs...))
	if told != maxTold {
		t.Errorf("told %d times", told)
	}
}

func TestConfiguredEnv(t *testing.T) {
	t.Setenv("FCGID_A", "daemon")
	t.Setenv("FCGID_B", "daemon")
	t.Setenv("FCGID_C", "daemon")
	t.Setenv("FCGID_EMPTY", "")
	t.Setenv("PATH", "/daemon/bin")
	p := envTest{
		pass: []string{"FCGID_A", "FCGID_B", "FCGID_C", "FCGID_EMPTY", "FCGID_UNSET"},
		env:  []string{"FCGID_B=env", "SERVER_SOFTWARE=env", "LD_LIBRARY_PATH=/lib", "HTTP_PROXY=http://proxy", "EQUALS=a=b", "TWICE=1", "TWICE=2"},
	}
	got := p.of(t, "FCGID_A", "param", "FCGID_B", "param", "SERVER_SOFTWARE", "param", "HTTP_PROXY", "param", "TWICE", "param")
	wantEnv(t, got, "FCGID_A=param", "FCGID_B=env", "FCGID_C=daemon", "FCGID_EMPTY=", "SERVER_SOFTWARE=env",
		"LD_LIBRARY_PATH=/lib", "HTTP_PROXY=http://proxy", "EQUALS=a=b", "TWICE=2")
}

func TestPath(t *testing.T) {
	t.Setenv("PATH", "/daemon/bin")
	wantEnv(t, envTest{}.of(t, "PATH", "/apache/bin"), "PATH=/apache/bin")
	passed := envTest{pass: []string{"PATH"}}
	wantEnv(t, passed.of(t, "PATH", "/apache/bin"), "PATH=/apache/bin")
	wantEnv(t, passed.of(t), "PATH=/daemon/bin")
	set := envTest{pass: []string{"PATH"}, env: []string{"PATH=/env/bin"}}
	wantEnv(t, set.of(t, "PATH", "/apache/bin"), "PATH=/env/bin")
	mustDo(t, os.Unsetenv("PATH"))
	wantEnv(t, passed.of(t))
}

// Who programs run as is told where nobody else says so.
func TestUserVariables(t *testing.T) {
	t.Setenv("HOME", "/home/of/the/daemon")
	wantEnv(t, envTest{}.of(t))
	wantEnv(t, envTest{pass: []string{"HOME"}}.of(t), "HOME=/home/of/the/daemon")
	wantEnv(t, envTest{env: []string{"HOME=/env"}}.of(t, "USER", "param"), "HOME=/env", "USER=param")
	if got := userVariables(1 << 30); !slices.Equal(got, []string{"HOME=/"}) {
		t.Errorf("who is no user has %q", got)
	}
}

func TestEnvironmentOfWorker(t *testing.T) {
	t.Setenv("FCGID_A", "daemon")
	t.Setenv("FCGID_B", "daemon")
	p := envTest{pass: []string{"FCGID_A", "FCGID_B"}, env: []string{"FCGID_B=env", "LD_PRELOAD=x"}}
	got := slices.Sorted(slices.Values(p.environment().OfWorker("FCGID_A=default", "FCGID_D=default")))
	want := append(ofUser(t), ownPath, "FCGID_A=daemon", "FCGID_B=env", "FCGID_D=default", "LD_PRELOAD=x")
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
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
	env, err := new(Environment).Of(&params, new(protocol.RequestID), &s)
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

// A Refusal names the user, and what denies: the file, or the first folder on the way.
func TestDenied(t *testing.T) {
	dir := tempDir(t)
	file := write(t, dir+"/closed/script", "", 0o750)
	me, group := users.NameOf(uint32(os.Geteuid())), users.GroupName(uint32(os.Getegid()))
	want := fmt.Sprintf(" to user %s: the file %s has mode 0750, owner %[1]s and group %[3]s", me, file, group)
	if got := Denied(file); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	want = fmt.Sprintf(" to user %s: the folder %s has mode 0755, owner %[1]s and group %[3]s", me, dir+"/closed", group)
	if got := Denied(dir + "/closed"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := Denied(dir + "/none/script"); got != " to user "+me {
		t.Errorf("of what is not there: %q", got)
	}
}

func TestCheckFields(t *testing.T) {
	for _, more := range [][]string{nil, {"HTTP_A", "1", "HTTP_A", "2"}, {"X_USER", "1", "X_USER", "2"}, {"HTTP_X_USER", "1", "HTTP_X_USER", "1"}} {
		params := paramsOf(append([]string{"HTTP_HOST", "a", "HTTP_X", "b"}, more...)...)
		if err := CheckFields(&params, []string{"*_USER"}); err != nil {
			t.Errorf("%q: %v", more, err)
		}
	}
	for n := range 40 {
		params := paramsOf("HTTP_X_USER", "1")
		for i := range n {
			params.Add(fmt.Sprintf("HTTP_N%d", i), "x")
		}
		params.Add("HTTP_X_USER", "2")
		wantRefusal(t, CheckFields(&params, []string{"*_USER"}), 400, "HTTP_X_USER has come twice")
	}
}
