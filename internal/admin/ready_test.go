package admin

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// Readiness is asked of the daemon, of a pool, or of the room that one has. What is no such
// question is not answered by yes or no: who asks would wait for ever.
func TestReady(t *testing.T) {
	s, d := newTestServer(t)
	s.change(t, "tcp:127.0.0.1:0")
	for _, test := range []struct {
		query, unfit string
		code         int
		body, wanted string
	}{
		{"", "", 200, "ready", " 0"},
		{"", "stopping", 503, "stopping", " 0"},
		{"?pool=www", "", 200, "ready", "www 0"},
		{"?pool=www", "pool www is drained", 503, "pool www is drained", "www 0"},
		{"?pool=www&room=1", "", 200, "ready", "www 1"},
		{"?room=12&pool=a.b-c_d", "pool a.b-c_d is full", 503, "is full", "a.b-c_d 12"},
		{"?pool=none", "", 404, "no such pool", ""},
		{"?pool=none&room=3", "", 404, "no such pool", ""},
		{"?pool=", "", 400, "pool", ""},
		{"?pool=www&pool=api", "", 400, "pool", ""},
		{"?room=1", "", 400, "pool", ""},
		{"?pool=www&room=", "", 400, "room", ""},
		{"?pool=www&room=0", "", 400, "room", ""},
		{"?pool=www&room=-1", "", 400, "room", ""},
		{"?pool=www&room=+1", "", 400, "room", ""}, // a space
		{"?pool=www&room=1.5", "", 400, "room", ""},
		{"?pool=www&room=0x1", "", 400, "room", ""},
		{"?pool=www&room=99999999999999999999", "", 400, "room", ""},
		{"?pool=www&room=1&room=2", "", 400, "room", ""},
		{"?pools=www", "", 400, "pools", ""},
		{"?www", "", 400, "www", ""},
		{"?pool=%zz", "", 400, "query", ""},
		{"?pool=www;room=1", "", 400, "query", ""},
	} {
		d.unfit, d.wanted = test.unfit, ""
		res := s.get(t, "/-/ready"+test.query)
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != test.code || !strings.Contains(string(body), test.body) || d.wanted != test.wanted {
			t.Errorf("%q: %d %q, asked for %q, %v; want %d with %q, %q", test.query, res.StatusCode, body, d.wanted, err, test.code, test.body, test.wanted)
		}
	}
}

// A load balancer's HTTP/1.0 check has no Host field, which no browser leaves out.
func TestReadyWithoutHost(t *testing.T) {
	s, _ := newTestServer(t)
	s.change(t, "tcp:127.0.0.1:0")
	conn, err := net.Dial("tcp", s.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /-/ready HTTP/1.0\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.0 200 OK\r\n") {
		t.Errorf("%q, %v", answer, err)
	}
}
