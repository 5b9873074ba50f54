//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// A manual is README.md, and what it leads to in docs, as somebody follows it whose
// machine is a folder.
type manual struct {
	t   *testing.T
	dir string
}

func newManual(t *testing.T) *manual {
	t.Helper()
	m := &manual{t: t, dir: folder(t)}
	for _, name := range []string{"run", "log", "srv"} {
		if err := os.Mkdir(m.dir+"/"+name, 0o777); err != nil {
			t.Fatal(err)
		}
		os.Chmod(m.dir+"/"+name, 0o777) // Apache is another user
	}
	return m
}

// block is the block of the documents that has this name, with the folder's paths in it.
func (m *manual) block(name string) string {
	m.t.Helper()
	text := harness.Named(m.t, name)
	return strings.NewReplacer(
		"/run/fcgid/", m.dir+"/run/", "/run/app/", m.dir+"/run/", "/run/php/", m.dir+"/run/", "/run/app.sock", m.dir+"/run/app.sock",
		"/var/log/fcgid/", m.dir+"/log/", "/var/log/", m.dir+"/log/", "/var/www", m.dir+"/srv/app/public", "/srv/", m.dir+"/srv/", "/tmp/demo", m.dir+"/demo",
		// The folder of cgi-bin, and what is installed there.
		"/etc/nginx/git.htpasswd", m.dir+"/git.htpasswd", "/etc/cgitrc", m.dir+"/cgitrc",
		"/usr/lib/git-core", "/usr/lib/git-core", "/usr/lib/cgit", "/usr/lib/cgit", "/usr/lib", m.dir+"/srv",
		"include fastcgi_params;", "include /etc/nginx/fastcgi_params;",
		"./fcgid", binary,
		// Everything here is of who runs the tests; e2e/systemd has users.
		"    user: www-data\n", "",
	).Replace(text)
}

// serve starts the daemon with the pools of a block, or with these.
func (m *manual) serve(pools string) *daemon {
	m.t.Helper()
	return serve(m.t, m.dir, strings.TrimPrefix(pools, "pools:\n"))
}

// nginx starts nginx with these blocks in a server.
func (m *manual) nginx(names ...string) (url string) {
	m.t.Helper()
	var text string
	for _, name := range names {
		text += m.block(name)
	}
	return nginx(m.t, m.dir, text)
}

// apacheModules are those that README's blocks need.
const apacheModules = "proxy proxy_fcgi mime dir"

// apache starts Apache with this configuration.
func (m *manual) apache(modules, conf string) (url string) {
	m.t.Helper()
	url, _ = apache(m.t, modules, "TypesConfig /dev/null\nDirectoryIndex index.php\nDocumentRoot "+m.dir+"/srv\n<Directory "+m.dir+">\nRequire all granted\n</Directory>\n"+conf)
	return url
}

// open lets the workers of a web server that is not root use a socket.
func (m *manual) open(name string) {
	m.t.Helper()
	if err := os.Chmod(m.dir+"/run/"+name, 0o666); err != nil {
		m.t.Fatal(err)
	}
}

// cgiServers start each web server with README's block for a cgi-bin.
var cgiServers = map[string]func(m *manual) (url string){
	"nginx":  func(m *manual) string { return m.nginx("nginx-cgi") },
	"Apache": func(m *manual) string { return m.apache(apacheModules, m.block("apache-cgi")) },
	"lighttpd": func(m *manual) string {
		url, _ := lighttpd(m.t, m.dir+"/srv", m.block("lighttpd-cgi"))
		return url
	},
	"HAProxy": func(m *manual) string { return m.haproxy("cgi", m.block("haproxy-cgi")) },
	"Caddy":   func(m *manual) string { return m.caddy(m.block("caddy-cgi")) },
}

