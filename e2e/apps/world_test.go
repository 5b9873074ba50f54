//go:build apps

// Package apps runs applications that people have, WordPress, DokuWiki and one on
// Plack, behind nginx and Apache, and compares what they answer with what they answer
// under the programs that people run them with today: php-fpm, and Plack's own server.
package apps

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

var binary string

func TestMain(m *testing.M) { harness.Main(m, &binary) }

// A world is a folder in which all programs of a test run, as www-data if the test may.
type world struct {
	t   *testing.T
	dir string
	// id is whom the programs run as, nil for who runs the tests.
	id *syscall.Credential
	// logs are searched when the test fails.
	daemon *harness.Program
	admin  string
}

// newWorld makes the folder, and the world in it.
func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		return newWorldOf(t, harness.Folder(t), nil)
	}
	u, err := user.Lookup("www-data")
	if err != nil {
		t.Fatal(err)
	}
	return newWorldOf(t, harness.Folder(t), credential(t, u.Uid, u.Gid))
}

func credential(t *testing.T, uid, gid string) *syscall.Credential {
	t.Helper()
	u, uidErr := strconv.ParseUint(uid, 10, 32)
	g, gidErr := strconv.ParseUint(gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(u), Gid: uint32(g)}
}

// newWorldOf makes a folder the world of a user, with what PHP is to be told in its ini:
// mail goes to a program that keeps it in WORLD/mail.
func newWorldOf(t *testing.T, dir string, id *syscall.Credential) *world {
	t.Helper()
	w := &world{t: t, dir: dir, id: id}
	for _, name := range []string{"tmp", "mail", "sessions", "server"} {
		if err := os.MkdirAll(w.dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Written aside: a test waits for the file and reads it at once.
	harness.Script(t, w.dir+"/sendmail", w.here("#!/bin/sh\nset -e\nname=$(mktemp -p WORLD/tmp)\n{ echo \"X-Arguments: $*\"; cat; } >$name\nmv $name WORLD/mail/\n"))
	harness.Write(t, w.dir+"/ini/e2e.ini", w.here("sendmail_path = WORLD/sendmail -t -i\nsession.save_path = WORLD/sessions\nlog_errors = 1\n"+
		"upload_max_filesize = 64M\npost_max_size = 64M\nopcache.revalidate_freq = 0\n"))
	w.give(w.dir)
	return w
}

// here puts the world's folder in the place of WORLD.
func (w *world) here(text string) string { return strings.ReplaceAll(text, "WORLD", w.dir) }

// give makes a folder and all in it belong to whom the programs run as.
func (w *world) give(dir string) {
	w.t.Helper()
	if w.id == nil {
		return
	}
	if err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(w.id.Uid), int(w.id.Gid))
	}); err != nil {
		w.t.Fatal(err)
	}
}

// command is that of a program of the world.
func (w *world) command(name string, args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(harness.Need(w.t, name), args...)
	w.as(cmd)
	return cmd
}

// as lets a command run as the world's user, in its folder.
func (w *world) as(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: w.id}
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "HOME="+w.dir, "TMPDIR="+w.dir+"/tmp", "PHP_INI_SCAN_DIR=:"+w.dir+"/ini", "GORACE=atexit_sleep_ms=10")
}

// copy copies a folder of a package into the world. Links in it that a user may not
// follow are left out.
func (w *world) copy(from, name string) string {
	w.t.Helper()
	to := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-rL", from, to).CombinedOutput(); err != nil {
		w.t.Logf("cp %s: %v\n%s", from, err, out)
	}
	w.give(filepath.Dir(to))
	return to
}

