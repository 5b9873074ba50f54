//go:build e2e

package e2e

import (
	"bytes"
	"html"
	"image"
	"image/png"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

const devApplication = `<?php
session_start();
if (isset($_POST['name'])) { $_SESSION['name'] = $_POST['name']; header('Location: /', true, 303); exit; }
if (isset($_FILES['file'])) { header('Content-Type: text/plain'); echo $_FILES['file']['name'], ' ', md5_file($_FILES['file']['tmp_name']); exit; }
?><!DOCTYPE html><html><head><title>app</title><link rel="stylesheet" href="/css/style.css"></head><body>
<p id="name"><?= htmlspecialchars($_SESSION['name'] ?? 'nobody') ?></p><p id="path"><?= htmlspecialchars($_SERVER['REQUEST_URI']) ?></p>
<img id="img" src="img/pixel.png"><form method="post" action="/"><input name="name"><button>Send</button></form></body></html>
`

// devSite has a small application and what goes wrong in others.
func devSite(t testing.TB) string {
	dir := folder(t)
	var pixel bytes.Buffer
	if err := png.Encode(&pixel, image.NewGray(image.Rect(0, 0, 3, 2))); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"index.php": devApplication, "css/style.css": "p { color: rgb(1, 2, 3) }", "img/pixel.png": pixel.String(), "blog/index.php": "<?php echo 'blog';",
		"trace.py": "import sys\nprint('<b>told</b>', file=sys.stderr)\nprint('no header')\nsys.exit(3)\n", "plain.cgi": "#!/bin/sh\n",
		"fatal.php": "<?php nowhere();",
	} {
		write(t, dir+"/"+name, text)
	}
	script(t, dir+"/windows.sh", "#!/bin/sh\r\necho\r\n")
	script(t, dir+"/windows.py", "#!/usr/bin/env python3\r\nprint()\r\n")
	script(t, dir+"/option.py", "#!/usr/bin/python3 -u\r\nprint()\r\n")
	script(t, dir+"/option.sh", "#!/bin/sh -e\r\necho\r\n")
	script(t, dir+"/other.pl", "#!/usr/bin/perl -w\r\ndie 'told';\r\n")
	script(t, dir+"/crash.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\nkill -9 $$\n")
	script(t, dir+"/three.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\nexit 3\n")
	script(t, dir+"/mute.sh", "#!/bin/sh\nexit 3\n")
	script(t, dir+"/mute500.sh", "#!/bin/sh\nprintf 'Status: 500\\n\\n'\nexit 4\n")
	script(t, dir+"/empty.sh", "#!/bin/sh\n")
	script(t, dir+"/bare.sh", "echo\n")
	script(t, dir+"/env.sh", "#!/bin/sh\n"+plainHeader+"echo $E2E_MINE\n")
	script(t, dir+"/slow.sh", "#!/bin/sh\nexec sleep 60\n")
	return dir
}

// startDev returns where a site is served.
func startDev(t *testing.T, args ...string) (url string, p *process) {
	t.Helper()
	p, curl, _ := dev(t, args...)
	return strings.TrimSuffix(regexp.MustCompile(`http://[^/]+/`).FindString(curl), "/"), p
}

// A browser uses an application of PHP with static files, a form, an upload and a session.
func TestDevBrowser(t *testing.T) {
	for name, args := range map[string][]string{"interpreter": nil, "worker": {"--worker", "php-cgi"}} {
		t.Run(name, func(t *testing.T) {
			url, _ := startDev(t, append(args, "--router", "index.php", devSite(t))...)
			b := harness.NewBrowser(t)
			b.Open(url+"/", harness.Screen{Width: 800, Height: 600})
			b.Await("the picture", "document.querySelector('#img')?.naturalWidth === 3")
			b.Await("the style sheet", "getComputedStyle(document.querySelector('#name')).color === 'rgb(1, 2, 3)'")
			b.Eval("document.querySelector('input').value = 'Zoë & <b>'; document.querySelector('button').click(); ''")
			b.Await("the form", "document.querySelector('#name')?.textContent === 'Zoë & <b>'")
			b.Eval("f = new FormData(); f.append('file', new Blob(['x'.repeat(300000)]), 'a b.txt'); fetch('/', {method: 'POST', body: f}).then(r => r.text()).then(t => document.title = t); ''")
			b.Await("the upload", "document.title === 'a b.txt d408ed46ebcc326f9e7c6bb9c77af1cd'")
			b.Open(url+"/some/page", harness.Screen{Width: 800, Height: 600})
			b.Await("the router", "document.querySelector('#path')?.textContent === '/some/page'")
			if got := b.Eval("document.querySelector('#name').textContent"); got != "Zoë & <b>" {
				t.Errorf("the session: %s", got)
			}
		})
	}
}

// Static files are sent as a small web server does, and folders have one name.
func TestDevFiles(t *testing.T) {
	t.Setenv("E2E_MINE", "here")
	url, _ := startDev(t, devSite(t))
	do(t, "GET", url+"/css/style.css", nil, "Range", "bytes=4-8").is(t, "range", 206, "color")
	if p := do(t, "HEAD", url+"/css/style.css", nil); p.status != 200 || p.body != "" || p.header.Get("Content-Length") != "25" || !strings.HasPrefix(p.header.Get("Content-Type"), "text/css") {
		t.Errorf("HEAD: %d %v", p.status, p.header)
	} else if again := do(t, "GET", url+"/css/style.css", nil, "If-Modified-Since", p.header.Get("Last-Modified")); again.status != 304 {
		t.Errorf("If-Modified-Since: %d", again.status)
	}
	if p := do(t, "GET", url+"/blog?x=1", nil); p.status != 301 || p.header.Get("Location") != "/blog/?x=1" {
		t.Errorf("/blog: %d %v", p.status, p.header)
	}
	do(t, "GET", url+"/blog/", nil).is(t, "index", 200, "blog")
	do(t, "GET", url+"/env.sh", nil).is(t, "my environment", 200, "here\n")
	if p := do(t, "POST", url+"/css/style.css", strings.NewReader("x")); p.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", p.status)
	}
}

