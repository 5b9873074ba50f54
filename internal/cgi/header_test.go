package cgi

import (
	"bytes"
	"errors"
	"slices"
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
	{"Status with a tab", "Status:\t404\tNot Found\n\n", "Status: 404 Not Found\r\n", "", 404},
	{"Status with a colon", "Status: 404: Not Found\n\n", "Status: 404 Not Found\r\n", "", 404},
	{"Status with a dash", "Status: 404 - Not Found\n\n", "Status: 404 - Not Found\r\n", "", 404},
	{"Status without a space", "Status:404Not Found\n\n", "Status: 404 Not Found\r\n", "", 404},
	{"Status with a blank", "Status: 404 \n\n", "Status: 404\r\n", "", 404},
	{"Status as in HTTP", "Status: HTTP/1.1 404 Not Found\n\n", "Status: 404 Not Found\r\n", "", 404},
	{"Status in quotes", "Status: \"404 Not Found\"\n\n", "Status: 404 Not Found\r\n", "", 404},
	{"Status in parentheses", "Status: (404)\n\n", "Status: 404\r\n", "", 404},
	{"Status behind a second colon", "Status: : '404'\n\n", "Status: 404\r\n", "", 404},
	{"Status as in HTTP, with more blanks", "Status: HTTP/1.1\t 404  Not Found\n\n", "Status: 404 Not Found\r\n", "", 404},
	{"Status as in HTTP, nothing behind it", "Status: HTTP/1.1\n\n", "", "", 0},
	{"Status as in HTTP, a number behind it", "Status: HTTP/404\n\n", "", "", 0},
	{"Status ending in a parenthesis", "Status: 404 Gone (away)\n\n", "Status: 404 Gone (away)\r\n", "", 404},
	{"Status above 599", "Status: 999 Request denied\n\n", "Status: 999 Request denied\r\n", "", 999},
	{"Status 600", "Status: 600\n\n", "Status: 600\r\n", "", 600},
	{"Status of more digits", "Status: 2000 OK\n\n", "Status: 200 OK\r\n", "", 200},
	{"Status in another tongue", "Status: 404 \xc3\x89\n\n", "Status: 404 \xc3\x89\r\n", "", 404},
	{"Status abc", "Status: abc\n\n", "", "", 0},
	{"Status empty", "Status:\n\n", "", "", 0},
	{"Status 99", "Status: 99\n\n", "", "", 0},
	{"Status 099", "Status: 099\n\n", "", "", 0},
	{"Status -20", "Status: -20\n\n", "", "", 0},
	{"Status 20x", "Status: 20x OK\n\n", "", "", 0},
	{"Status 100", "Status: 100 Continue\n\n", "", "", 0},
	{"Status 103", "Status: 103\nLink: </a>\n\n", "", "", 0},
	{"Status 199", "Status: 199\n\n", "", "", 0},
	{"Status with a control character", "Status: 200 O\x01K\n\n", "", "", 0},

	{"NPH", "HTTP/1.1 201 Created\r\nA: b\r\n\r\n", "Status: 201 Created\r\nA: b\r\n", "", 201},
	{"NPH 1.0 without words", "HTTP/1.0 404\n\n", "Status: 404\r\n", "", 404},
	{"NPH with more blanks", "HTTP/1.1  404  Not Found\n\n", "Status: 404 Not Found\r\n", "", 404},
	{"NPH with a tab", "HTTP/1.1\t404\tNot Found\n\n", "Status: 404 Not Found\r\n", "", 404},
	{"NPH and Status", "HTTP/1.1 201 Created\nA: b\nStatus: 404\n\n", "A: b\r\nStatus: 404\r\n", "", 404},
	{"NPH without status", "HTTP/1.1\n\n", "", "", 0},
	{"NPH nonsense", "HTTP/1.1 abc\n\n", "", "", 0},
	{"NPH 1xx", "HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\n\n", "", "", 0},
	{"NPH with a control character", "HTTP/1.1 200 O\x01K\n\n", "", "", 0},
	{"NPH line later", "A: b\nHTTP/1.1 200 OK\n\n", "", "", 0},

	{"Location", "Location: http://x/y\n\n", "Location: http://x/y\r\nStatus: 302 Found\r\n", "", 302},
	{"Location with Status", "Location: http://x/y\nStatus: 307 T\n\n", "Location: http://x/y\r\nStatus: 307 T\r\n", "", 307},
	{"Location in NPH", "HTTP/1.1 201 Created\nLocation: http://x\n\n", "Status: 201 Created\r\nLocation: http://x\r\n", "", 201},
	{"local Location", "Location: /y?u=http://x\n\n", "Location: /y?u=http://x\r\nStatus: 302 Found\r\n", "", 302},
	{"network path", "Location: //x/y\n\n", "Location: //x/y\r\nStatus: 302 Found\r\n", "", 302},
	{"relative Location", "Location: y.html\n\n", "Location: y.html\r\nStatus: 302 Found\r\n", "", 302},
	{"Location of a query", "Location: ?a\n\n", "Location: ?a\r\nStatus: 302 Found\r\n", "", 302},
	{"other scheme", "location: svn+ssh://x\n\n", "location: svn+ssh://x\r\nStatus: 302 Found\r\n", "", 302},
	{"empty Location", "Location:\n\n", "Location: \r\n", "", 200},

	{"cgitb", "<!--: spam\nContent-Type: text/html\n\nbody", "Content-Type: text/html\r\n", "body", 200},
	{"blank in the name", "A b: c\nD: e\n\n", "D: e\r\n", "", 200},
	{"blank after the name", "D: e\nA : c\n\n", "D: e\r\n", "", 200},
	{"folded line", "D: e\n  f: g\n\n", "D: e\r\n", "", 200},
	{"no name", "D: e\n: c\n\n", "D: e\r\n", "", 200},
	{"name not ASCII", "D: e\n\xe4: b\n\n", "D: e\r\n", "", 200},
	{"byte order mark", "\xef\xbb\xbfA: b\nD: e\n\n", "D: e\r\n", "", 200},
	{"a dropped line may have anything", "A b: \x00\nD: e\n\n", "D: e\r\n", "", 200},
	{"a name of a status that is none", "Status : 404\nD: e\n\n", "D: e\r\n", "", 200},

	{"blank line only", "\nbody", "", "", 0},
	{"CRLF only", "\r\nbody", "", "", 0},
	{"dropped lines only", "<!--: spam\n\nbody", "", "", 0},
	{"no colon", "A: b\nnonsense\n\n", "", "", 0},
	{"folded line without a colon", "A: b\n c\n\n", "", "", 0},
	{"CR in a value", "A: b\rC: d\n\n", "", "", 0},
	{"two CR", "A: b\r\r\n\r\n", "", "", 0},
	{"NUL", "A: b\x00\n\n", "", "", 0},
	{"DEL", "A: b\x7f\n\n", "", "", 0},
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

// What is wrong is said with what has come.
func TestHeaderErrors(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for in, want := range map[string]string{
		"A: b\n<html> says\n\n":        `response header has a line that is none: "<html> says"`,
		"A: b\n" + long + "\n\n":       `response header has a line that is none: "` + long[:200] + `"`,
		"<html>\n<p>\n\n":              `response has no header: it begins with "<html>\n<p>\n\n" (Content-Type: text/html and an empty line come first)`,
		"\nTraceback (most recent":     `response has no header: it begins with "\nTraceback (most recent" (Content-Type: text/html and an empty line come first)`,
		"<!--: x\n\n<p>":               `response has no header: it begins with "<!--: x\n\n<p>" (Content-Type: text/html and an empty line come first)`,
		"Status: fine\n\n":             `response header has a status that is none, or not final: "fine"`,
		"Status: 100 Continue\n\n":     `response header has a status that is none, or not final: "100 Continue"`,
		"A: b\x01" + "\n\n":            `response header has the control character 0x01: "A: b\x01"`,
		"HTTP/1.1 200 O\x7fK" + "\n\n": `response header has the control character 0x7f: "200 O\x7fK"`,
	} {
		if _, err := ParseHeader([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%.40q: %v, want %s", in, err, want)
		}
	}
	if err := HeaderError(ErrHeaderUnfinished, []byte("oh dear"+long)); !errors.Is(err, ErrHeaderUnfinished) ||
		err.Error() != `response ended inside its header: "oh dear`+long[:193]+`"` {
		t.Error(err)
	}
	if err := HeaderError(ErrNoHeader, nil); err != ErrNoHeader {
		t.Error(err)
	}
}

// A response without a blank line has ended inside its header only if it has begun one.
func TestUnfinished(t *testing.T) {
	for in, want := range map[string]error{
		"": ErrNoHeader, "hello": ErrNoHeader, "hello\n": ErrNoHeader, "<html>\n<style>\ncolor: red\n": ErrNoHeader,
		"Traceback (most recent call last):\n  File x\n": ErrNoHeader, "\xef\xbb\xbf<p>\n": ErrNoHeader, "<!--: spam\n": ErrNoHeader,
		"Content-Type: text/html\n": ErrHeaderUnfinished, "A:": ErrHeaderUnfinished, "A: b\r\n<html>\n": ErrHeaderUnfinished,
		"HTTP/1.1 200 OK\r\n": ErrHeaderUnfinished, "<!--: spam\nA: b\n": ErrHeaderUnfinished,
	} {
		if err := Unfinished([]byte(in)); err != want {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
}

func TestDroppedLines(t *testing.T) {
	h, err := ParseHeader([]byte("<!--: spam\r\nA: b\n" + strings.Repeat("c d: e\n", 10) + "\nbody"))
	if want := []string{"<!--: spam", "c d: e", "c d: e", "c d: e", "c d: e"}; err != nil || !slices.Equal(h.Dropped, want) {
		t.Errorf("dropped %q, %v", h.Dropped, err)
	}
	h, err = ParseHeader([]byte("A: b\n" + strings.Repeat(" ", 1000) + ": x\n\n"))
	if err != nil || len(h.Dropped) != 1 || len(h.Dropped[0]) != maxShown {
		t.Errorf("dropped %q, %v", h.Dropped, err)
	}
}

func TestFields(t *testing.T) {
	h, err := ParseHeader([]byte("A: b\nLocation: x\nEmpty:\nA: c: d\n\nE: f\n"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, value := range h.Fields() {
		got = append(got, name+"="+value)
	}
	if want := []string{"A=b", "Location=x", "Empty=", "A=c: d", "Status=302 Found"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
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
		if !strings.HasSuffix(string(in), body) || len(whole) > MaxHeader-1 || status < 200 || status > 999 {
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

func TestHeaderLength(t *testing.T) {
	for header, want := range map[string]int64{
		"Content-Type: text/plain\n\n":             -1,
		"Content-Length: 0\n\n":                    0,
		"A: b\ncontent-LENGTH: 17\n\n":             17,
		"Content-Length:9223372036854775807\n\n":   1<<63 - 1,
		"Content-Length: 9223372036854775808\n\n":  -1,
		"Content-Length: -1\n\n":                   -1,
		"Content-Length: +1\n\n":                   -1,
		"Content-Length: 1, 1\n\n":                 -1,
		"Content-Length: x\nContent-Length: 3\n\n": 3,
		"X-Content-Length: 5\n\n":                  -1,
	} {
		if h, err := ParseHeader([]byte(header)); err != nil || h.Length != want {
			t.Errorf("%q: %d, %v, want %d", header, h.Length, err, want)
		}
	}
}