// serve starts the daemon with these pools and waits until it is ready.
func (w *world) serve(pools string) {
	w.t.Helper()
	w.admin = harness.FreeAddress(w.t)
	file := harness.Write(w.t, w.dir+"/fcgid.yaml", "log: {level: debug}\nadmin: {listen: 'tcp:"+w.admin+"'}\n"+pools)
	w.t.Cleanup(func() { // after it has ended
		if w.daemon != nil && strings.Contains(w.daemon.Out.String(), "DATA RACE") {
			w.t.Errorf("the daemon has a data race:\n%s", harness.Tail(w.daemon.Out.String(), 20000))
		}
	})
	cmd := exec.Command(binary, "serve", "-c", file)
	w.as(cmd)
	w.daemon = harness.Start(w.t, cmd)
	harness.Await(w.t, "the daemon to be ready", func() bool {
		if w.daemon.Exited() {
			w.t.Fatalf("the daemon has exited: %v\n%s", w.daemon.Err, w.daemon.Out)
		}
		res, err := http.Get("http://" + w.admin + "/-/ready")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == 200
	})
}

// dev starts fcgid dev and returns its address.
func (w *world) dev(args ...string) (url string) {
	w.t.Helper()
	cmd := exec.Command(binary, append([]string{"dev", "--http", "127.0.0.1:0"}, args...)...)
	w.as(cmd)
	p := harness.Start(w.t, cmd)
	harness.Await(w.t, "fcgid dev", func() bool {
		url = regexp.MustCompile(`http://[^/]+`).FindString(p.Out.String())
		return url != ""
	})
	return url
}

// phpPools are the pools that README shows for PHP, "worker" and "process", for files
// below root. A program that is asked to end has one second, so that a test soon sees
// whether one lives on that must not be ended.
func (w *world) phpPools(root string) string {
	w.t.Helper()
	pool := func(block, name, grace string) string {
		text := harness.Named(w.t, block, "name: php", "name: "+name, "/run/fcgid/php.sock", w.dir+"/"+name)
		text = strings.NewReplacer("/srv/app/public", root, "/var/www", root).Replace(text)
		return strings.TrimPrefix(text, "pools:\n") + "      " + grace + ": 1s\n" + w.here("    env: ['PHP_INI_SCAN_DIR=:WORLD/ini', 'TMPDIR=WORLD/tmp']\n")
	}
	return "pools:\n" + pool("pool-php", "worker", "stop_grace") + pool("pool-php-cgi", "process", "kill_grace")
}

// fpm starts php-fpm on WORLD/fpm.
func (w *world) fpm() {
	w.t.Helper()
	conf := harness.Write(w.t, w.dir+"/fpm.conf", w.here(`[global]
error_log = WORLD/fpm.log
daemonize = no
[www]
listen = WORLD/fpm
pm = static
pm.max_children = 4
clear_env = no
catch_workers_output = yes
`))
	programs, _ := filepath.Glob("/usr/sbin/php-fpm*")
	if len(programs) == 0 {
		w.t.Fatal("php-fpm is not installed; `make test-apps` installs what the tests need")
	}
	harness.Start(w.t, w.command(programs[0], "-y", conf)).Listening(w.t, "unix", w.dir+"/fpm")
}

// A server is a web server that has been started before the pools and before what
// they are compared with.
type server struct {
	name string
	urls map[string]string // by backend: the name of its socket in the world
}

// backends are those of PHP, with what they are compared with at the end.
var backends = []string{"worker", "process", "fpm"}

// webServer starts a web server with a host for each of these backends, whose
// socket is in the place of SOCKET in conf.
func (w *world) webServer(name, modules, conf string, backends ...string) server {
	w.t.Helper()
	dir, err := os.MkdirTemp(w.dir+"/server", "")
	if err != nil {
		w.t.Fatal(err)
	}
	ws := harness.WebServer{Dir: dir, Modules: modules, Change: w.as}
	for _, backend := range backends {
		ws.Hosts = append(ws.Hosts, strings.ReplaceAll(w.here(conf), "SOCKET", w.dir+"/"+backend))
	}
	w.give(dir)
	start := ws.Nginx
	if modules != "" {
		ws.Global = "TypesConfig /dev/null\n"
		start = ws.Apache
	}
	s := server{name: name, urls: make(map[string]string)}
	for i, address := range start(w.t) {
		s.urls[backends[i]] = "http://" + address
	}
	return s
}

