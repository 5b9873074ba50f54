package cgi

import (
	"bytes"
	"errors"
	"fmt"
)

// MaxHeader is the longest header of a CGI response.
const MaxHeader = 64 << 10

// The ways in which a CGI response can be none (RFC 3875, section 6.2).
var (
	ErrNoHeader         = errors.New("response has no header")
	ErrHeaderUnfinished = errors.New("response ended inside its header")
	ErrHeaderTooLarge   = errors.New("response header is larger than 64 KiB")
)

// roomInHeader is what a header may grow by when it is brought into its form: lines
// that ended with LF alone, values without a space before them, a Status.
const roomInHeader = 64

// A Header is a checked CGI response header (RFC 3875, section 6.3).
type Header struct {
	Block  []byte // as it is sent: CRLF, with the blank line
	Status int
}

// HeaderEnd is where the body begins in p, the start of a response, or 0 when
// the blank line has not come. Lines before from are known not to be blank, and
// next is what from may be when more has come.
func HeaderEnd(p []byte, from int) (end, next int) {
	for {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			return 0, from
		}
		line := p[from : from+i]
		from += i + 1
		if len(line) == 0 || string(line) == "\r" {
			return from, from
		}
	}
}

// ParseHeader checks the header of a CGI response, blank line included, and
// brings it into one form: lines end with CRLF, the status line of a non-parsed
// header response becomes Status, and a Location that sends the client
// elsewhere gets the 302 that RFC 3875, section 6.2.3, means by it.
func ParseHeader(raw []byte) (Header, error) {
	h := Header{Status: 200, Block: make([]byte, 0, len(raw)+roomInHeader)}
	var location []byte
	lines, hasStatus := 0, false
	for rest := raw; len(rest) > 0; lines++ {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) == 0 {
			break
		}
		name, value, err := cutField(line, lines == 0)
		if err != nil {
			return Header{}, err
		}
		switch {
		case equalFold(name, "Status"):
			if hasStatus {
				continue
			}
			hasStatus = true
			if h.Status, err = parseStatus(value); err != nil {
				return Header{}, err
			}
		case equalFold(name, "Location"):
			location = value
		}
		h.Block = appendField(h.Block, name, value)
	}
	if lines == 0 {
		return Header{}, ErrNoHeader
	}
	if !hasStatus && isAbsoluteURL(location) {
		h.Status = 302
		h.Block = appendField(h.Block, []byte("Status"), []byte("302 Found"))
	}
	h.Block = append(h.Block, '\r', '\n')
	if len(h.Block) > MaxHeader-1 {
		return Header{}, ErrHeaderTooLarge
	}
	return h, nil
}

// cutField divides a header line. The first may be an HTTP status line.
func cutField(line []byte, first bool) (name, value []byte, err error) {
	if first && bytes.HasPrefix(line, []byte("HTTP/")) {
		_, value, _ = bytes.Cut(line, []byte{' '})
		name = []byte("Status")
	} else {
		var ok bool
		name, value, ok = bytes.Cut(line, []byte{':'})
		if !ok || !isToken(name) {
			return nil, nil, fmt.Errorf("response header has a line that is none: %.80q", line)
		}
	}
	value = bytes.Trim(value, " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, nil, fmt.Errorf("response header %s has the control character %#02x", name, c)
		}
	}
	return name, value, nil
}

func parseStatus(value []byte) (int, error) {
	code, _, _ := bytes.Cut(value, []byte{' '})
	n := 0
	for _, c := range code {
		if c < '0' || c > '9' || len(code) != 3 {
			n = 0
			break
		}
		n = 10*n + int(c-'0')
	}
	if n < 100 || n > 599 {
		return 0, fmt.Errorf("response header has a status that is none: %.40q", value)
	}
	return n, nil
}

func appendField(dst, name, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ':', ' ')
	dst = append(dst, value...)
	return append(dst, '\r', '\n')
}

// inToken tells the characters of a token (RFC 9110, section 5.6.2).
var inToken = func() (in [256]bool) {
	for c := byte(' ') + 1; c < 0x7f; c++ {
		in[c] = bytes.IndexByte([]byte(`"(),/:;<=>?@[\]{}`), c) < 0
	}
	return in
}()

func isToken(s []byte) bool {
	for _, c := range s {
		if !inToken[c] {
			return false
		}
	}
	return len(s) > 0
}

// isAbsoluteURL reports whether s begins with a scheme (RFC 3986, section 3.1).
func isAbsoluteURL(s []byte) bool {
	scheme, _, ok := bytes.Cut(s, []byte{':'})
	if !ok || len(scheme) == 0 {
		return false
	}
	for i, c := range scheme {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		other := '0' <= c && c <= '9' || c == '+' || c == '-' || c == '.'
		if !letter && (i == 0 || !other) {
			return false
		}
	}
	return true
}

func equalFold(a []byte, b string) bool {
	return len(a) == len(b) && bytes.EqualFold(a, []byte(b))
}
