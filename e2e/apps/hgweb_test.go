//go:build apps

package apps

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// hg is a command of Mercurial's, which asks nobody and reads no file of the user's.
func (w *world) hg(args ...string) *exec.Cmd {
	cmd := w.command("hg", args...)
	cmd.Env = append(cmd.Env, "HGRCPATH=", "HGPLAIN=1", "HGUSER=Writer <writer@example.org>")
	return cmd
}

// hgweb makes a repository in WORLD/repository, and the program that serves it.
func (w *world) hgweb() (program string) {
	w.t.Helper()
	harness.Run(w.t, w.hg("init", w.dir+"/repository"))
	harness.Write(w.t, w.dir+"/repository/.hg/hgrc", "[web]\nallow-push = *\npush_ssl = false\nname = demo\n")
	harness.Write(w.t, w.dir+"/repository/dir/a file.txt", "Hello <out>\n")
	w.give(w.dir + "/repository")
	harness.Run(w.t, w.hg("-R", w.dir+"/repository", "--encoding", "utf-8", "commit", "-A", "-m", "the first, über", "-d", "0 0"))
	return harness.Script(w.t, w.dir+"/hgweb.cgi", w.here(`#!/usr/bin/python3
from mercurial import demandimport
demandimport.enable()
from mercurial.hgweb import hgweb, wsgicgi
wsgicgi.launch(hgweb(b'WORLD/repository'))
`))
}

// hgPages are pages with what they have in them.
var hgPages = map[string]string{
	"/": "the first, über", "/log": "the first, über", "/rev/0": "dir/a file.txt", "/file/0/dir": "a file.txt", "/file/0/dir/a%20file.txt": "Hello &lt;out&gt;",
	"/raw-file/tip/dir/a%20file.txt": "Hello <out>\n", "/rss-log": "<rss ", "/static/style-paper.css": "body", "/?cmd=capabilities": "unbundle",
}

// Mercurial's hgweb, a Python program, shows a repository, is cloned from and takes a push.
func TestHgweb(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	program := w.hgweb()
	w.serve(w.here("pools:\n  - {name: process, listen: 'unix:WORLD/process', timeout: 60s, process: {scripts: [" + program + "]}}\n"))
	for _, s := range []server{
		w.webServer("nginx", "", "client_max_body_size 0; location / { include "+w.fastcgiParams()+"; fastcgi_param SCRIPT_FILENAME "+program+
			`; fastcgi_param SCRIPT_NAME ""; fastcgi_param PATH_INFO $uri; fastcgi_pass unix:SOCKET; }`, "process"),
		w.webServer("apache", apacheModules, `ProxyPass / unix:SOCKET|fcgi://localhost/
			ProxyFCGIBackendType GENERIC
			ProxyFCGISetEnvIf true SCRIPT_FILENAME `+program+`
			ProxyFCGISetEnvIf true SCRIPT_NAME ""
			ProxyFCGISetEnvIf "true" PATH_INFO "%{unescape:%{REQUEST_URI}}"`, "process"),
	} {
		t.Run(s.name, func(t *testing.T) {
			w := w.at(t)
			b := newBrowser(t, s.urls["process"])
			for path, has := range hgPages {
				b.want(path, b.get(path), 200, has)
			}
			b.want("no such revision", b.get("/rev/none"), 404, "none")
			clone := w.dir + "/clone-" + s.name
			harness.Run(t, w.hg("clone", "-q", b.base, clone))
			harness.Write(t, clone+"/"+s.name, strings.Repeat(s.name, 1<<18))
			w.give(clone)
			harness.Run(t, w.hg("-R", clone, "commit", "-A", "-m", "by "+s.name))
			harness.Run(t, w.hg("-R", clone, "push", "-q", b.base))
			b.want("what was pushed", b.get("/rev/tip"), 200, "by "+s.name)
		})
	}
}