// haproxy starts HAProxy with a backend.
func (m *manual) haproxy(backend, conf string) (url string) {
	m.t.Helper()
	address := freeAddress(m.t)
	file := write(m.t, m.dir+"/haproxy.cfg", "defaults\n    mode http\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n"+
		"frontend www\n    bind "+address+"\n    default_backend "+backend+"\n"+conf)
	start(m.t, exec.Command(need(m.t, "haproxy"), "-db", "-f", file))
	listening(m.t, "tcp", address)
	return "http://" + address
}

// caddy starts Caddy with a site.
func (m *manual) caddy(site string) (url string) {
	m.t.Helper()
	address := freeAddress(m.t)
	file := write(m.t, m.dir+"/Caddyfile", "{\n\tadmin off\n\tauto_https off\n}\nhttp://"+address+" {\n"+site+"}\n")
	cmd := exec.Command(need(m.t, "caddy"), "run", "--config", file, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), "HOME="+m.dir)
	start(m.t, cmd)
	listening(m.t, "tcp", address)
	return "http://" + address
}

// README's block for each web server serves a cgi-bin.
func TestDocumentedCGI(t *testing.T) {
	for name, start := range cgiServers {
		t.Run(name, func(t *testing.T) {
			m := newManual(t)
			script(t, m.dir+"/srv/cgi-bin/hello.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s' \"$REQUEST_METHOD [$SCRIPT_NAME] [$PATH_INFO] [$QUERY_STRING] \"\ncat\n")
			m.serve("- {name: cgi, listen: 'unix:" + m.dir + "/run/cgi.sock', timeout: 60s, process: {root: [" + m.dir + "/srv/cgi-bin]}}\n")
			m.open("cgi.sock")
			url := start(m)
			do(t, "GET", url+"/cgi-bin/hello.cgi?a=b", nil).is(t, "a page", 200, "GET [/cgi-bin/hello.cgi] [] [a=b] ")
			do(t, "GET", url+"/cgi-bin/hello.cgi/more/of%20it?c", nil).is(t, "path info", 200, "GET [/cgi-bin/hello.cgi] [/more/of it] [c] ")
			do(t, "POST", url+"/cgi-bin/hello.cgi", strings.NewReader("a body")).is(t, "a body", 200, "POST [/cgi-bin/hello.cgi] [] [] a body")
			if got := do(t, "GET", url+"/cgi-bin/none.cgi", nil); got.status != 404 {
				t.Errorf("no such program: %d %q", got.status, got.body)
			}
		})
	}
}

