package devserver

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/users"
)

// newTestSite has a file of each kind.
func newTestSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"index.html": 0o644, "app/index.php": 0o644, "run.cgi": 0o755, "plain.cgi": 0o644, "a.py": 0o644, "exec.py": 0o755,
		"exec.php": 0o755, "style.css": 0o644, "disk.css": 0o755, "tool": 0o755, "data": 0o755, "a.unknown": 0o644,
		".env": 0o644, ".git/config": 0o644, ".well-known/x.txt": 0o644, "empty/.keep": 0o644, "router.php": 0o644,
	} {
		text := "text"
		if mode == 0o755 && name != "data" && name != "disk.css" {
			text = "#!/bin/sh\n"
		}
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"out.txt": "/etc/passwd", "out": "/etc", "up": "../../../../../../../../etc", "chain": "out", "gone": "/none/such", "loop": "loop", "dangling": "none",
		"whole.css": dir + "/style.css", "again.css": "../" + filepath.Base(dir) + "/style.css", "in.css": "style.css",
	} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return &site{dir: dir, interpreters: map[string]string{".php": "/php-cgi", ".py": "/python3"}, functions: []string{"app.hello"}}
}

func TestFind(t *testing.T) {
	s := newTestSite(t)
	out := func(link, to string) target {
		return target{status: 404, reason: link + " leads to " + to + ", which is outside " + s.dir + ": only what lies below it is served"}
	}
	around := func(link string) target {
		return target{status: 404, reason: link + " leads to " + s.dir + "/style.css by a way outside " + s.dir + ", which is not followed: make it a relative link"}
	}
	for name, want := range map[string]target{
		"/":                  {file: "/index.html"},
		"/app":               {to: "/app/"},
		"/app/":              {pool: scriptPool, script: "/app/index.php"},
		"/app/index.php/x/y": {pool: scriptPool, script: "/app/index.php", info: "/x/y"},
		"/run.cgi":           {pool: programPool, script: "/run.cgi"},
		"/run.cgi/":          {pool: programPool, script: "/run.cgi", info: "/"},
		"/plain.cgi":         {pool: programPool, script: "/plain.cgi"}, // which says why not
		"/a.py":              {pool: scriptPool, script: "/a.py"},
		"/exec.py":           {pool: programPool, script: "/exec.py"},
		"/exec.php":          {pool: scriptPool, script: "/exec.php"}, // its first line, if any, is of PHP's command line
		"/style.css":         {file: "/style.css"},
		"/disk.css":          {file: "/disk.css"},
		"/tool":              {pool: programPool, script: "/tool"},
		"/data":              {file: "/data"},
		"/style.css/x":       {status: 404},
		"/none":              {status: 404},
		"/none/":             {status: 404},
		"/app/none":          {status: 404},
		"/out.txt":           out("out.txt", "/etc/passwd"),
		"/out.txt/x":         out("out.txt", "/etc/passwd"),
		"/out":               out("out", "/etc"),
		"/out/passwd":        out("out", "/etc"),
		"/up/":               out("up", "/etc"),
		"/chain/x":           out("chain", "/etc"),
		"/gone":              out("gone", "/none/such"),
		"/whole.css":         around("whole.css"),
		"/again.css":         around("again.css"),
		"/in.css":            {file: "/in.css"},
		"/loop":              {status: 404},
		"/dangling":          {status: 404},
		"/.env":              {status: 404, reason: "names that begin with a dot are not served"},
		"/.git/config":       {status: 404, reason: "names that begin with a dot are not served"},
		"/.well-known/x.txt": {file: "/.well-known/x.txt"},
		"/app.hello/a":       {pool: functionPool, script: "/app.hello", info: "/a", name: "app.hello"},
	} {
		if want.pool != "" && want.pool != functionPool {
			want.name = s.dir + want.script
		}
		if got := s.find(name); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

// A worker of PHP's runs its scripts, another one answers for all that is no file; a router
// does that as well.
func TestFindOthers(t *testing.T) {
	s := newTestSite(t)
	s.worker = []string{"/usr/bin/php-cgi8.2"}
	if got := s.find("/app/"); got.pool != workerPool || got.script != "/app/index.php" {
		t.Errorf("PHP's worker: %+v", got)
	}
	if err := s.setRouter("router.php"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/none", "/none/x.php", "/app/none", "/empty/"} {
		if got := s.find(name); got.pool != workerPool || got.script != "/router.php" || got.info != "" {
			t.Errorf("router: %s: %+v", name, got)
		}
	}
	if got := s.find("/out/none"); got.script != "/router.php" {
		t.Errorf("a link that leads out beside the router: %+v", got)
	}
	if got := s.find("/style.css"); got.file == "" {
		t.Errorf("a file beside the router: %+v", got)
	}
	if got := s.find("/.env"); got.status != 404 {
		t.Errorf("a hidden file beside the router: %+v", got)
	}
	s.router, s.worker = "", []string{"/srv/app.fcgi"}
	if got := s.find("/none/x"); got.pool != workerPool || got.script != "" || got.info != "/none/x" {
		t.Errorf("worker: %+v", got)
	}
}

func TestOptionsFaults(t *testing.T) {
	dir := newTestSite(t).dir
	for want, o := range map[string]Options{
		`--interpreter "php" is not .extension=program`: {Interpreters: []string{"php"}},
		`--interpreter .x=/none: `:                      {Interpreters: []string{".x=/none"}},
		"--worker none-such: ":                          {Worker: "none-such -b"},
		"--router ../x: is not below ":                  {Router: "../x"},
		"--router none.php: there is no such file in ":  {Router: "none.php"},
	} {
		o.Dir = dir
		if s, err := New(o); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
			if err == nil {
				s.Close()
			}
		}
	}
}

// Without its interpreter a script that may not be executed says which, and so does the start.
func TestFindLacks(t *testing.T) {
	s := newTestSite(t)
	s.interpreters = nil
	const php = "php-cgi is not in PATH: install it (apt install php-cgi), or --interpreter .php=…"
	py := s.lack(".py")
	for name, want := range map[string]target{
		"/app/":     {status: 403, reason: php},
		"/a.py":     {status: 403, reason: py},
		"/exec.py":  {pool: programPool, script: "/exec.py", name: s.dir + "/exec.py"},
		"/exec.php": {pool: programPool, script: "/exec.php", name: s.dir + "/exec.php"}, // it names its own
	} {
		if got := s.find(name); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	s.router = "/router.php"
	if got := s.find("/none"); got.reason != php {
		t.Errorf("router: %+v", got)
	}
	if diff := cmp.Diff([]string{php, py}, s.lacks()); diff != "" || !strings.HasPrefix(py, "python3 is not in PATH: install it (apt install python3), or --interpreter .py=…") {
		t.Errorf("%s %q", diff, py)
	}
	s.worker = []string{"/usr/bin/php-cgi"}
	if s.lack(".php") != "" || s.lack(".cgi") != "" {
		t.Error("a kind that lacks nothing")
	}
}

// Who may not do what with whose file is said in one line.
func TestMayNot(t *testing.T) {
	name := t.TempDir() + "/x"
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	me := users.NameOf(uint32(os.Geteuid()))
	want := "user " + me + " may not execute " + name + " (mode 0600, owner " + me + ")"
	if got := mayNotText("execute", name, info); got != want || mayNot("execute", name) != want || mayNot("read", name) != "" {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A folder that may not be entered is not one that is not there.
func TestFindClosed(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "fcgid-") // where everybody may go
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	closed := filepath.Join(dir, "closed")
	for _, err := range []error{os.Chmod(dir, 0o755), os.Mkdir(closed, 0), os.WriteFile(filepath.Join(dir, "router.cgi"), nil, 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if uid := os.Geteuid(); uid == 0 { // who may enter all
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer unix.Setfsuid(uid)
	}
	s := &site{dir: dir}
	if got := s.find("/closed/a.cgi"); got.status != 403 || !strings.Contains(got.reason, " may not enter "+closed+" (mode 0000, owner ") {
		t.Errorf("%+v", got)
	}
	s.router = "/router.cgi"
	if got := s.find("/closed/a.cgi"); got.script != "/router.cgi" {
		t.Errorf("router: %+v", got)
	}
}
