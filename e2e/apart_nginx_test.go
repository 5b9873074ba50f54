//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A daemon that may do nothing serves three pools of three users behind nginx: PHP, git and a
// script. Reloads that change the users of two of them lose no request.
func TestApartBehindNginx(t *testing.T) {
	t.Parallel()
	const alice, otherAlice, git, www, otherWWW = 64131, 64132, 64133, 64134, 64135
	a := serveApart(t)
	backend := need(t, "git-http-backend")
	script(t, a.dir+"/cgi/who", whoAmI)
	write(t, a.dir+"/cgi/who.php", "<?php echo posix_geteuid(), ' ', posix_getegid();")
	if out, err := exec.Command("git", "init", "-q", "--bare", a.dir+"/repo").CombinedOutput(); err != nil {
		t.Fatalf("git: %v: %s", err, out)
	}
	if err := filepath.WalkDir(a.dir+"/repo", func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			err = os.Chown(path, git, git)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	at := map[string]string{"alice": freeAddress(t), "git": freeAddress(t), "www": freeAddress(t)}
	pools := func(alice, www int) string {
		return a.pools(strings.NewReplacer("DIR", a.dir, "PHP", need(t, "php-cgi"), "BACKEND", backend,
			"ATA", at["alice"], "ATG", at["git"], "ATW", at["www"], "AS1", asUser(alice), "AS2", asUser(git), "AS3", asUser(www)).Replace(
			`- {name: alice, listen: "tcp:ATA", AS1, worker: {command: [PHP], root: [DIR/cgi], max: 2, min: 1}, timeout: 60s}
- {name: git, listen: "tcp:ATG", AS2, process: {scripts: [BACKEND]}, env: [GIT_HTTP_EXPORT_ALL=, GIT_PROJECT_ROOT=DIR], timeout: 60s}
- {name: www, listen: "tcp:ATW", AS3, process: {root: [DIR/cgi]}, timeout: 60s}
`))
	}
	a.configure(pools(alice, www))
	a.order(t, "reload").is(t, "reload", 0, "www: added")
	location := "location /%s/ { include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME %s; fastcgi_param PATH_INFO %s; fastcgi_pass %s; }\n"
	url := nginx(t, a.dir, fmt.Sprintf(location, "alice", a.dir+"/cgi/who.php", "''", at["alice"])+
		fmt.Sprintf(location, "repo", backend, "$uri", at["git"])+fmt.Sprintf(location, "www", a.dir+"/cgi/who", "''", at["www"]))

	var stop atomic.Bool
	var asking sync.WaitGroup
	answers := make([]map[string]int, 3)
	for i, path := range []string{"/alice/", "/repo/info/refs?service=git-upload-pack", "/www/"} {
		answers[i] = make(map[string]int)
		asking.Go(func() {
			for !stop.Load() {
				status, body := get(t, url+path)
				body, _, _ = strings.Cut(body, " ")
				answers[i][fmt.Sprint(status, " ", strings.TrimSpace(body))]++
			}
		})
	}
	for range 3 {
		a.configure(pools(otherAlice, otherWWW))
		a.order(t, "reload").is(t, "reload", 0)
		a.configure(pools(alice, www))
		a.order(t, "reload").is(t, "reload", 0)
	}
	stop.Store(true)
	asking.Wait()
	for i, may := range [][]string{
		{fmt.Sprint("200 ", alice), fmt.Sprint("200 ", otherAlice)},
		{"200 001e#"}, {fmt.Sprint("200 ", www), fmt.Sprint("200 ", otherWWW)},
	} {
		for got, n := range answers[i] {
			if !slices.Contains(may, got) {
				t.Errorf("%d answers %q, want one of %q", n, got, may)
			}
		}
		if len(answers[i]) == 0 {
			t.Errorf("nothing was asked of %q", may)
		}
	}
	t.Log(answers)
	if names := programsOf(t, alice); len(names) == 0 {
		t.Error("no process is alice's")
	}
}