// nginx stays as it is for who comes from fcgiwrap: the same block has the same
// answers from both, with SCRIPT_FILENAME and without.
func TestDocumentedFcgiwrap(t *testing.T) {
	m := newManual(t)
	script(t, m.dir+"/srv/cgi-bin/hello.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; env | grep -E '^(SCRIPT_NAME|PATH_INFO|QUERY|REQUEST_[^I]|HTTP_X|CONTENT_)' | sort; cat\n")
	with := m.block("nginx-cgi")
	lines := strings.SplitAfter(with, "\n")
	without := strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, "SCRIPT_FILENAME") }), "")
	urls := []string{nginx(t, m.dir, with), nginx(t, folder(t), without)}
	answers := func() (all []string) {
		for i, url := range urls {
			for _, path := range []string{"/cgi-bin/hello.cgi", "/cgi-bin/hello.cgi?c=d", "/cgi-bin/hello.cgi/a/b?c=d"}[:2+i] {
				for _, body := range []string{"", "a body"} {
					got := do(t, "POST", url+path, strings.NewReader(body), "X-Field", "x")
					all = append(all, fmt.Sprint(got.status, got.body))
				}
			}
		}
		return all
	}
	fcgiwrap := harness.Start(t, exec.Command(need(t, "fcgiwrap"), "-s", "unix:"+m.dir+"/run/cgi.sock"))
	fcgiwrap.Listening(t, "unix", m.dir+"/run/cgi.sock")
	want := answers()
	before, err := os.Stat(m.dir + "/run/cgi.sock")
	if err != nil {
		t.Fatal(err)
	}
	fcgiwrap.Signal(syscall.SIGKILL)
	<-fcgiwrap.Done
	os.Remove(m.dir + "/run/cgi.sock")
	same := func(who string) {
		t.Helper()
		for i, got := range answers() {
			if got != want[i] {
				t.Errorf("%s: got %q, from fcgiwrap %q", who, got, want[i])
			}
		}
	}
	named := folder(t) + "/fcgiwrap"
	if err := os.Symlink(binary, named); err != nil {
		t.Fatal(err)
	}
	for who, cmd := range map[string]*exec.Cmd{
		"fcgid fcgiwrap":        exec.Command(binary, "fcgiwrap", "-c", "4", "-s", "unix:"+m.dir+"/run/cgi.sock"),
		"fcgiwrap as a link":    exec.Command(named, "-f", "-s", "unix:"+m.dir+"/run/cgi.sock"),
		"under spawn-fcgi's -n": exec.Command(need(t, "spawn-fcgi"), "-n", "-s", m.dir+"/run/cgi.sock", "-M", "0666", "--", named, "-c", "4"),
	} {
		p := harness.Start(t, cmd)
		p.Listening(t, "unix", m.dir+"/run/cgi.sock")
		if now, err := os.Stat(m.dir + "/run/cgi.sock"); err != nil || who != "under spawn-fcgi's -n" && now.Mode() != before.Mode() {
			t.Errorf("%s: the socket is %v, %v; fcgiwrap's is %v", who, now, err, before.Mode())
		}
		same(who)
		p.Signal(syscall.SIGTERM)
		<-p.Done
		os.Remove(m.dir + "/run/cgi.sock")
	}
	m.serve("- {name: cgi, listen: 'unix:" + m.dir + "/run/cgi.sock', process: {root: [" + m.dir + "/srv/cgi-bin]}}\n")
	same("a pool")
}

// README's pool and locations serve git, to everybody who clones and to those with a
// password who push, and cgit, which finds the repository.
func TestDocumentedGit(t *testing.T) {
	m := newManual(t)
	repository := m.dir + "/srv/git/it.git"
	run(t, exec.Command("git", "init", "-q", "--bare", repository))
	m.serve(m.block("pool-git"))
	write(t, m.dir+"/git.htpasswd", "you:"+run(t, exec.Command("openssl", "passwd", "-apr1", "secret")))
	write(t, m.dir+"/cgitrc", m.block("cgitrc"))
	outside, location, ok := strings.Cut(m.block("nginx-git"), "\nlocation ")
	if !ok {
		t.Fatal("README's nginx has no location for git")
	}
	address := harness.WebServer{Dir: m.dir, Global: outside, Hosts: []string{"location " + location + m.block("nginx-cgit")}}.Nginx(t)[0]
	url, clone := "http://"+address, m.dir+"/clone"
	run(t, exec.Command("git", "clone", "-q", url+"/git/it.git", clone))
	run(t, exec.Command("git", "-C", clone, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "one"))
	for _, as := range []string{"", "you:wrong@", "he:secret@"} {
		push := exec.Command("git", "-C", clone, "push", "-q", "http://"+as+address+"/git/it.git", "HEAD:refs/heads/pushed")
		push.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0")
		if out, err := push.CombinedOutput(); err == nil {
			t.Errorf("a push as %q was taken: %s", as, out)
		}
	}
	for _, path := range []string{"/info/refs?service=git-receive-pack", "/info/refs?service=git%2Dreceive-pack", "/info/refs?service=git-upload-pack&service=git-receive-pack"} {
		if got := do(t, "GET", url+"/git/it.git"+path, nil); got.status != 401 {
			t.Errorf("%s: %d %q", path, got.status, got.body)
		}
	}
	for _, path := range []string{"/git-receive-pack", "/git%2Dreceive-pack", "/git-receive-pack?/git-upload-pack", "/git-upload-pack%0a"} {
		if got := do(t, "POST", url+"/git/it.git"+path, strings.NewReader("0000")); got.status != 401 {
			t.Errorf("%s: %d %q", path, got.status, got.body)
		}
	}
	run(t, exec.Command("git", "-C", clone, "push", "-q", "http://you:secret@"+address+"/git/it.git", "HEAD:refs/heads/pushed"))
	if got := run(t, exec.Command("git", "-C", repository, "log", "--format=%s", "pushed")); got != "one\n" {
		t.Errorf("what was pushed is %q", got)
	}
	run(t, exec.Command("git", "-C", clone, "pull", "-q", "origin", "pushed"))
	if got := do(t, "GET", url+"/cgit", nil); got.status != 301 {
		t.Errorf("/cgit: %d %q", got.status, got.body)
	}
	if got := do(t, "GET", url+"/cgit/", nil); !strings.Contains(got.body, ">it.git<") {
		t.Errorf("cgit has not found the repository: %d %q", got.status, tail(got.body, 2000))
	}
	if got := do(t, "GET", url+"/cgit/it.git/log/?h=pushed", nil); !strings.Contains(got.body, ">one<") {
		t.Errorf("cgit's log: %d %q", got.status, tail(got.body, 2000))
	}
	if got := do(t, "GET", url+"/cgit-css/cgit.css", nil); got.status != 200 {
		t.Errorf("cgit's style: %d", got.status)
	}
}