// What goes wrong is explained: in the browser, to curl, and on the terminal.
func TestDevExplains(t *testing.T) {
	dir := devSite(t)
	url, p := startDev(t, dir)
	short, _ := startDev(t, "--timeout", "1s", dir)
	for path, want := range map[string]struct {
		status int
		has    []string
	}{
		"/none":       {404, []string{"nothing of that name below", "--router"}},
		"/plain.cgi":  {403, []string{"is not executable", "chmod +x " + dir + "/plain.cgi"}},
		"/trace.py":   {502, []string{"exit status 3", "no header", "wrote to STDERR says why", "told"}},
		"/mute500.sh": {500, []string{"The program answered 500, wrote no page and nothing to STDERR"}},
		"/mute.sh":    {502, []string{"exit status 3", "wrote nothing to STDERR"}},
		"/empty.sh":   {502, []string{"Content-Type: text/html"}},
		"/bare.sh":    {502, []string{"#!/bin/sh; or chmod -x " + dir + "/bare.sh"}},
		"/.env":       {404, []string{"names that begin with a dot are not served"}},
		"/windows.sh": {502, []string{"Windows line endings", "sed -i"}},
		"/windows.py": {502, []string{"exit status 127", "end as on Windows: sed -i", "windows.py"}},
		"/option.py":  {502, []string{"exit status 2", "end as on Windows: sed -i"}},
		"/option.sh":  {502, []string{"exit status 2", "end as on Windows: sed -i"}},
		"/other.pl":   {502, []string{"exit status 255", "wrote to STDERR says why", "told"}},
		"/slow.sh":    {408, []string{"longer than its timeout", "--timeout"}},
		"/fatal.php":  {500, []string{"undefined function nowhere()"}},
	} {
		url := url
		if want.status == http.StatusRequestTimeout {
			url = short
		}
		text := do(t, "GET", url+path, nil)
		page := do(t, "GET", url+path, nil, "Accept", "text/html,*/*")
		if strings.Contains(page.body, "<b>told") {
			t.Errorf("%s: STDERR is HTML: %s", path, page.body)
		}
		page.body = html.UnescapeString(page.body)
		if text.status != want.status || page.status != want.status {
			t.Errorf("%s: %d and %d, want %d: %q", path, text.status, page.status, want.status, text.body)
		}
		for _, has := range want.has {
			if !strings.Contains(text.body, has) || !strings.Contains(page.body, has) {
				t.Errorf("%s: lacks %q: %s\n%s", path, has, text.body, page.body)
			}
		}
	}
	for _, path := range []string{"/crash.sh", "/three.sh"} {
		do(t, "GET", url+path, nil).is(t, "failed behind its answer", 200, "hello")
	}
	p.signal(syscall.SIGINT)
	p.exitCode()
	for _, line := range []string{"404 GET  /none", "403 GET  /plain.cgi", "502 GET  /trace.py", "     stderr: <b>told</b>\n", "  5 B\n     killed by SIGKILL (out of memory?)\n", "  5 B\n     exit status 3\n"} {
		if !strings.Contains(p.out.String(), line) {
			t.Errorf("the terminal lacks %q", line)
		}
	}
	if strings.Contains(p.out.String(), "{\"") {
		t.Error("there is JSON on the terminal")
	}
}

// What cannot be served is told once, in words; so is what nothing here runs.
func TestDevFaults(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	used := l.Addr().String()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--http", used}, "fcgid dev: --http " + used + ": address already in use (--http 127.0.0.1:0 takes a free one)\n"},
		{[]string{"--http", "8080"}, "fcgid dev: --http 8080: it is host:port: did you mean 127.0.0.1:8080?\n"},
		{[]string{"nosuch"}, "fcgid dev: nosuch: there is no such folder\n"},
	} {
		code, out, stderr := fcgid(t, folder(t), nil, append([]string{"dev"}, tt.args...)...)
		if code != 1 || out != "" || stderr != tt.want {
			t.Errorf("%q: %d %q %q, want %q", tt.args, code, out, stderr, tt.want)
		}
	}
	dir := folder(t)
	write(t, dir+"/index.php", "<?php")
	t.Setenv("PATH", dir)
	url, p := startDev(t, "--http", ":0", dir)
	const lack = "php-cgi is not in PATH: install it (apt install php-cgi), or --interpreter .php=…"
	for _, want := range []string{"Warning: " + lack, "Warning: :0 is open to the network"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("the start lacks %q: %s", want, p.out.String())
		}
	}
	do(t, "GET", url+"/index.php", nil).is(t, "no php-cgi", 403, "403 Forbidden: /index.php\n"+lack+"\n")
}

// A program with functions of its own tries them too.
func TestDevFunctions(t *testing.T) {
	cmd := exec.Command(buildProgram(t, "../examples/functions"), "dev", "--http", "127.0.0.1:0", folder(t))
	cmd.Env = append(os.Environ(), "TMPDIR="+folder(t))
	p := start(t, cmd)
	var url string
	await(t, "the address", func() bool {
		url = regexp.MustCompile(`http://[^/]+`).FindString(p.out.String())
		return url != ""
	})
	do(t, "GET", url+"/hello/more", nil).is(t, "a function", 200, "Hello 127.0.0.1\n")
}
