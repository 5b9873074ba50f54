package cgi

import (
	"bytes"
	"strings"
	"testing"
)

// headerOf reads the header of the response p, which comes in parts of size bytes.
func headerOf(p string, size int) (block, body string, status int, err error) {
	var buf []byte
	scanned := 0
	for rest := p; rest != ""; {
		n := min(size, len(rest))
		buf = append(buf, rest[:n]...)
		rest = rest[n:]
		end, next := HeaderEnd(buf, scanned)
		scanned = next
		if end == 0 {
			continue
		}
		h, err := ParseHeader(buf[:end])
		return string(h.Block), string(buf[end:]) + rest, h.Status, err
	}
	return "", "", 0, ErrHeaderUnfinished
}

var headerTests = []struct {
	name, in    string
	block, body string // block without its blank line; "" is an error
	status      int
}{
	{"LF", "A: b\nC: d\n\nbody", "A: b\r\nC: d\r\n", "body", 200},
	{"CRLF", "A: b\r\nC: d\r\n\r\nbody", "A: b\r\nC: d\r\n", "body", 200},
	{"mixed", "A: b\r\nC: d\n\r\nbody", "A: b\r\nC: d\r\n", "body", 200},
	{"mixed, blank LF", "A: b\r\n\nbody", "A: b\r\n", "body", 200},
	{"body begins with blank lines", "A: b\n\n\n\r\nbody", "A: b\r\n", "\n\r\nbody", 200},
	{"blanks around the value", "A:  b c\t \nD:e\n\n", "A: b c\r\nD: e\r\n", "", 200},
	{"empty value", "A:\n\n", "A: \r\n", "", 200},
	{"value with colons and tabs", "A: b:c\td\n\n", "A: b:c\td\r\n", "", 200},
	{"bytes that are not ASCII", "A: \xe4\xff\n\n", "A: \xe4\xff\r\n", "", 200},
	{"repeated field", "Set-Cookie: a\nSet-Cookie: b\n\n", "Set-Cookie: a\r\nSet-Cookie: b\r\n", "", 200},

	{"Status", "Status: 404 Not Found\n\n", "Status: 404 Not Found\r\n", "", 404},
	{"status", "status: 404\n\n", "status: 404\r\n", "", 404},
	{"two Status", "Status: 404\nA: b\nStatus: 200\n\n", "Status: 404\r\nA: b\r\n", "", 404},
	{"Status abc", "Status: abc\n\n", "", "", 0},
	{"Status empty", "Status:\n\n", "", "", 0},
	{"Status 99", "Status: 99\n\n", "", "", 0},
	{"Status 600", "Status: 600\n\n", "", "", 0},
	{"Status 2000", "Status: 2000\n\n", "", "", 0},
	{"Status -20", "Status: -20\n\n", "", "", 0},
	{"Status 20x", "Status: 20x OK\n\n", "", "", 0},

	{"NPH", "HTTP/1.1 201 Created\r\nA: b\r\n\r\n", "Status: 201 Created\r\nA: b\r\n", "", 201},
	{"NPH 1.0 without words", "HTTP/1.0 404\n\n", "Status: 404\r\n", "", 404},
	{"NPH and Status", "HTTP/1.1 201 Created\nStatus: 404\n\n", "Status: 201 Created\r\n", "", 201},
	{"NPH without status", "HTTP/1.1\n\n", "", "", 0},
	{"NPH nonsense", "HTTP/1.1 abc\n\n", "", "", 0},
	{"NPH with a control character", "HTTP/1.1 200 O\x01K\n\n", "", "", 0},
	{"NPH line later", "A: b\nHTTP/1.1 200 OK\n\n", "", "", 0},

	{"Location", "Location: http://x/y\n\n", "Location: http://x/y\r\nStatus: 302 Found\r\n", "", 302},
	{"Location with Status", "Location: http://x/y\nStatus: 307 T\n\n", "Location: http://x/y\r\nStatus: 307 T\r\n", "", 307},
	{"Location in NPH", "HTTP/1.1 201 Created\nLocation: http://x\n\n", "Status: 201 Created\r\nLocation: http://x\r\n", "", 201},
	{"local Location", "Location: /y?u=http://x\n\n", "Location: /y?u=http://x\r\n", "", 200},
	{"network path", "Location: //x/y\n\n", "Location: //x/y\r\n", "", 200},
	{"other scheme", "location: svn+ssh://x\n\n", "location: svn+ssh://x\r\nStatus: 302 Found\r\n", "", 302},
	{"no scheme", "Location: 1http://x\n\n", "Location: 1http://x\r\n", "", 200},
	{"empty Location", "Location:\n\n", "Location: \r\n", "", 200},

	{"blank line only", "\nbody", "", "", 0},
	{"CRLF only", "\r\nbody", "", "", 0},
	{"no colon", "A: b\nnonsense\n\n", "", "", 0},
	{"blank in the name", "A b: c\n\n", "", "", 0},
	{"blank after the name", "A : c\n\n", "", "", 0},
	{"folded line", "A: b\n c\n\n", "", "", 0},
	{"no name", ": c\n\n", "", "", 0},
	{"CR in a value", "A: b\rC: d\n\n", "", "", 0},
	{"two CR", "A: b\r\r\n\r\n", "", "", 0},
	{"NUL", "A: b\x00\n\n", "", "", 0},
	{"DEL", "A: b\x7f\n\n", "", "", 0},
	{"name not ASCII", "\xe4: b\n\n", "", "", 0},
	{"unfinished", "A: b\n", "", "", 0},
	{"unfinished in CRLF", "A: b\r\n\r", "", "", 0},
}

func TestHeader(t *testing.T) {
	for _, tt := range headerTests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 2, 3, 1000} {
				block, body, status, err := headerOf(tt.in, size)
				switch {
				case tt.block == "":
					if err == nil {
						t.Errorf("parts of %d: %q is accepted", size, block)
					}
				case err != nil || block != tt.block+"\r\n" || body != tt.body || status != tt.status:
					t.Errorf("parts of %d: %q, %q, %d, %v", size, block, body, status, err)
				}
			}
		})
	}
}

// FuzzHeader: what is accepted is one block of fields that means the same when
// it is read again.
func FuzzHeader(f *testing.F) {
	for _, tt := range headerTests {
		f.Add([]byte(tt.in), 3)
	}
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		whole, body, status, err := headerOf(string(in), len(in)+1)
		if size > 0 {
			b2, body2, status2, err2 := headerOf(string(in), size)
			if b2 != whole || body2 != body || status2 != status || (err == nil) != (err2 == nil) {
				t.Errorf("in parts of %d: %q, %d, %v; whole: %q, %d, %v", size, b2, status2, err2, whole, status, err)
			}
		}
		if err != nil {
			return
		}
		if !strings.HasSuffix(string(in), body) || len(whole) > MaxHeader-1 || status < 100 || status > 599 {
			t.Errorf("status %d, body %q, block %q", status, body, whole)
		}
		fields, found := strings.CutSuffix(whole, "\r\n\r\n")
		if !found || strings.Contains(fields, "\r\n\r\n") || strings.ContainsAny(strings.ReplaceAll(fields, "\r\n", ""), "\r\n\x00") {
			t.Errorf("block is %q", whole)
		}
		again, err := ParseHeader([]byte(whole))
		if err != nil || !bytes.Equal(again.Block, []byte(whole)) || again.Status != status {
			t.Errorf("%q is read again as %q, %d, %v", whole, again.Block, again.Status, err)
		}
	})
}