// The way without systemd leads to the pool of the configuration that is installed, and
// README's location asks that.
func TestDocumentedWithoutSystemd(t *testing.T) {
	needRoot(t)
	m := newManual(t)
	script(t, m.dir+"/srv/cgi-bin/hello.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	text := read(t, harness.Root(t)+"/configs/fcgid.yaml")
	config := write(t, m.dir+"/fcgid.yaml", strings.NewReplacer("/run/fcgid/", m.dir+"/run/fcgid/", "/usr/lib/cgi-bin", m.dir+"/srv/cgi-bin",
		"listen: tcp:127.0.0.1:9253", `listen: ""`, "control: auto", `control: ""`).Replace(text))
	commands := harness.Named(t, "without-systemd", "/run/fcgid", m.dir+"/run/fcgid", "sudo -u www-data fcgid",
		"exec setpriv --reuid www-data --regid www-data --clear-groups "+binary, "/etc/fcgid/fcgid.yaml", config)
	start(t, exec.Command("sh", "-euc", `sudo() { "$@"; }; `+commands))
	listening(t, "unix", m.dir+"/run/fcgid/cgi.sock")
	m.open("fcgid/cgi.sock")
	location := strings.ReplaceAll(m.block("nginx-cgi"), m.dir+"/run/", m.dir+"/run/fcgid/")
	do(t, "GET", nginx(t, m.dir, location)+"/cgi-bin/hello.cgi", nil).is(t, "a page", 200, "hello")
}

// The pool for what uWSGI's cgi plugin ran runs that.
func TestDocumentedUWSGI(t *testing.T) {
	m := newManual(t)
	script(t, m.dir+"/srv/cgi-bin/a.cgi", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\na program'\n")
	write(t, m.dir+"/srv/cgi-bin/b.pl", `print "Content-Type: text/plain\n\na script";`)
	write(t, m.dir+"/srv/cgi-bin/c.txt", "a file")
	m.serve(m.block("pool-uwsgi"))
	url := m.nginx("nginx-cgi")
	do(t, "GET", url+"/cgi-bin/a.cgi", nil).is(t, "a program", 200, "a program")
	do(t, "GET", url+"/cgi-bin/b.pl", nil).is(t, "a script", 200, "a script")
	if got := do(t, "GET", url+"/cgi-bin/c.txt", nil); got.status != 403 {
		t.Errorf("a file: %d %q", got.status, got.body)
	}
}

// phpPage says which file it is, and what the pool's environment has.
const phpPage = "<?php echo basename(__FILE__), ' ', ($_SERVER['PATH_INFO'] ?? '') ?: '-', ' ', getenv('APP_ENV') ?: '-', ' ', ini_get('memory_limit');\n"

// php writes a PHP application, and sees to what a web server makes of it.
func (m *manual) php() {
	m.t.Helper()
	write(m.t, m.dir+"/srv/app/public/index.php", phpPage)
	write(m.t, m.dir+"/srv/app/public/other.php", phpPage)
	write(m.t, m.dir+"/srv/app/public/uploads/photo.jpg", "<?php echo 'it was ', 'run';\n")
}

func (m *manual) askPHP(url, rest string) {
	m.t.Helper()
	do(m.t, "GET", url+"/index.php", nil).is(m.t, "index.php", 200, "index.php - "+rest)
	do(m.t, "GET", url+"/other.php/a/b", nil).is(m.t, "path info", 200, "other.php /a/b "+rest)
	for _, path := range []string{"/uploads/photo.jpg/x.php", "/none.php"} {
		got := do(m.t, "GET", url+path, nil)
		// Some web servers have the front controller answer, or send the picture.
		isOther := strings.HasPrefix(got.body, "index.php ") || strings.HasPrefix(got.body, "<?php")
		if got.status != 403 && got.status != 404 && !isOther || strings.Contains(got.body, "it was run") {
			m.t.Errorf("%s: %d %q", path, got.status, got.body)
		}
	}
}

// phpServers start each web server with the block for PHP.
var phpServers = map[string]func(m *manual) (url string){
	"Apache": func(m *manual) string {
		return m.apache(apacheModules, "DocumentRoot "+m.dir+"/srv/app/public\n"+m.block("apache-php"))
	},
	"lighttpd": func(m *manual) string {
		url, _ := lighttpd(m.t, m.dir+"/srv/app/public", m.block("lighttpd-php"))
		return url
	},
	"HAProxy": func(m *manual) string { return m.haproxy("php", m.block("haproxy-php")) },
	"Caddy":   func(m *manual) string { return m.caddy(m.block("caddy-php")) },
}

// README's pools and locations for PHP; those of mod_fcgid beside mod_fcgid itself,
// those of php-fpm beside php-fpm.
func TestDocumentedPHP(t *testing.T) {
	need(t, "php-cgi")
	for pool, location := range map[string]string{"pool-php": "nginx-php", "pool-php-cgi": "nginx-php-cgi"} {
		t.Run(pool, func(t *testing.T) {
			m := newManual(t)
			m.php()
			m.serve(m.block(pool))
			m.askPHP(m.nginx(location), "- 128M")
		})
	}
	for name, start := range phpServers {
		t.Run(name, func(t *testing.T) {
			m := newManual(t)
			m.php()
			m.serve(m.block("pool-php"))
			m.open("php.sock")
			m.askPHP(start(m), "- 128M")
		})
	}
	t.Run("mod_fcgid", func(t *testing.T) {
		m := newManual(t)
		m.php()
		root := "DocumentRoot " + m.dir + "/srv/app/public\n"
		fcgid := m.apache("fcgid mime dir", root+"FcgidIPCDir "+m.dir+"/run\nFcgidProcessTableFile "+m.dir+"/run/table\n"+m.block("mod_fcgid"))
		m.askPHP(fcgid, "production 128M")
		m.serve(m.block("pool-mod_fcgid"))
		m.open("php.sock")
		m.askPHP(m.apache(apacheModules, root+m.block("apache-php")), "production 128M")
	})
	t.Run("php-fpm", func(t *testing.T) {
		m := newManual(t)
		m.php()
		programs, _ := filepath.Glob("/usr/sbin/php-fpm*")
		if len(programs) == 0 {
			t.Fatal("php-fpm is not installed")
		}
		conf := write(t, m.dir+"/fpm.conf", "[global]\nerror_log = "+m.dir+"/log/fpm.log\ndaemonize = no\n"+m.block("php-fpm-pool"))
		fpm := harness.Start(t, exec.Command(programs[0], "-y", conf))
		socket := m.dir + "/run/php8.2-fpm.sock"
		fpm.Listening(t, "unix", socket)
		url := nginx(t, m.dir, strings.ReplaceAll(m.block("nginx-php"), m.dir+"/run/php.sock", socket))
		m.askPHP(url, "production 256M")
		fpm.Signal(syscall.SIGTERM)
		<-fpm.Done
		m.serve(m.block("pool-php-fpm"))
		m.askPHP(url, "production 256M")
	})
}

// WordPress's part of nginx's file, in README's location: what it has as files, its
// folders, its pretty names; and no program among what was uploaded.
func TestDocumentedWordPress(t *testing.T) {
	need(t, "php-cgi")
	m := newManual(t)
	root := m.dir + "/srv/app/public"
	for name, text := range map[string]string{
		"index.php": "<?php echo 'front ', $_SERVER['REQUEST_URI'];", "wp-admin/index.php": "<?php echo 'admin';", "wp-login.php": "<?php echo 'login';",
		"wp-content/uploads/2026/a.png": "picture", "wp-content/uploads/2026/a.php": "<?php echo 'taken';",
	} {
		write(t, root+"/"+name, text)
	}
	m.serve(m.block("pool-php"))
	_, php, found := strings.Cut(m.block("nginx-php"), "}\n")
	if !found {
		t.Fatal("README's location has no location /")
	}
	url := nginx(t, m.dir, "root "+root+";\n"+m.block("nginx-wordpress")+php)
	for path, want := range map[string]string{
		"/": "front /", "/hello-world/": "front /hello-world/", "/?p=1": "front /?p=1", "/index.php/hello-world/": "front /index.php/hello-world/",
		"/wp-admin/": "admin", "/wp-login.php": "login", "/wp-content/uploads/2026/a.png": "picture",
	} {
		do(t, "GET", url+path, nil).is(t, path, 200, want)
	}
	for _, path := range []string{"2026/a.php", "2026/a.php/x", "2026/a.png/../a.php", "2026//a.php", "2026/%61.php", "2026/a.png/x.php"} {
		if got := do(t, "GET", url+"/wp-content/uploads/"+path, nil); got.status != 403 {
			t.Errorf("%s: %d %q", path, got.status, got.body)
		}
	}
	if got := do(t, "GET", url+"/wp-admin", nil); got.status != 301 || !strings.HasSuffix(got.header.Get("Location"), "/wp-admin/") {
		t.Errorf("a folder: %d %v", got.status, got.header)
	}
}

// README's programs are workers of README's pools, and nginx needs no file names.
func TestDocumentedPrograms(t *testing.T) {
	for pool, want := range map[string]string{"pool-perl": "Hello 127.0.0.1, from ", "pool-c": "Request 1 asked for tea", "pool-direct": "Request 1 asked for tea"} {
		t.Run(pool, func(t *testing.T) {
			m := newManual(t)
			script(t, m.dir+"/srv/app/hello.fcgi", m.block("perl"))
			run(t, exec.Command("gcc", "-O2", "-o", m.dir+"/srv/app/hello", write(t, m.dir+"/hello.c", m.block("c")), "-lfcgi"))
			m.serve(m.block(pool))
			socket := m.dir + "/run/" + strings.TrimPrefix(pool, "pool-") + ".sock"
			url := nginx(t, m.dir, "location / { include /etc/nginx/fastcgi_params; fastcgi_pass unix:"+socket+"; }")
			if got := do(t, "GET", url+"/?tea", nil); got.status != 200 || !strings.HasPrefix(got.body, want) {
				t.Errorf("got %d %q, want %q", got.status, got.body, want)
			}
		})
	}
}

// spawn-fcgi's command and README's pool for it run the same program in the same way.
func TestDocumentedSpawnFCGI(t *testing.T) {
	m := newManual(t)
	script(t, m.dir+"/srv/app/app.fcgi", "#!/usr/bin/perl\nuse FCGI; use Cwd;\nmy $r = FCGI::Request();\nwhile ($r->Accept() >= 0) { print \"Content-Type: text/plain\\r\\n\\r\\n@ARGV in \", getcwd() }\n")
	socket := m.dir + "/run/app.sock"
	url := nginx(t, m.dir, "location / { include /etc/nginx/fastcgi_params; fastcgi_pass unix:"+socket+"; }")
	want := "--port 0 in " + m.dir + "/srv/app"
	pids := m.dir + "/run/pids"
	run(t, exec.Command("sh", "-c", strings.Replace(m.block("spawn-fcgi"), " -- ", " -P "+pids+" -- ", 1)))
	do(t, "GET", url+"/", nil).is(t, "spawn-fcgi", 200, want)
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command("kill", strings.Fields(string(text))...))
	os.Remove(socket)
	m.serve(m.block("pool-spawn-fcgi"))
	do(t, "GET", url+"/", nil).is(t, "fcgid", 200, want)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v %v", info, err)
	}
}

