package devserver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// maxCGIHeader is the longest header of a CGI response.
const maxCGIHeader = 64 << 10

// A HeaderCutter takes a CGI response and gives away its header block and its
// body as they come.
type HeaderCutter struct {
	// Header is called once, before anything goes to Body: with the block and
	// the blank line that ends it, or, if there is none in the first 64 KiB or
	// at all, with what came instead.
	Header func(block []byte) error
	Body   io.Writer

	buf  []byte
	past bool // Header was called
}

// Write takes a piece of the response.
func (c *HeaderCutter) Write(p []byte) (int, error) {
	if c.past {
		return c.Body.Write(p)
	}
	searched := len(c.buf)
	c.buf = append(c.buf, p...)
	end := headerEnd(c.buf, searched)
	if end < 0 && len(c.buf) <= maxCGIHeader {
		return len(p), nil
	}
	if end < 0 || end > maxCGIHeader {
		end = len(c.buf)
	}
	rest := c.buf[end:]
	if err := c.pass(c.buf[:end]); err != nil || len(rest) == 0 {
		return len(p), err
	}
	_, err := c.Body.Write(rest)
	return len(p), err
}

// Past tells whether Header was called.
func (c *HeaderCutter) Past() bool { return c.past }

// IsInside tells whether a header has begun that has not ended.
func (c *HeaderCutter) IsInside() bool { return len(c.buf) > 0 }

// Finish gives what there is of a header that has not ended.
func (c *HeaderCutter) Finish() error {
	if c.past {
		return nil
	}
	return c.pass(c.buf)
}

func (c *HeaderCutter) pass(block []byte) error {
	c.past, c.buf = true, nil
	return c.Header(block)
}

// headerEnd is where the body begins, -1 without a blank line. The first
// searched bytes are known to hold no whole one.
func headerEnd(b []byte, searched int) int {
	i := max(0, searched-len("\n\r\n")+1)
	if i == 0 {
		if n := lineBreak(b); n > 0 {
			return n
		}
	}
	for {
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return -1
		}
		i += n + 1
		if n := lineBreak(b[i:]); n > 0 {
			return i + n
		}
	}
}

// lineBreak is the length of the LF or CRLF that b begins with, else 0.
func lineBreak(b []byte) int {
	switch {
	case bytes.HasPrefix(b, []byte("\n")):
		return 1
	case bytes.HasPrefix(b, []byte("\r\n")):
		return 2
	}
	return 0
}

// ParseHeader reads a header block with the blank line at its end. The
// status is 0 when there is no Status field; the fields are without it.
func ParseHeader(block []byte) (status int, fields http.Header, err error) {
	text, err := cutBlankLine(block)
	if err != nil {
		return 0, nil, err
	}
	fields = make(http.Header)
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		if !ok || !IsToken(name) {
			return 0, nil, fmt.Errorf("header has the line %.80q", line)
		}
		fields.Add(name, strings.Trim(value, " \t"))
	}
	if s := fields.Get("Status"); s != "" {
		if status, err = parseCGIStatus(s); err != nil {
			return 0, nil, err
		}
		fields.Del("Status")
	}
	return status, fields, nil
}

// cutBlankLine returns the lines before the blank one at the end of block.
func cutBlankLine(block []byte) (string, error) {
	if len(block) > maxCGIHeader {
		return "", fmt.Errorf("header is longer than %d bytes", maxCGIHeader)
	}
	if len(block) == 0 {
		return "", errors.New("response is empty")
	}
	text, ok := strings.CutSuffix(string(block), "\n")
	text = strings.TrimSuffix(text, "\r")
	if ok && text == "" {
		return "", errors.New("response has no header")
	}
	if !ok || !strings.HasSuffix(text, "\n") {
		return "", errors.New("response ended inside its header")
	}
	return text, nil
}

func parseCGIStatus(s string) (int, error) {
	code, _, _ := strings.Cut(s, " ")
	n, err := strconv.Atoi(code)
	if err != nil || n < 200 || n > 999 {
		return 0, fmt.Errorf("header has the status %.80q", s)
	}
	return n, nil
}

// isToken reports whether s may name a header field or a method.
func IsToken(s string) bool {
	for _, c := range []byte(s) {
		if !isAlphanumeric(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z'
}
