//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// A Go program before php-fpm: an httputil.ReverseProxy with an fcgi.Transport.
func TestReverseProxyBeforePHPFPM(t *testing.T) {
	t.Parallel()
	programs, _ := filepath.Glob("/usr/sbin/php-fpm*")
	if len(programs) == 0 {
		t.Fatal("php-fpm is not installed")
	}
	dir := t.TempDir()
	write(t, dir+"/index.php", `<?php
if ($_SERVER["PATH_INFO"] ?? "" === "/fail") { error_log("grumble"); http_response_code(418); setcookie("a", "1"); setcookie("b", "2"); }
echo $_SERVER["REQUEST_METHOD"], " ", $_SERVER["SCRIPT_NAME"], " ", $_SERVER["PATH_INFO"] ?? "-", " ", $_GET["q"] ?? "-", " ",
  strlen($_POST["field"] ?? ""), " ", isset($_FILES["f"]) ? md5_file($_FILES["f"]["tmp_name"]) : "-", " ", $_SERVER["REMOTE_ADDR"], " ", $_SERVER["HTTP_HOST"];
`)
	socket := dir + "/fpm.sock"
	conf := write(t, dir+"/fpm.conf", "[global]\nerror_log = "+dir+"/fpm.log\ndaemonize = no\n[www]\nuser = root\ngroup = root\nlisten = "+socket+
		"\npm = static\npm.max_children = 2\ncatch_workers_output = yes\n")
	fpm := harness.Start(t, exec.Command(programs[0], "-R", "-y", conf))
	fpm.Listening(t, "unix", socket)

	client := &fcgi.Client{Address: "unix:" + socket, KeepConns: 1, MaxConns: 2}
	t.Cleanup(client.CloseIdleConnections)
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(*httputil.ProxyRequest) {},
		Transport: &fcgi.Transport{Client: client, Root: dir, Index: "index.php", Extensions: []string{".php"}},
	})
	t.Cleanup(proxy.Close)
	host := proxy.Listener.Addr().String()
	ask := func(method, path, contentType, body string) (int, http.Header, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, proxy.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		resp, err := proxy.Client().Do(req)
		if err != nil {
			t.Error(err)
			return 0, nil, ""
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.StatusCode, resp.Header, string(text)
	}
	var all sync.WaitGroup
	for i := range 8 { // more than there are workers
		all.Go(func() {
			for n := range 20 {
				path, want := fmt.Sprintf("/?q=%d-%d", i, n), fmt.Sprintf("GET /index.php - %d-%d 0 - 127.0.0.1 %s", i, n, host)
				if status, _, text := ask("GET", path, "", ""); status != 200 || text != want {
					t.Errorf("%s: %d %q, want %q", path, status, text, want)
				}
			}
		})
	}
	all.Wait()
	form := "field=" + strings.Repeat("x", 300_000)
	if status, _, text := ask("POST", "/index.php", "application/x-www-form-urlencoded", form); status != 200 || text != "POST /index.php - - 300000 - 127.0.0.1 "+host {
		t.Errorf("form: %d %q", status, text)
	}
	upload := "--B\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\nhello\r\n--B--\r\n"
	if status, _, text := ask("POST", "/", "multipart/form-data; boundary=B", upload); status != 200 || !strings.Contains(text, " 5d41402abc4b2a76b9719d911017c592 ") {
		t.Errorf("upload: %d %q", status, text)
	}
	if status, header, text := ask("GET", "/index.php/fail", "", ""); status != 418 || len(header["Set-Cookie"]) != 2 || !strings.HasPrefix(text, "GET /index.php /fail") {
		t.Errorf("fail: %d %v %q", status, header, text)
	}
	if status, _, text := ask("HEAD", "/", "", ""); status != 200 || text != "" {
		t.Errorf("HEAD: %d %q", status, text)
	}
	if status, _, _ := ask("GET", "/none.php", "", ""); status != 404 {
		t.Errorf("none: %d", status)
	}
}