// README's functions: the daemon's own, and a program that adds some.
func TestDocumentedFunctions(t *testing.T) {
	m := newManual(t)
	m.serve(m.block("pool-functions"))
	url := m.nginx("nginx-status")
	if got := do(t, "GET", url+"/fcgid-status", nil); got.status != 200 || !strings.Contains(got.body, "functions") {
		t.Errorf("the status: %d %q", got.status, got.body)
	}
	ask := strings.Replace(m.block("ask-status"), "fcgid request", binary+" request", 1)
	if got := run(t, exec.Command("sh", "-c", ask)); !strings.Contains(got, "functions") {
		t.Errorf("the status: %q", got)
	}
	write(t, m.dir+"/own/main.go", m.block("go-functions"))
	own := m.dir + "/own/functions"
	if err := harness.Build(wiretest.UnderRace(), own, m.dir+"/own/main.go"); err != nil {
		t.Fatal(err)
	}
	write(t, m.dir+"/srv/files/a.txt", "a file")
	m = &manual{t: t, dir: m.dir}
	serveProgram(t, own, folder(t), "- {name: own, listen: 'unix:"+m.dir+"/run/own.sock', function: {}}\n")
	url = nginx(t, folder(t), "location / { include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME $arg_function; fastcgi_pass unix:"+m.dir+"/run/own.sock; }")
	do(t, "GET", url+"/?function=hello", nil).is(t, "hello", 200, "Hello 127.0.0.1\n")
	do(t, "GET", url+"/a.txt?function=files", nil).is(t, "a file", 200, "a file")
}

