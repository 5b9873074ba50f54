//go:build e2e

package e2e

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
)

// Names of scripts that must not run.
func TestHostileScriptNames(t *testing.T) {
	r := newRig(t, "", "")
	secret := script(t, r.dir+"/secret.sh", "#!/bin/sh\n: >"+r.dir+"/ran\nprintf 'Content-Type: text/plain\\n\\nsecret'\n")
	script(t, r.dir+"/cgi-more/x.sh", "#!/bin/sh\n: >"+r.dir+"/ran\nprintf 'Content-Type: text/plain\\n\\nsecret'\n")
	cgi := r.dir + "/cgi"
	write(t, cgi+"/plain.txt", "no program")
	for _, err := range []error{
		os.Symlink(secret, cgi+"/out.sh"), os.Symlink(r.dir, cgi+"/up"), os.Symlink("/dev/zero", cgi+"/zero"),
		os.Symlink(cgi+"/loop", cgi+"/loop"), os.Symlink("hello.sh", cgi+"/in.sh"),
		os.Mkdir(cgi+"/sub", 0o755), syscall.Mkfifo(cgi+"/fifo", 0o777),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 {
		if err := syscall.Mknod(cgi+"/device", syscall.S_IFCHR|0o777, 1<<8|3); err != nil {
			t.Log("no device:", err)
		}
	}
	for name, want := range map[string]int{
		cgi + "/in.sh":                       200,
		cgi + "//hello.sh":                   200,
		cgi + "/./hello.sh":                  200,
		cgi + "/../secret.sh":                403,
		cgi + "/sub/../../secret.sh":         403,
		cgi + "/sub/../hello.sh":             403,
		cgi + "/out.sh":                      403,
		cgi + "/up/secret.sh":                403,
		cgi + "/up/cgi-more/x.sh":            403,
		r.dir + "/cgi-more/x.sh":             403,
		secret:                               403,
		cgi + "/hello.sh\x00.txt":            403,
		cgi + "/out.sh\x00":                  403,
		"/etc/passwd":                        403,
		"/bin/sh":                            403,
		"/dev/zero":                          403,
		"/proc/self/exe":                     403,
		cgi:                                  403,
		cgi + "/":                            403,
		cgi + "/sub":                         403,
		cgi + "/fifo":                        403,
		cgi + "/zero":                        403,
		cgi + "/loop":                        403,
		cgi + "/plain.txt":                   403,
		"/":                                  403,
		"hello.sh":                           403,
		"":                                   404,
		cgi + "/none.sh":                     404,
		cgi + "/sub/none.sh":                 404,
		cgi + strings.Repeat("/x", 3e3):      404,
		cgi + "/" + strings.Repeat("x", 300): 404,
	} {
		r.both(t, func(t *testing.T, address string) {
			got := r.one(t, address, name)
			if got.status() != want || got.end == nil {
				t.Errorf("%q: got %v, want %d", tail(name, 80), got, want)
			}
			if want >= 400 && got.end != nil && got.end.AppStatus != uint32(want) {
				t.Errorf("%q: appStatus %d, want %d", tail(name, 80), got.end.AppStatus, want)
			}
		})
	}
	if got := r.one(t, r.unix, cgi+"/device"); os.Getuid() == 0 && got.status() != 403 {
		t.Errorf("device: got %v", got)
	}
	if _, err := os.Stat(r.dir + "/ran"); err == nil {
		t.Error("a program outside root ran")
	}
	r.good(t, r.unix)
}

// environScript prints the environment that it was started with, and its arguments.
const environScript = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\ntr '\\000' '\\n' </proc/$$/environ\nprintf 'arguments %s [%s]\\n' $# \"$*\"\n"

// Variables that must not reach a program.
func TestHostileEnvironment(t *testing.T) {
	r := newRig(t, "env: [FIXED=ours]", "")
	env := r.script(t, "env.sh", environScript)
	for name, value := range map[string]string{
		"HTTP_PROXY": "http://evil", "LD_PRELOAD": "/tmp/evil.so", "LD_LIBRARY_PATH": "/tmp", "BASH_ENV": "/tmp/evil", "GIT_CONFIG_COUNT": "1", "XDG_CONFIG_HOME": "/tmp",
		"BASH_FUNC_echo%%": "() { evil; }", "IFS": "/", "PERL5OPT": "-d", "PERL5LIB": "/tmp", "PYTHONPATH": "/tmp", "RUBYOPT": "-x",
		"NODE_OPTIONS": "-r", "GCONV_PATH": "/tmp", "A=B": "C", "": "empty", "WITH-DASH": "x", "WITH SPACE": "x", "1X": "x", "UML\xc4UT": "x",
		"NUL": "a\x00b", "N\x00UL": "x", "LINE\nFEED": "x",
	} {
		got := r.one(t, r.unix, env, name, value)
		if got.status() != 200 {
			t.Errorf("%q: got %v", name, got)
		}
		for line := range strings.SplitSeq(got.body(), "\n") {
			if strings.HasPrefix(line, name+"=") && name != "" || strings.HasPrefix(line, "=") || strings.HasPrefix(line, "A=B") {
				t.Errorf("%q reached the program: %q", name, line)
			}
		}
	}
	got := r.one(t, r.unix, env, "QUERY_STRING", "-s+-d+allow_url_include%3d1", "PATH", "/bin:/usr/bin:/theirs", "FIXED", "theirs",
		"HTTP_X", "1\n2", "lower", "case", "GATEWAY_INTERFACE", "CGI/1.0")
	lines := strings.Split(got.body(), "\n")
	for _, want := range []string{"arguments 0 []", "FIXED=ours", "PATH=/bin:/usr/bin:/theirs", "lower=case", "HTTP_X=1", "QUERY_STRING=-s+-d+allow_url_include%3d1", "GATEWAY_INTERFACE=CGI/1.0"} {
		if !slices.Contains(lines, want) {
			t.Errorf("the program lacks %q", want)
		}
	}
}

// More than execve(2) takes is told, not hung on.
func TestHostileEnvironmentSize(t *testing.T) {
	r := newRig(t, "limits: {params: 16MiB}", "")
	var more []string
	for i := range 80 {
		more = append(more, "X"+string(rune('A'+i/26))+string(rune('A'+i%26)), strings.Repeat("x", 100<<10))
	}
	r.both(t, func(t *testing.T, address string) {
		for name, vars := range map[string][]string{
			"one string of 200 KiB": {"X", strings.Repeat("x", 200<<10)},
			"8 MiB in all":          more,
		} {
			got := r.one(t, address, r.dir+"/cgi/hello.sh", vars...)
			if got.status() != 431 || got.end == nil {
				t.Errorf("%s: got %v, want 431", name, got)
			}
		}
		joined := append(params(r.dir+"/cgi/hello.sh"), repeated("HTTP_X", strings.Repeat("x", 60<<10), 3)...)
		p := connect(t, address)
		p.send(request(1, fcgi.Params(joined), ""))
		if got := p.reply(1); got.status() != 431 {
			t.Errorf("a header that is too long once it is joined: got %v, want 431", got)
		}
		r.good(t, address)
	})
}
