//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// viaNginx sends the query through nginx and returns the answer.
func (s *site) viaNginx(method, query string, body io.Reader) workerAnswer {
	s.t.Helper()
	res, text := httpDo(s.t, s.request(method, appScript+"?"+query, body))
	a, err := parseWorker(text)
	if err != nil || res.StatusCode != 200 {
		s.t.Fatalf("%s %s: %s %v", method, query, res.Status, err)
	}
	return a
}

// Programs of all kinds answer behind nginx, one request after the other.
func TestWorkerPrograms(t *testing.T) {
	for _, program := range []string{"c", "perl", "php"} {
		t.Run(program, func(t *testing.T) {
			s := newWorkerSite(t, "worker: {command: "+workerCommand(t, program)+", scale: static, max: 1}"+workerEnv("a"))
			s.nginx(keepAlive)
			first := s.viaNginx("GET", "", nil)
			if first.gen != "a" {
				t.Errorf("got %+v", first)
			}
			for i := range 20 {
				if a := s.viaNginx("GET", "", nil); a.pid != first.pid || program != "php" && a.count != i+2 {
					t.Errorf("got %+v after %+v", a, first)
				}
			}
			for _, size := range []int{1, 1000, 70_000, 3_000_000} {
				body, _ := randomBytes(size)
				for way, a := range map[string]workerAnswer{
					"nginx":          s.viaNginx("POST", "echo", bytes.NewReader(body)),
					"nginx, chunked": s.viaNginx("POST", "echo", struct{ io.Reader }{bytes.NewReader(body)}),
					"straight":       s.asked("echo", body...),
				} {
					if want := fmt.Sprint(size, " ") + string(body); a.rest != want || a.pid != first.pid {
						t.Errorf("%s: %d bytes of pid %d, want %d of %d", way, len(a.rest), a.pid, len(want), first.pid)
					}
				}
			}
			s.viaNginx("GET", "complain", nil)
			await(t, "the complaint", func() bool {
				return s.logged(func(l logLine) bool {
					return l.Msg == "request stderr" && strings.Contains(l.Line, "oh dear") && l.PID == first.pid && l.Pool == "cgi"
				})
			})
			if w := s.workers(); w.Starts != 1 || len(w.List) != 1 || w.List[0].PID != first.pid {
				t.Errorf("workers are %+v", w)
			}
		})
	}
}

// phpPool is a pool of php-cgi that keeps sessions and uploads in its folder.
func phpPool(t testing.TB, keys string, env ...string) string {
	t.Helper()
	command := workerCommand(t, "php", "-d", "opcache.enable=1", "-d", "opcache.file_update_protection=0", "-d", "post_max_size=30M", "-d", "upload_max_filesize=30M",
		"-d", "session.save_path=DIR", "-d", "upload_tmp_dir=DIR")
	all := strings.TrimSuffix(workerEnv("a"), "]")
	for _, e := range env {
		all += ", " + e
	}
	return "worker: {command: " + command + ", " + keys + "}" + all + "]"
}

// PHP with a process for each request at once, of both kinds.
func TestWorkerPHP(t *testing.T) {
	for name, pool := range map[string]string{
		"single workers":         phpPool(t, "scale: static, max: 2"),
		"a worker with children": phpPool(t, "scale: static, max: 1, concurrency: 8", "PHP_FCGI_CHILDREN=8"),
	} {
		t.Run(name, func(t *testing.T) {
			s := newWorkerSite(t, pool)
			s.nginx(keepAlive)
			s.phpSession()
			s.phpUpload(20 << 20)
			res, text := httpDo(t, s.request("GET", "/info.php?a=b", nil))
			if res.StatusCode != 200 || !strings.Contains(text, "PHP Version") || !strings.Contains(text, "CGI/FastCGI") || !strings.Contains(text, "a=b") {
				t.Errorf("phpinfo: %s, %d bytes", res.Status, len(text))
			}
			res, text = httpDo(t, s.request("GET", "/none.php", nil))
			if res.StatusCode != 404 {
				t.Errorf("no such page: %s %q", res.Status, tail(text, 200))
			}
			if w := s.workers(); w.Degraded != "" || w.Starts > w.Max {
				t.Errorf("workers are %+v", w)
			}
		})
	}
}

// phpSession visits a page that counts the visits of each visitor.
func (s *site) phpSession() {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client := http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}
	id := ""
	for visit := 1; visit <= 3; visit++ {
		res, err := client.Do(s.request("GET", "/session.php", nil))
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		_, now, _ := strings.Cut(string(text), " of ")
		if err != nil || !strings.HasPrefix(string(text), fmt.Sprintf("visit %d of ", visit)) || visit > 1 && now != id {
			s.t.Errorf("session: %q %v, want visit %d of %q", tail(string(text), 200), err, visit, id)
		}
		id = now
	}
}

// phpUpload uploads a file of so many bytes, with a field beside it.
func (s *site) phpUpload(size int) {
	s.t.Helper()
	content, sum := randomBytes(size)
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	w.WriteField("name", "somebody")
	part, err := w.CreateFormFile("file", "some file.bin")
	if err != nil {
		s.t.Fatal(err)
	}
	part.Write(content)
	w.Close()
	res, text := httpDo(s.t, s.request("POST", "/upload.php", &form, "Content-Type", w.FormDataContentType()))
	if want := fmt.Sprintf("somebody some file.bin 0 %d %s", size, sum); res.StatusCode != 200 || text != want {
		s.t.Errorf("upload: %s %q, want %q", res.Status, tail(text, 300), want)
	}
}

