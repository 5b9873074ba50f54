//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"
)

// One CGI program in three languages: what it is asked for by PATH_INFO, it does.
var languages = map[string]string{
	"prog.sh": `#!/bin/sh
case $PATH_INFO in
/redirect) printf 'Location: http://example.org/there\r\n\r\n' ;;
/created) printf 'Status: 201 Created\nContent-Type: text/plain\nLocation: /new\n\nmade' ;;
/cookie) printf 'Set-Cookie: a=1\nSet-Cookie: b=2; Path=/\nContent-Type: text/plain\n\n%s' "$HTTP_COOKIE" ;;
/nph) printf 'HTTP/1.1 418 Teapot\nContent-Type: text/plain\n\nshort and stout' ;;
*) printf 'Content-Type: text/plain\n\n%s|%s|%s|%s' "$REQUEST_METHOD" "$QUERY_STRING" "$PATH_INFO" "$(cat)" ;;
esac
`,
	"prog.pl": `#!/usr/bin/perl
use strict;
my $info = $ENV{PATH_INFO} // '';
if ($info eq '/redirect') { print "Location: http://example.org/there\n\n" }
elsif ($info eq '/created') { print "Status: 201 Created\r\nContent-Type: text/plain\r\nLocation: /new\r\n\r\nmade" }
elsif ($info eq '/cookie') { print "Set-Cookie: a=1\nSet-Cookie: b=2; Path=/\nContent-Type: text/plain\n\n$ENV{HTTP_COOKIE}" }
elsif ($info eq '/nph') { print "HTTP/1.1 418 Teapot\r\nContent-Type: text/plain\r\n\r\nshort and stout" }
else {
  read(STDIN, my $body, $ENV{CONTENT_LENGTH} || 0);
  print "Content-Type: text/plain\n\n", join '|', $ENV{REQUEST_METHOD}, $ENV{QUERY_STRING}, $info, $body // '';
}
`,
	"prog.py": `#!PYTHON
import os, sys
info = os.environ.get('PATH_INFO', '')
if info == '/redirect': print('Location: http://example.org/there\n')
elif info == '/created': print('Status: 201 Created\nContent-Type: text/plain\nLocation: /new\n\nmade', end='')
elif info == '/cookie': print('Set-Cookie: a=1\nSet-Cookie: b=2; Path=/\nContent-Type: text/plain\n\n' + os.environ['HTTP_COOKIE'], end='')
elif info == '/nph': print('HTTP/1.1 418 Teapot\nContent-Type: text/plain\n\nshort and stout', end='')
else:
    body = sys.stdin.read(int(os.environ.get('CONTENT_LENGTH') or 0))
    print('Content-Type: text/plain\n\n' + '|'.join([os.environ['REQUEST_METHOD'], os.environ['QUERY_STRING'], info, body]), end='')
`,
}

// split makes nginx divide the path after a script's extension.
const split = `
	fastcgi_split_path_info ^(.+?\.[a-z]+)(/.*)$; fastcgi_param PATH_INFO $fastcgi_path_info;
	fastcgi_param SCRIPT_FILENAME DIR/cgi$fastcgi_script_name; `

// What every CGI program does, in shell, Perl and Python, with nginx's PATH_INFO
// and with one that fcgid finds.
func TestPrograms(t *testing.T) {
	form := url.Values{"name": {"Ünïcode & more"}, "empty": {""}}.Encode()
	tests := []struct {
		method, path, body string
		status             int
		want               string
		header             []string // name, value
	}{
		{"GET", "/x/y%20z?a=1&b=%20c", "", 200, "GET|a=1&b=%20c|/x/y z|", nil},
		{"GET", "/", "", 200, "GET||/|", nil},
		{"POST", "/form?q", form, 200, "POST|q|/form|" + form, nil},
		{"PUT", "/thing", "whole", 200, "PUT||/thing|whole", nil},
		{"GET", "/redirect", "", 302, "", []string{"Location", "http://example.org/there"}},
		{"GET", "/created", "", 201, "made", []string{"Location", "/new"}},
		{"GET", "/cookie", "", 200, "c=3; d=4", []string{"Set-Cookie", "a=1, b=2; Path=/"}},
		{"GET", "/nph", "", 418, "short and stout", nil},
		{"HEAD", "/x?y", "", 200, "", []string{"Content-Type", "text/plain"}},
		{"HEAD", "/created", "", 201, "", []string{"Location", "/new"}},
	}
	for _, directives := range []string{keepAlive + split, ""} {
		s := newSite(t, "unix", simple)
		python := need(t, "/usr/bin/python3")
		for name, text := range languages {
			need(t, "perl")
			s.script(name, strings.Replace(text, "PYTHON", python, 1))
		}
		s.nginx(directives)
		for name := range languages {
			for _, test := range tests {
				t.Run(fmt.Sprintf("%s %s %s split=%v", name, test.method, test.path, directives != ""), func(t *testing.T) {
					res, body := httpDo(t, s.request(test.method, "/"+name+test.path, strings.NewReader(test.body),
						"Cookie", "c=3; d=4", "Content-Type", "application/x-www-form-urlencoded"))
					if res.StatusCode != test.status || body != test.want {
						t.Errorf("%d %q, want %d %q", res.StatusCode, body, test.status, test.want)
					}
					for i := 0; i+1 < len(test.header); i += 2 {
						if got := strings.Join(res.Header.Values(test.header[i]), ", "); got != test.header[i+1] {
							t.Errorf("%s: %q, want %q", test.header[i], got, test.header[i+1])
						}
					}
				})
			}
		}
		if t.Failed() {
			t.Log(s.nginxLog())
		}
	}
}