// apacheModules are those that a PHP application wants.
const apacheModules = "proxy proxy_fcgi rewrite dir mime alias"

// phpServers are the web servers for an application below root, in the ways in which
// people connect them: with README's location for nginx, with Apache's two ways, and
// with Apache where one script gets all paths as its PATH_INFO. Apache's rules are
// those of the application's .htaccess.
func (w *world) phpServers(root, nginxLocations, htaccess, front string) []server {
	w.t.Helper()
	nginx := w.nginxPHP(root, "SOCKET", nginxLocations)
	apache := func(handler, rules string) string {
		return fmt.Sprintf("DocumentRoot %[1]s\nDirectoryIndex index.php\nAddType text/css .css\nAddType text/javascript .js\nAddType image/jpeg .jpg\nAddType image/png .png\nAddType image/gif .gif\n<Directory %[1]s>\nAllowOverride None\nOptions FollowSymLinks\nRequire all granted\nRewriteEngine on\n%[2]s</Directory>\n%[3]s",
			root, rules, handler)
	}
	const setHandler = "<FilesMatch \"\\.php$\">\nSetHandler \"proxy:unix:SOCKET|fcgi://localhost\"\n</FilesMatch>\n"
	match := fmt.Sprintf("ProxyPassMatch \"^/(.*\\.php(/.*)?)$\" \"unix:SOCKET|fcgi://localhost%s/$1\"\n", root)
	return []server{
		w.webServer("nginx", "", nginx, backends...),
		w.webServer("apache SetHandler", apacheModules, apache(setHandler, htaccess), backends...),
		w.webServer("apache ProxyPassMatch", apacheModules, apache(match, htaccess), backends...),
		w.webServer("apache front controller", apacheModules, apache(setHandler, front), backends...),
	}
}

// nginxPHP is README's part of nginx's configuration for an application below root, with
// these in the place of its location for all paths.
func (w *world) nginxPHP(root, socket, locations string) string {
	w.t.Helper()
	return harness.Named(w.t, "nginx-php", "/srv/app/public", root, "unix:/run/fcgid/php.sock", "unix:"+socket,
		"include fastcgi_params;", "include "+w.fastcgiParams()+";", "location / {\n    try_files $uri /index.php$is_args$args;\n}\n", locations)
}

// fastcgiParams is Debian's file of that name, where the Host is what nginx has got: what
// Debian has there since 2026 is without the port, and no test listens on port 80.
func (w *world) fastcgiParams() string {
	w.t.Helper()
	text, err := os.ReadFile("/etc/nginx/fastcgi_params")
	if err != nil {
		w.t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^fastcgi_param\s+HTTP_HOST.*$`).ReplaceAll(text, nil)
	return harness.Write(w.t, w.dir+"/fastcgi_params", string(text))
}

// mails are what has been sent so far.
func (w *world) mails() (texts []string) {
	w.t.Helper()
	files, _ := filepath.Glob(w.dir + "/mail/*")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			w.t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}

// awaitMail waits for a mail that has this in it.
func (w *world) awaitMail(has string) {
	w.t.Helper()
	harness.Await(w.t, "a mail with "+has, func() bool {
		for _, text := range w.mails() {
			if strings.Contains(text, has) {
				return true
			}
		}
		return false
	})
}

// at is the same world in a part of its test.
func (w *world) at(t *testing.T) *world {
	part := *w
	part.t = t
	return &part
}

// picture is a PNG that is large enough for a thumbnail.
func picture() []byte {
	img := image.NewGray(image.Rect(0, 0, 400, 300))
	for i := range img.Pix {
		img.Pix[i] = byte(i * 7)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}
