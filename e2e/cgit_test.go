//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// cgit lists repositories and shows one, its path from PATH_INFO.
func TestCgit(t *testing.T) {
	cgit := need(t, "cgit.cgi")
	repo := folder(t) + "/demo.git"
	run(t, gitCommand("/", "init", "--quiet", "--bare", repo))
	fastImport(t, repo, "main", 20, 1)
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := newSite(t, network, "env: [CGIT_CONFIG=DIR/cgitrc], process: {scripts: ["+cgit+"]}")
			write(t, s.dir+"/cgitrc", "virtual-root=/\ncache-size=0\nenable-http-clone=0\nsnapshots=tar\n"+
				"repo.url=demo\nrepo.path="+repo+"\nrepo.desc=the demonstration\n")
			s.nginx(keepAlive + "fastcgi_param SCRIPT_FILENAME " + cgit + "; fastcgi_param PATH_INFO $uri;")
			for _, page := range []struct {
				path string
				code int
				want []string
			}{
				{"/", 200, []string{"the demonstration", "/demo/"}},
				{"/demo/", 200, []string{"main", "Alice"}},
				{"/demo/tree/main/3", 200, []string{"3.txt"}},
				{"/demo/plain/main/3/3.txt", 200, []string{"file 3 of main\n"}},
				{"/demo/commit/?id=main", 200, []string{"alice@example.org", "main/3/3.txt"}},
				{"/demo/plain/nothing", 404, []string{"Not found"}},
				{"/nothing/", 404, []string{"No repositories found"}},
			} {
				code, body := get(t, s.url+page.path)
				for _, want := range page.want {
					if code != page.code || !strings.Contains(body, want) {
						t.Errorf("%s: %d, want %d with %q\n%s", page.path, code, page.code, want, body)
					}
				}
			}
			if code, tar := get(t, s.url+"/demo/snapshot/demo-main.tar"); code != 200 || len(tar) < 1<<20 {
				t.Errorf("snapshot: %d, %d bytes", code, len(tar))
			}
		})
	}
}
