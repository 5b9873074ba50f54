//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// How nginx hands on the body of a request.
const (
	buffered   = ""
	unbuffered = "fastcgi_request_buffering off;"
)

// gitHTTP makes nginx serve the repositories in DIR/repos to a user who may push.
const gitHTTP = `
	fastcgi_param SCRIPT_FILENAME BACKEND; fastcgi_param GIT_PROJECT_ROOT DIR/repos;
	fastcgi_param GIT_HTTP_EXPORT_ALL ""; fastcgi_param PATH_INFO $uri; fastcgi_param REMOTE_USER alice;
	fastcgi_param GIT_PROTOCOL $http_git_protocol; fastcgi_buffering off;`

// gitSite is a site whose nginx serves repos/big.git, a copy of the repository
// at origin.
func gitSite(t *testing.T, network, directives, origin string) *site {
	t.Helper()
	backend := need(t, "git-http-backend")
	s := newSite(t, network, "process: {scripts: ["+backend+"]}")
	if err := os.Mkdir(s.dir+"/repos", 0o755); err != nil {
		t.Fatal(err)
	}
	s.git("clone", "--quiet", "--bare", origin, s.dir+"/repos/big.git")
	s.nginx(directives + strings.ReplaceAll(gitHTTP, "BACKEND", backend))
	return s
}

// gitCommand is git with nothing of the user's configuration.
func gitCommand(dir string, args ...string) *exec.Cmd {
	args = append([]string{
		"-C", dir, "-c", "user.name=Alice", "-c", "user.email=alice@example.org", "-c", "init.defaultBranch=main",
		"-c", "core.compression=0", "-c", "pack.threads=1", "-c", "gc.auto=0", "-c", "advice.detachedHead=false",
	}, args...)
	cmd := exec.Command("git", args...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "HOME="+dir)
	return cmd
}

// git runs git in the site's folder and returns what it printed.
func (s *site) git(args ...string) string {
	s.t.Helper()
	return run(s.t, gitCommand(s.dir, args...))
}

// gitTraced runs git and returns the lines of HTTP it has sent and received.
func (s *site) gitTraced(args ...string) string {
	s.t.Helper()
	cmd := gitCommand(s.dir, args...)
	trace := s.dir + "/trace"
	os.Remove(trace)
	cmd.Env = append(cmd.Env, "GIT_TRACE_CURL="+trace, "GIT_TRACE_CURL_NO_DATA=1")
	run(s.t, cmd)
	b, err := os.ReadFile(trace)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// fastImport adds a commit to a bare repository's branch: many small files and
// some of a megabyte that no compression makes smaller.
func fastImport(t testing.TB, repo, branch string, small, large int) {
	t.Helper()
	cmd := gitCommand(repo, "fast-import", "--quiet")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte{0: byte(small), 1: byte(large), 2: byte(len(branch))})
	w := bufio.NewWriter(in)
	fmt.Fprintf(w, "commit refs/heads/%s\ncommitter Alice <alice@example.org> 1700000000 +0000\ndata <<E\n%[1]s\nE\n", branch)
	for i := range small {
		fmt.Fprintf(w, "M 100644 inline %s/%d/%d.txt\ndata <<E\nfile %[3]d of %[1]s\nE\n", branch, i%50, i)
	}
	megabyte := make([]byte, 1<<20)
	for i := range large {
		random.Read(megabyte)
		fmt.Fprintf(w, "M 100644 inline %s/large%d\ndata %d\n", branch, i, len(megabyte))
		w.Write(megabyte)
		w.WriteByte('\n')
	}
	w.Flush()
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("git fast-import: %v\n%s", err, &out)
	}
}

// bigRepository makes two bare repositories. The server has origin, with 3 MB in its
// branch main. In more there are 8 MB, in the branch other, which are to be pushed. Either
// has some hundreds of small objects.
func bigRepository(t testing.TB) (origin, more string) {
	t.Helper()
	dir := folder(t)
	origin, more = dir+"/big.git", dir+"/more.git"
	run(t, gitCommand("/", "init", "--quiet", "--bare", origin))
	fastImport(t, origin, "main", 1000, 3)
	run(t, gitCommand("/", "init", "--quiet", "--bare", more))
	fastImport(t, more, "other", 500, 8)
	return origin, more
}

// sentChunked is in the trace of a request without a length.
const sentChunked = "=> Send header: Transfer-Encoding: chunked"