// README's web application in Go answers behind README's nginx.
func TestDocumentedGo(t *testing.T) {
	m := newManual(t)
	write(t, m.dir+"/web/main.go", m.block("go-web"))
	if err := harness.Build(wiretest.UnderRace(), m.dir+"/web/web", m.dir+"/web/main.go"); err != nil {
		t.Fatal(err)
	}
	harness.Start(t, exec.Command(m.dir+"/web/web")).Listening(t, "unix", m.dir+"/run/app.sock")
	do(t, "GET", m.nginx("nginx-go")+"/hello/you", nil).is(t, "hello", 200, "hello you\n")
}

// README's first five minutes, as they are typed.
func TestDocumentedDemo(t *testing.T) {
	m := newManual(t)
	admin := freeAddress(t)
	demo := m.block("demo")
	if !strings.HasSuffix(demo, binary+" serve -c "+m.dir+"/demo/fcgid.yaml\n") {
		t.Fatalf("the demonstration does not end with the daemon:\n%s", demo)
	}
	demo = strings.Replace(demo, binary+" serve", "exec "+binary+" serve --admin.listen tcp:"+admin, 1)
	start(t, exec.Command("sh", "-c", demo))
	listening(t, "unix", m.dir+"/demo/cgi.sock")
	got := run(t, exec.Command("sh", "-c", strings.ReplaceAll(m.block("demo-ask"), "127.0.0.1:9253", admin)))
	if !strings.Contains(got, "you asked for tea") || !strings.Contains(got, `"pools"`) {
		t.Errorf("got %q", got)
	}
}
