package server

import (
	"slices"
	"strings"
	"testing"
)

// The header leaves whole in the first record, in one form, or there is a 502.
func TestHeaderOnTheWire(t *testing.T) {
	for _, tt := range []struct {
		name, in    string
		block, body string // block without its blank line; "" is an error
		status      int
	}{
		{"LF", "A: b\nC: d\n\nbody", "A: b\r\nC: d\r\n", "body", 200},
		{"CRLF", "A: b\r\nC: d\r\n\r\nbody", "A: b\r\nC: d\r\n", "body", 200},
		{"body begins with blank lines", "A: b\n\n\n\r\nbody", "A: b\r\n", "\n\r\nbody", 200},
		{"Status", "Status: 404 Not Found\n\n", "Status: 404 Not Found\r\n", "", 404},
		{"NPH", "HTTP/1.1 201 Created\r\nA: b\r\n\r\n", "Status: 201 Created\r\nA: b\r\n", "", 201},
		{"Location", "Location: http://x/y\n\n", "Location: http://x/y\r\nStatus: 302 Found\r\n", "", 302},
		{"local Location", "Location: /y\n\n", "Location: /y\r\nStatus: 302 Found\r\n", "", 302},
		{"Status as people write it", "Status:\t404: Gone\n\n", "Status: 404 Gone\r\n", "", 404},
		{"Status above 599", "Status: 999\n\n", "Status: 999\r\n", "", 999},
		{"Status and NPH", "HTTP/1.1 200 OK\nStatus: 404\n\n", "Status: 404\r\n", "", 404},
		{"1xx", "Status: 103\n\n", "", "", 0},
		{"no header", "\nbody", "", "", 0},
		{"no colon", "A: b\nnonsense\n\n", "", "", 0},
		{"unfinished", "A: b\n", "", "", 0},
		{"unfinished in CRLF", "A: b\r\n\r", "", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s := serve(t, testSettings(writes(0, strings.Split(tt.in, "")...)))
				p := s.dial()
				p.send(get(1, true))
				if tt.block == "" {
					p.wantOwn(1, 502, complete(500))
					s.want(Failed, 502, complete(500))
					return
				}
				a := p.answer(1)
				if a.first != tt.block+"\r\n" || a.stdout != a.first+tt.body || a.end != complete(0) {
					t.Errorf("first record is %q, answer %q, %+v", a.first, a.stdout, a.end)
				}
				s.want(OK, tt.status, complete(0))
			})
		})
	}
}

// Lines that are no fields are dropped, and told.
func TestDroppedHeaderLines(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := serve(t, testSettings(writes(0, "<!--: spam\nA: b\n", "\nbody")))
		p := s.dial()
		p.send(get(1, true))
		if a := p.answer(1); a.stdout != "A: b\r\n\r\nbody" {
			t.Errorf("answer %q", a.stdout)
		}
		if r := s.result(); r.Outcome != OK || !slices.Equal(r.Dropped, []string{"<!--: spam"}) {
			t.Errorf("outcome %v, dropped %q", r.Outcome, r.Dropped)
		}
	})
}

// What came instead of a header is said.
func TestNoHeaderIsQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"Traceback: oh\nFile x\n\n": `response header has a line that is none: "File x"`,
		"oh dear":                   `response has no header: it begins with "oh dear" (Content-Type: text/html and an empty line come first)`,
		"A: b\n<ht":                 `response ended inside its header: "A: b\n<ht"`,
		"\n<p>":                     `response has no header: it begins with "\n<p>" (Content-Type: text/html and an empty line come first)`,
		"":                          `response has no header`,
	} {
		bubble(t, func(t *testing.T) {
			s := serve(t, testSettings(writes(0, in)))
			p := s.dial()
			p.send(get(1, true))
			p.wantOwn(1, 502, complete(500))
			if r := s.result(); r.Reason == nil || r.Reason.Error() != want {
				t.Errorf("%q: reason %v", in, r.Reason)
			}
		})
	}
}

// What is sent of a header fits into one record.
func TestHeaderLimit(t *testing.T) {
	of := func(size int) string { return "A: " + strings.Repeat("a", size-7) + "\r\n\r\n" }
	for _, size := range []int{65_527, 65_528, 65_529, 65_535} {
		bubble(t, func(t *testing.T) {
			p := serve(t, testSettings(writes(0, of(size)[:40_000], of(size)[40_000:]+"body"))).dial()
			p.send(get(1, true))
			if a := p.answer(1); a.first[:min(len(a.first), size)] != of(size) || a.stdout != of(size)+"body" {
				t.Errorf("%d: first record has %d bytes, answer %d", size, len(a.first), len(a.stdout))
			}
		})
	}
	for _, parts := range [][]string{{of(65_536)}, {of(200_000)}, {strings.Repeat("A: b\n", 65_536/5), "\n"}, {strings.Repeat("a", 65_536)}} {
		bubble(t, func(t *testing.T) {
			p := serve(t, testSettings(writes(0, parts...))).dial()
			p.send(get(1, true))
			p.wantOwn(1, 502, complete(500))
		})
	}
}