// pushFetch pushes 8 MB, lets another clone fetch them, and sees to it that
// they are whole.
func (s *site) pushFetch(more string, gitOptions ...string) (pushTrace string) {
	s.t.Helper()
	url := s.url + "/big.git"
	s.git("clone", "--quiet", "--no-checkout", url, "a")
	s.git("clone", "--quiet", "--no-checkout", "--depth=1", url, "shallow")
	s.git("-C", "a", "fetch", "--quiet", more, "other:other")
	pushTrace = s.gitTraced(append(gitOptions, "-C", "a", "push", "--quiet", "origin", "other")...)
	s.git(append(gitOptions, "-C", "shallow", "fetch", "--quiet", "--depth=1", "origin", "other")...)
	want := strings.TrimSpace(s.git("-C", "a", "rev-parse", "other"))
	if got := strings.TrimSpace(s.git("-C", "shallow", "rev-parse", "FETCH_HEAD")); got != want {
		s.t.Errorf("fetched %s, want %s", got, want)
	}
	if got := strings.TrimSpace(s.git("-C", "shallow", "rev-list", "--all", "--count")); got != "1" {
		s.t.Errorf("shallow clone has %s commits of main", got)
	}
	for _, repo := range []string{"repos/big.git", "shallow"} {
		s.git("-C", repo, "fsck", "--full", "--strict", "--no-progress")
	}
	if got := strings.TrimSpace(s.git("-C", "repos/big.git", "rev-parse", "other")); got != want {
		s.t.Errorf("pushed %s, want %s", got, want)
	}
	return pushTrace
}

// git clone, push and fetch behind nginx, however it passes the bodies on.
func TestGit(t *testing.T) {
	need(t, "git")
	origin, more := bigRepository(t)
	for _, test := range []struct {
		network, directives string
		chunked             bool
	}{
		{"unix", buffered, true},
		{"unix", unbuffered + keepAlive, true},
		{"tcp", unbuffered, true},
		{"tcp", buffered + keepAlive, false},
		{"unix", unbuffered, false},
	} {
		t.Run(fmt.Sprintf("%s %s chunked=%v", test.network, test.directives, test.chunked), func(t *testing.T) {
			s := gitSite(t, test.network, test.directives, origin)
			postBuffer := "http.postBuffer=100m"
			if test.chunked {
				postBuffer = "http.postBuffer=64k"
			}
			trace := s.pushFetch(more, "-c", postBuffer)
			if got := strings.Contains(trace, sentChunked); got != test.chunked {
				t.Errorf("push was chunked: %v", got)
			}
			s.awaitIdle()
			if got := s.metric(t, `fcgid_requests_total{outcome="error",pool="cgi"}`); got != "0" {
				t.Errorf("requests with an error: %s", got)
			}
		})
	}
}

// Requests of many refs come compressed, and git-http-backend decompresses
// them, in protocol v0 and v2, shallow and whole.
func TestGitCompressedRequests(t *testing.T) {
	origin := folder(t) + "/refs.git"
	run(t, gitCommand("/", "init", "--quiet", "--bare", origin))
	for i := range 60 {
		fastImport(t, origin, fmt.Sprintf("branch%d", i), 3, 0)
	}
	run(t, gitCommand(origin, "symbolic-ref", "HEAD", "refs/heads/branch0"))
	for _, directives := range []string{buffered, unbuffered + keepAlive} {
		s := gitSite(t, "unix", directives, origin)
		for _, test := range []struct{ version, postBuffer, sent string }{
			{"0", "1m", "=> Send header: Content-Encoding: gzip"},
			{"0", "1k", sentChunked},
			{"2", "1m", "=> Send header: Content-Encoding: gzip"},
		} {
			t.Run(fmt.Sprintf("%s v%s postBuffer=%s", directives, test.version, test.postBuffer), func(t *testing.T) {
				to := "v" + test.version + "-" + test.postBuffer
				trace := s.gitTraced("-c", "protocol.version="+test.version, "-c", "http.postBuffer="+test.postBuffer,
					"clone", "--quiet", "--no-checkout", s.url+"/big.git", to)
				if got := strings.Contains(trace, "=> Send header: Git-Protocol: version=2"); got != (test.version == "2") {
					t.Errorf("asked for protocol v2: %v", got)
				}
				// In v2 the refs are asked for by a POST of their own, if the server agreed.
				if posts := strings.Count(trace, "=> Send header: POST "); test.postBuffer == "1m" && (posts > 1) != (test.version == "2") {
					t.Errorf("%d POSTs", posts)
				}
				if !strings.Contains(trace, test.sent) {
					t.Errorf("no %q in\n%s", test.sent, trace)
				}
				s.git("-C", to, "fsck", "--full", "--strict", "--no-progress")
				if got := strings.Count(s.git("-C", to, "branch", "-r", "--list", "origin/branch*"), "\n"); got != 60 {
					t.Errorf("%d branches, want 60", got)
				}
			})
		}
	}
}
