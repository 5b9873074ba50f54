//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
)

// phpPools are all ways of running PHP: persistent, with the daemon looking for
// the script and without, and a process a request, by interpreters and by a
// script's first line.
const phpPools = `
- {name: worker, listen: "unix:$T/worker", worker: {command: [$P], max: 2}}
- {name: worker0, listen: "unix:$T/worker0", worker: {command: [$P, -d, cgi.fix_pathinfo=0], max: 2}}
- {name: rooted, listen: "unix:$T/rooted", worker: {command: [$P], max: 2, root: [$T/www], extensions: [.php]}}
- {name: rooted0, listen: "unix:$T/rooted0", worker: {command: [$P, -d, cgi.fix_pathinfo=0], max: 2, root: [$T/www], extensions: [.php]}}
- {name: interpreter, listen: "unix:$T/interpreter", process: {root: [$T/www], extensions: [.php], interpreters: [.php=$P]}}
- {name: interpreter0, listen: "unix:$T/interpreter0", process: {root: [$T/www], extensions: [.php], interpreters: [.php=$P]}, env: ["PHP_INI_SCAN_DIR=:$T/ini"]}
- {name: direct, listen: "unix:$T/direct", process: {root: [$T/www]}}
- {name: direct0, listen: "unix:$T/direct0", process: {root: [$T/www]}, env: ["PHP_INI_SCAN_DIR=:$T/ini"]}
`

