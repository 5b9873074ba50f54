package cgi

import (
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// browserParams are what nginx sends for a browser's request.
func browserParams(script string) protocol.Params {
	p := paramsOf(
		"SCRIPT_FILENAME", script, "QUERY_STRING", "a=b", "REQUEST_METHOD", "GET", "CONTENT_TYPE", "", "CONTENT_LENGTH", "",
		"SCRIPT_NAME", "/a.php", "REQUEST_URI", "/a.php?a=b", "DOCUMENT_URI", "/a.php", "DOCUMENT_ROOT", "/srv", "SERVER_PROTOCOL", "HTTP/1.1",
		"REQUEST_SCHEME", "http", "GATEWAY_INTERFACE", "CGI/1.1", "SERVER_SOFTWARE", "nginx/1.26", "REMOTE_ADDR", "127.0.0.1", "REMOTE_PORT", "40000",
		"SERVER_ADDR", "127.0.0.1", "SERVER_PORT", "80", "SERVER_NAME", "example.org", "REDIRECT_STATUS", "200",
		"HTTP_HOST", "example.org", "HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "HTTP_ACCEPT", "text/html,application/xhtml+xml",
		"HTTP_ACCEPT_LANGUAGE", "en", "HTTP_ACCEPT_ENCODING", "gzip, deflate, br", "HTTP_CONNECTION", "keep-alive", "HTTP_COOKIE", "session=0123456789abcdef",
		"HTTP_SEC_FETCH_DEST", "document", "HTTP_SEC_FETCH_MODE", "navigate", "HTTP_SEC_FETCH_SITE", "none", "HTTP_PRIORITY", "u=0, i")
	parsed, _ := protocol.ParseParams(string(p.Append(nil)))
	return parsed
}

func BenchmarkForWorker(b *testing.B) {
	params := browserParams("/srv/a.php")
	e := NewEnvironment(Options{Software: "fcgid"})
	for b.Loop() {
		if told, err := e.ForWorker(&params, nil); err != nil || told != &params {
			b.Fatal(err)
		}
	}
}

func BenchmarkForWorkerWithRoot(b *testing.B) {
	dir := tempDir(b)
	params := browserParams(write(b, dir+"/a.php", "", 0o644))
	e, rules := NewEnvironment(Options{Software: "fcgid"}), &Rules{Roots: []string{dir}, Extensions: []string{".php"}}
	for b.Loop() {
		if told, err := e.ForWorker(&params, rules); err != nil || told != &params {
			b.Fatal(err)
		}
	}
}

func BenchmarkEnvironment(b *testing.B) {
	params := browserParams("/usr/bin/env")
	e := NewEnvironment(Options{Software: "fcgid", PassEnv: []string{"PATH", "LANG", "TZ"}})
	for b.Loop() {
		if _, err := e.Of(&params, new(protocol.RequestID), &Script{Path: "/usr/bin/env"}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckFields(b *testing.B) {
	params := browserParams("/srv/a.php")
	for b.Loop() {
		if err := CheckFields(&params, nil); err != nil {
			b.Fatal(err)
		}
	}
}