// The children of one worker run at once, and share an opcache: single ones do not.
func TestWorkerPHPChildren(t *testing.T) {
	s := newWorkerSite(t, phpPool(t, "scale: static, max: 1, concurrency: 8", "PHP_FCGI_CHILDREN=8"))
	g := newGate(t, s.dir)
	s.asked("")
	all := s.gated(8)
	pids := g.arrive(8)
	parent := s.awaitWorkers("one with 8 requests", func(w workersStatus) bool {
		return len(w.List) == 1 && len(w.List[0].Current) == 8
	}).List[0].PID
	seen := map[int]bool{}
	for _, a := range g.finish(all...) {
		seen[a.pid] = true
		if _, of := procState(a.pid); of != parent {
			t.Errorf("%d is a child of %d, the worker is %d", a.pid, of, parent)
		}
		if a.count < 8 {
			t.Errorf("child %d has seen %d hits of the opcache, want 8 at least", a.pid, a.count)
		}
	}
	if len(seen) != 8 {
		t.Errorf("%d processes have answered %v", len(seen), pids)
	}
}

// A body whose length was not told is what came of it.
func TestWorkerBodyLength(t *testing.T) {
	for _, program := range []string{"c", "php"} {
		t.Run(program, func(t *testing.T) {
			s := newWorkerSite(t, "worker: {command: "+workerCommand(t, program)+", scale: static, max: 1}"+workerEnv("a"))
			path := s.dir + "/cgi" + appScript
			post := params(path, "REQUEST_METHOD", "POST", "QUERY_STRING", "echo")
			p := connect(t, s.address)
			p.send(request(1, post, "hello"))
			if a, err := parseWorker(p.reply(1).stdout); err != nil || a.rest != "5 hello" {
				t.Errorf("no length: %+v %v", a, err)
			}
			large := strings.Repeat("x", 100_000)
			p.send(request(2, post, large))
			if a, err := parseWorker(p.reply(2).stdout); err != nil || a.rest != "100000 "+large {
				t.Errorf("no length: %d bytes, %v", len(a.rest), err)
			}
			if a := s.asked("echo", []byte("again")...); a.rest != "5 again" {
				t.Errorf("afterwards: %+v", a)
			}
			if w := s.workers(); w.Starts != 1 {
				t.Errorf("workers are %+v", w)
			}
		})
	}
}

// A program that is told of more than there is must not wait for the rest, and
// nobody for the program.
func TestWorkerShortBody(t *testing.T) {
	for _, program := range []string{"c", "perl", "php"} {
		t.Run(program, func(t *testing.T) {
			s := newWorkerSite(t, "worker: {command: "+workerCommand(t, program)+", scale: static, max: 1}"+workerEnv("a"))
			p := connect(t, s.address)
			p.send(request(1, params(s.dir+"/cgi"+appScript, "REQUEST_METHOD", "POST", "QUERY_STRING", "echo", "CONTENT_LENGTH", "1000"), "hello"))
			if r := p.reply(1); r.end == nil || r.status() == 0 || r.status() == 200 && !strings.HasSuffix(r.stdout, " hello") {
				t.Errorf("got %v", r)
			}
			s.asked("")
		})
	}
}

// What Apache writes before SCRIPT_FILENAME is nothing to php-cgi.
func TestWorkerApache(t *testing.T) {
	s := newWorkerSite(t, phpPool(t, "scale: static, max: 2"))
	if err := os.Chmod(s.address, 0o666); err != nil {
		t.Fatal(err)
	}
	granted := "DocumentRoot DIR/cgi\n<Directory DIR/cgi>\nRequire all granted\n<FilesMatch \\.php$>\nSetHandler \"proxy:unix:DIR/s|fcgi://localhost%s\"\n</FilesMatch>\n</Directory>\n"
	for name, conf := range map[string]string{
		"SetHandler":        fmt.Sprintf(granted, ""),
		"SetHandler, slash": fmt.Sprintf(granted, "/"),
		"SetHandler, reuse": fmt.Sprintf(granted, "/") + "<Proxy fcgi://localhost/ enablereuse=on max=10>\n</Proxy>\n",
		"ProxyPassMatch":    "ProxyPassMatch ^/([^/]+\\.php(/.*)?)$ unix:DIR/s|fcgi://localhostDIR/cgi/$1\n",
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			s.url, _ = apache(t, "proxy proxy_fcgi", s.here(conf))
			s.phpSession()
			s.phpUpload(1 << 20)
			body, _ := randomBytes(300_000)
			chunked := s.viaNginx("POST", "echo", struct{ io.Reader }{bytes.NewReader(body)})
			if want := "300000 " + string(body); chunked.rest != want {
				t.Errorf("chunked: %d bytes, want %d", len(chunked.rest), len(want))
			}
			res, _ := httpDo(t, s.request("GET", "/none.php", nil))
			if res.StatusCode != 404 {
				t.Errorf("no such page: %s", res.Status)
			}
		})
	}
	s.t = t
	if left, _ := filepath.Glob(s.dir + "/php*"); len(left) > 0 {
		t.Errorf("uploads were left behind: %q", left)
	}
}