// newPHPSite starts a daemon with these pools, and files that are to be run, of
// which good.php and direct.php are the only ones, or not.
func newPHPSite(t *testing.T) (dir string) {
	t.Helper()
	dir = folder(t)
	for _, sub := range []string{"www", "elsewhere", "ini"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	say := `<?php echo "%s|", $_SERVER["SCRIPT_NAME"] ?? "", "|", $_SERVER["PATH_INFO"] ?? "", "\n";`
	write(t, dir+"/www/good.php", fmt.Sprintf(say, "GOOD"))
	script(t, dir+"/www/direct.php", "#!"+need(t, "php-cgi")+"\n"+fmt.Sprintf(say, "GOOD"))
	for _, name := range []string{"www/photo.jpg", "www/notes.txt", "elsewhere/secret.php", "elsewhere/good.php", "elsewhere/photo.jpg"} {
		write(t, filepath.Join(dir, name), fmt.Sprintf(say, "BAD "+name))
	}
	write(t, dir+"/ini/x.ini", "cgi.fix_pathinfo=0\n")
	serve(t, dir, strings.NewReplacer("$T", dir, "$P", need(t, "php-cgi")).Replace(phpPools))
	return dir
}

// misleading are the values that each of the params takes in turn with which one
// could name another file; "-" is none.
var misleading = []struct {
	names  string
	values []string
}{
	{"SCRIPT_FILENAME", []string{"DIR/www/SELF", "DIR/www/SELF/photo.jpg", "proxy:fcgi://localhost/DIR/www/SELF", "proxy:fcgi://localhost/DIR/www/SELF/a%20b"}},
	{"SCRIPT_NAME", []string{"/SELF", "", "/photo.jpg"}},
	{"PATH_INFO", []string{"-", "/photo.jpg", "/SELF/photo.jpg"}},
	{"PATH_TRANSLATED", []string{"-", "DIR/www/photo.jpg", "DIR/elsewhere/secret.php"}},
	{"REDIRECT_URL", []string{"-", "/r/photo.jpg"}},
	{"ORIG_SCRIPT_FILENAME ORIG_PATH_TRANSLATED ORIG_PATH_INFO ORIG_SCRIPT_NAME", []string{"-", "DIR/elsewhere/secret.php"}},
	{"REDIRECT_SCRIPT_FILENAME REDIRECT_PATH_TRANSLATED REDIRECT_HANDLER REDIRECT_REDIRECT_URL", []string{"-", "DIR/www/photo.jpg"}},
	{"DOCUMENT_ROOT", []string{"DIR/www", "-", "DIR/elsewhere"}},
	{"REQUEST_URI", []string{"/SELF", "/photo.jpg"}},
}

// combination is the nth of all, and whether there is one.
func combination(n int, dir, self string) (fcgi.Params, bool) {
	p := fcgi.Params{{Name: "REQUEST_METHOD", Value: "GET"}, {Name: "REDIRECT_STATUS", Value: "200"}}
	for _, m := range misleading {
		value := m.values[n%len(m.values)]
		n /= len(m.values)
		if value == "-" {
			continue
		}
		for name := range strings.FieldsSeq(m.names) {
			p = append(p, fcgi.Param{Name: name, Value: strings.NewReplacer("DIR", dir, "SELF", self).Replace(value)})
		}
	}
	return p, n == 0
}

// Whatever else the params name, PHP opens the file that was looked at.
func TestPHPOpensNoOtherFile(t *testing.T) {
	dir := newPHPSite(t)
	for pool, step := range map[string]int{
		"rooted": 1, "rooted0": 1, "worker": 1, "worker0": 1,
		"interpreter": 61, "interpreter0": 61, "direct": 61, "direct0": 61, // each starts PHP
	} {
		t.Run(pool, func(t *testing.T) {
			t.Parallel()
			self := "good.php"
			if strings.HasPrefix(pool, "direct") {
				self = "direct.php"
			}
			ask := asker(t, dir+"/"+pool)
			asked := 0
			for n := 0; ; n += step {
				p, ok := combination(n, dir, self)
				if !ok {
					break
				}
				if strings.HasPrefix(pool, "worker") && !isApaches(p) && !strings.HasSuffix(p.Get("SCRIPT_FILENAME"), ".php") {
					continue // PHP looks for what is before path info
				}
				asked++
				if got := ask(p); !strings.Contains(got, "GOOD|") || strings.Contains(got, "BAD") {
					t.Fatalf("params %q:\n%s", p, got)
				}
			}
			t.Logf("%d requests", asked)
		})
	}
}

// isApaches reports whether the params are as Apache makes them.
func isApaches(p fcgi.Params) bool { return strings.HasPrefix(p.Get("SCRIPT_FILENAME"), "proxy:") }

// asker sends requests to a pool, one after the other on one connection, or on
// another one where that was closed: its Client does so when it was late itself.
func asker(t *testing.T, socket string) func(fcgi.Params) string {
	t.Helper()
	var c *fcgi.Conn
	t.Cleanup(func() {
		if c != nil {
			c.Close()
		}
	})
	return func(p fcgi.Params) string {
		t.Helper()
		for range 10 {
			var err error
			if c == nil {
				if c, err = fcgi.Dial(context.Background(), "unix:"+socket); err != nil {
					t.Fatal(err)
				}
			}
			var out strings.Builder
			_, err = c.Do(context.Background(), &fcgi.Request{Params: p, Stdout: &out})
			if err == nil {
				return out.String()
			}
			if !errors.Is(err, net.ErrClosed) {
				t.Fatal(err)
			}
			c.Close()
			c = nil
		}
		t.Fatal("each connection is closed")
		return ""
	}
}

// What Apache sends to php-fpm runs what php-fpm would run, which is told the same.
func TestPHPAsInFPM(t *testing.T) {
	dir := newPHPSite(t)
	user := "www-data"
	conf := write(t, dir+"/fpm.conf", fmt.Sprintf("[global]\nerror_log = %[1]s/fpm.log\n[www]\nuser = %[2]s\nlisten = %[1]s/fpm\nlisten.mode = 0666\npm = static\npm.max_children = 1\n", dir, user))
	start(t, exec.Command(phpFPM(t), "-F", "-n", "-y", conf))
	listening(t, "unix", dir+"/fpm")
	fpm := asker(t, dir+"/fpm")
	pools := make(map[string]func(fcgi.Params) string)
	for _, pool := range []string{"worker", "worker0", "rooted", "rooted0", "interpreter"} {
		pools[pool] = asker(t, dir+"/"+pool)
	}
	for name, lines := range map[string]string{
		"a handler":                      "SCRIPT_FILENAME=proxy:fcgi://localhost/DIR/www/good.php\nSCRIPT_NAME=/good.php",
		"a handler, path info":           "SCRIPT_FILENAME=proxy:fcgi://localhost/DIR/www/good.php\nSCRIPT_NAME=/good.php\nPATH_INFO=/news/1\nPATH_TRANSLATED=DIR/www/news/1",
		"a front controller":             "SCRIPT_FILENAME=proxy:fcgi://localhost/DIR/www/good.php\nSCRIPT_NAME=/good.php\nPATH_INFO=/news/1\nPATH_TRANSLATED=DIR/www/news/1\nREDIRECT_URL=/r/news/1",
		"a front controller, a file":     "SCRIPT_FILENAME=proxy:fcgi://localhost/DIR/www/good.php\nSCRIPT_NAME=/good.php\nPATH_INFO=/photo.jpg\nPATH_TRANSLATED=DIR/www/photo.jpg\nREDIRECT_URL=/r/photo.jpg",
		"a front controller, nothing":    "SCRIPT_FILENAME=proxy:fcgi://localhost/DIR/www/good.php\nSCRIPT_NAME=/good.php\nREDIRECT_URL=/r",
		"ProxyPassMatch":                 "SCRIPT_FILENAME=proxy:fcgi://localhost/DIR/www/good.php/news/1\nSCRIPT_NAME=/good.php/news/1\nREQUEST_URI=/good.php/news/1",
		"a balancer":                     "SCRIPT_FILENAME=proxy:balancer://c/DIR/www/good.php?q=/x\nSCRIPT_NAME=/good.php",
		"nginx":                          "SCRIPT_FILENAME=DIR/www/good.php\nSCRIPT_NAME=/good.php\nPATH_INFO=/news/1",
		"nginx, path info and its place": "SCRIPT_FILENAME=DIR/www/good.php\nSCRIPT_NAME=/good.php\nPATH_INFO=/photo.jpg\nDOCUMENT_ROOT=DIR/www",
	} {
		p := fcgi.Params{{Name: "REQUEST_METHOD", Value: "GET"}, {Name: "DOCUMENT_ROOT", Value: dir + "/www"}}
		for line := range strings.Lines(strings.ReplaceAll(lines, "DIR", dir)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			p.Set(name, value)
		}
		want := body(fpm(p))
		if !strings.HasPrefix(want, "GOOD|") {
			t.Fatalf("%s: php-fpm answers %q", name, want)
		}
		for _, pool := range slices.Sorted(maps.Keys(pools)) {
			if got := body(pools[pool](p)); got != want {
				t.Errorf("%s, %s: %q, php-fpm %q", name, pool, got, want)
			}
		}
	}
}

// phpFPM is php-fpm, which Debian names by its version.
func phpFPM(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/sbin/php-fpm*")
	if len(found) == 0 {
		t.Fatal("php-fpm is not installed; `make test` installs what the tests need")
	}
	return found[len(found)-1]
}

// body is what follows the header of an answer.
func body(answer string) string {
	_, rest, _ := strings.Cut(answer, "\r\n\r\n")
	return rest
}

// Many combinations at once do not get into each other's way.
func TestPHPScriptsAtOnce(t *testing.T) {
	dir := newPHPSite(t)
	var all sync.WaitGroup
	for i := range 8 {
		ask := asker(t, dir+"/rooted")
		all.Go(func() {
			for n := i; n < 1000; n += 8 {
				p, _ := combination(n, dir, "good.php")
				if got := ask(p); !strings.Contains(got, "GOOD|") {
					t.Errorf("params %q:\n%s", p, got)
					return
				}
			}
		})
	}
	all.Wait()
}
