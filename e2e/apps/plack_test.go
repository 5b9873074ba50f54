//go:build apps

package apps

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// inbox makes an archive of mail in WORLD/inbox.
func (w *world) inbox() {
	w.t.Helper()
	harness.Write(w.t, w.dir+"/inbox.config", "[publicinboxmda]\n\tspamcheck = none\n")
	w.give(w.dir + "/inbox.config")
	harness.Run(w.t, w.perl("public-inbox-init", "-V2", "test", w.dir+"/inbox", "http://mail.example.org/test", "test@example.org"))
	for i := range 30 {
		w.deliver(i, strings.Repeat("a line of <text> & more\n", 20*i))
	}
}

// perl is a command of public-inbox.
func (w *world) perl(name string, args ...string) *exec.Cmd {
	cmd := w.command(name, args...)
	cmd.Env = append(cmd.Env, "PI_CONFIG="+w.dir+"/inbox.config", "ORIGINAL_RECIPIENT=test@example.org")
	return cmd
}

// deliver puts the i-th mail into the archive.
func (w *world) deliver(i int, text string) {
	w.t.Helper()
	cmd := w.perl("public-inbox-mda", "--no-precheck")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("From: Writer %[1]d <w%[1]d@example.org>\nTo: test@example.org\nSubject: Mail %[1]d, %[2]s\nMessage-ID: <m%[1]d@example.org>\n"+
		"References: <m%[3]d@example.org>\nDate: Sat, 21 Nov 2026 00:%02[1]d:00 +0000\nContent-Type: text/plain; charset=utf-8\n\nHello %[1]d, schöne Grüße.\n%[4]s", i, "über", max(0, i-1), text))
	harness.Run(w.t, cmd)
}

var plackPages = []string{
	"/test/", "/test", "/test/new.atom", "/test/m3@example.org/", "/test/m3@example.org", "/test/m3%40example.org/", "/test/m3@example.org/raw", "/test/m20@example.org/t/",
	"/test/m20@example.org/T/", "/test/m20@example.org/t.atom", "/test/m20@example.org/t.mbox.gz", "/test/none@example.org/", "/test/_/text/help/",
	"/test/_/text/color/raw", "/test/?o=10", "/test/topics_new.html", "/no-such-inbox/", "/test/description", "/",
}

// plackDiffers is what two answers have not in common: the time in the header of gzip.
var plackDiffers = regexp.MustCompile(`^\x1f\x8b\x08.{7}|\d+ (second|minute)s? ago`)

// public-inbox, a Perl application on Plack, answers the same as under Plack's own
// FastCGI server that listens itself: with two workers that FCGI::ProcManager has
// forked, and with a process for each request.
func TestPlack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.inbox()
	psgi, err := filepath.Abs("testdata/plack/public-inbox.psgi")
	if err != nil {
		t.Fatal(err)
	}
	harness.Need(t, "/usr/lib/cgi-bin/public-inbox.cgi")
	const env = "    env: ['PI_CONFIG=WORLD/inbox.config']\n"
	w.serve(w.here("pools:\n  - name: worker\n    listen: unix:WORLD/worker\n    timeout: 60s\n    worker:\n      command: [/usr/bin/plackup, -E, deployment, -s, FCGI, --nproc, '2', '" + psgi +
		"']\n      max: 1\n      concurrency: 2\n" + env +
		"  - name: process\n    listen: unix:WORLD/process\n    timeout: 60s\n    process:\n      scripts: [/usr/lib/cgi-bin/public-inbox.cgi]\n" + env))
	harness.Start(t, w.perl("plackup", "-E", "deployment", "-s", "FCGI", "--listen", w.dir+"/plack", "--nproc", "2", psgi)).Listening(t, "unix", w.dir+"/plack")
	backends := []string{"worker", "process", "plack"}
	servers := []server{
		w.webServer("nginx", "", "server_name mail.example.org; location / { include "+w.fastcgiParams()+`; fastcgi_param SCRIPT_FILENAME /usr/lib/cgi-bin/public-inbox.cgi;
			fastcgi_param SCRIPT_NAME ""; fastcgi_param PATH_INFO $uri; fastcgi_pass unix:SOCKET; }`, backends...),
		w.webServer("apache", apacheModules, `ProxyPass / unix:SOCKET|fcgi://localhost/
			ProxyFCGIBackendType GENERIC
			ProxyFCGISetEnvIf true SCRIPT_FILENAME /usr/lib/cgi-bin/public-inbox.cgi
			ProxyFCGISetEnvIf true SCRIPT_NAME ""
			ProxyFCGISetEnvIf true PATH_INFO "%{reqenv:REQUEST_URI}"
			ProxyFCGISetEnvIf "true" PATH_INFO "%{unescape:%{REQUEST_URI}}"`, backends...),
	}
	for i, s := range servers {
		for n, backend := range backends[:2] {
			t.Run(s.name+" "+backend, func(t *testing.T) {
				w := w.at(t)
				b := newBrowser(t, s.urls[backend])
				b.same(s.urls["plack"], plackDiffers, plackPages...)
				number := 40 + 10*i + n
				w.deliver(number, "")
				harness.Await(t, "the new mail", func() bool { return strings.Contains(b.get("/test/").body, fmt.Sprintf("Mail %d", number)) })
				b.same(s.urls["plack"], plackDiffers, "/test/", fmt.Sprintf("/test/m%d@example.org/", number))
				// A search that is sent as a form, and its result as an mbox.
				b.want("search", b.post("/test/?q=Gr%C3%BC%C3%9Fe&x=m"), 200, "\x1f\x8b")
				b.want("search", b.get("/test/?q=%22Hello+7%22"), 200, "Mail 7")
				// public-inbox serves git itself.
				clone := fmt.Sprintf("%s/clone-%d-%d", w.dir, i, n)
				harness.Run(t, w.command("git", "clone", "-q", "--mirror", s.urls[backend]+"/test/0", clone))
				if got := harness.Run(t, w.command("git", "-C", clone, "rev-list", "--count", "--all")); strings.TrimSpace(got) < "3" {
					t.Errorf("the clone has %s commits", got)
				}
			})
		}
	}
}