// PHP through the interpreter that the pool names.
func TestPHP(t *testing.T) {
	php := need(t, "php-cgi")
	s := newSite(t, "unix", "process: {root: [DIR/cgi], interpreters: [.php="+php+"]}")
	page := s.script("page.php", `<?php
header('Content-Type: text/plain'); header('X-Powered-By: nobody'); setcookie('seen', 'yes');
if (isset($_GET['status'])) http_response_code((int)$_GET['status']);
echo json_encode([$_SERVER['REQUEST_METHOD'], $_GET, $_POST, $_SERVER['PATH_INFO'] ?? null, $_SERVER['SCRIPT_NAME'], $_SERVER['PHP_SELF']], JSON_UNESCAPED_SLASHES), "\n";
foreach ($_FILES as $name => $f) echo $name, ' ', $f['name'], ' ', $f['error'], ' ', hash_file('sha256', $f['tmp_name']), "\n";
if (isset($_GET['exit'])) exit((int)$_GET['exit']);
if (isset($_GET['fatal'])) nosuchfunction();
`)
	s.script("info.php", "<?php phpinfo();")
	s.script("input.php", "<?php echo strlen(file_get_contents('php://input'));")
	write(t, s.dir+"/cgi/secret.txt", "<?php /* secret */ ?> secret")
	write(t, s.dir+"/cgi/image.jpg", "<?php echo 'secret'; ?>")
	s.nginx(keepAlive + split)

	t.Run("variables", func(t *testing.T) {
		res, body := httpDo(t, s.request("POST", "/page.php/more/info?a=1&b[]=2", strings.NewReader("c=3&d=%20e"), "Content-Type", "application/x-www-form-urlencoded"))
		want := `["POST",{"a":"1","b":["2"]},{"c":"3","d":" e"},"/more/info","/page.php","/page.php/more/info"]` + "\n"
		if res.StatusCode != 200 || body != want || !strings.HasPrefix(res.Header.Get("Set-Cookie"), "seen=yes") {
			t.Errorf("%d %v\n%s want %s", res.StatusCode, res.Header, body, want)
		}
	})
	t.Run("status", func(t *testing.T) {
		if code, _ := get(t, s.url+"/page.php?status=403"); code != 403 {
			t.Errorf("got %d", code)
		}
	})
	t.Run("upload", func(t *testing.T) {
		content, sum := randomBytes(1 << 20) // upload_max_filesize is 2M as PHP comes
		body := "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.bin\"\r\n\r\n" + string(content) + "\r\n--b--\r\n"
		// Chunked: php-cgi needs a CONTENT_LENGTH all the same.
		for _, r := range []io.Reader{strings.NewReader(body), io.MultiReader(strings.NewReader(body))} {
			res, got := httpDo(t, s.request("POST", "/page.php", r, "Content-Type", "multipart/form-data; boundary=b"))
			if want := "f x.bin 0 " + sum + "\n"; res.StatusCode != 200 || !strings.HasSuffix(got, want) {
				t.Errorf("%d %s, want %s", res.StatusCode, got, want)
			}
			_, got = httpDo(t, s.request("POST", "/input.php", strings.NewReader(body), "Content-Type", "application/octet-stream"))
			if got != fmt.Sprint(len(body)) {
				t.Errorf("php://input has %s bytes, want %d", got, len(body))
			}
		}
	})
	t.Run("phpinfo", func(t *testing.T) {
		code, body := get(t, s.url+"/info.php?-s")
		if code != 200 || !strings.Contains(body, "CGI/FastCGI") || !strings.Contains(body, "GATEWAY_INTERFACE") || strings.Contains(body, "phpinfo();") {
			t.Errorf("%d, %d bytes", code, len(body))
		}
	})
	t.Run("exit status", func(t *testing.T) {
		if res, out := s.ask(page, nil, "QUERY_STRING", "exit=3"); res.AppStatus != 3 || !strings.Contains(out, `"GET"`) {
			t.Errorf("appStatus %d, want 3\n%s", res.AppStatus, out)
		}
		if res, out := s.ask(page, nil, "QUERY_STRING", "fatal"); res.AppStatus != 255 {
			t.Errorf("fatal error: appStatus %d, want 255\n%s", res.AppStatus, out)
		}
	})
	for path, want := range map[string]int{
		"/missing.php": 404, "/missing.php/x": 404, "/secret.txt": 403, "/image.jpg": 403, "/image.jpg/x.php": 403,
		"/secret.txt/.php": 403, "/page.php.bak": 404, "/": 403, "/sub/": 404,
	} {
		t.Run("no source of "+path, func(t *testing.T) {
			code, body := get(t, s.url+path)
			if code != want || strings.Contains(body, "secret") || strings.Contains(body, "input file") {
				t.Errorf("%d %q, want %d", code, body, want)
			}
		})
	}
}
