package cgi

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"strconv"
	"strings"
)

// MaxHeader is the longest header of a CGI response.
const MaxHeader = 64 << 10

// The ways in which a CGI response can be none (RFC 3875, section 6.2).
var (
	ErrNoHeader         = errors.New("response has no header")
	ErrHeaderUnfinished = errors.New("response ended inside its header")
	ErrHeaderTooLarge   = errors.New("response header is larger than 64 KiB")
)

// HeaderError is err, one of those above, with the beginning of what has come instead.
func HeaderError(err error, response []byte) error {
	shown := response[:min(len(response), maxShown)]
	switch {
	case len(response) == 0:
		return err
	case errors.Is(err, ErrNoHeader):
		return fmt.Errorf("%w: it begins with %q (Content-Type: text/html and an empty line come first)", err, shown)
	}
	return fmt.Errorf("%w: %q", err, shown)
}

// Unfinished is what is wrong with a response that has ended without a blank line: it is
// inside its header only if that has begun.
func Unfinished(response []byte) error {
	for rest, first := response, true; len(rest) > 0; first = false {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		name, _, ok := bytes.Cut(line, []byte{':'})
		switch {
		case ok && IsToken(name), first && bytes.HasPrefix(line, []byte("HTTP/")):
			return ErrHeaderUnfinished
		case !ok && first:
			return ErrNoHeader
		}
	}
	return ErrNoHeader
}

// roomInHeader is what a header may grow by when it is brought into its form: lines
// that ended with LF alone, values without a space before them, a Status.
const roomInHeader = 64

// usualHeader is how long few headers are. What follows the header may be long.
const usualHeader = 512 - roomInHeader

// maxDropped is how many lines of a header are kept that were dropped, and
// maxShown how long each may be.
const (
	maxDropped = 5
	maxShown   = 200
)

// A Header is a checked CGI response header (RFC 3875, section 6.3).
type Header struct {
	Block   []byte   // as it is sent: CRLF, with the blank line
	Status  int      // 200 to 999
	Length  int64    // of the body, as Content-Length announces it; -1 where nothing does
	Dropped []string // the first lines that are no fields and so are not in Block, shortened
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

// ParseHeader checks the header of a CGI response and brings it into one form.
// The response may go on after the header's blank line. Lines end with CRLF; a
// line whose name is no name of a field is dropped; Status is three digits and
// words; the status line of a non-parsed header response becomes Status, unless
// there is one; and a Location without a Status gets 302 (section 6.2.3).
func ParseHeader(response []byte) (Header, error) {
	p := headerParser{block: make([]byte, 0, min(len(response), usualHeader)+roomInHeader), length: -1}
	lines := 0
	for rest := response; len(rest) > 0; lines++ {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte{'\n'})
		line = bytes.TrimSuffix(line, []byte{'\r'})
		if len(line) == 0 {
			break
		}
		err := p.add(line, lines == 0)
		if errors.Is(err, ErrNoHeader) {
			err = HeaderError(err, response)
		}
		if err != nil {
			return Header{}, err
		}
	}
	if len(p.block) == 0 && p.status == 0 {
		return Header{}, HeaderError(ErrNoHeader, response)
	}
	return p.finish()
}

// A headerParser takes the lines of a header.
type headerParser struct {
	block       []byte
	status      int
	isNPH       bool   // status is that of an HTTP status line,
	statusLine  []byte // which is this
	hasLocation bool
	length      int64 // of the first Content-Length that is one, or -1
	dropped     []string
}

// add takes a line. The first may be an HTTP status line.
func (p *headerParser) add(line []byte, first bool) (err error) {
	if first && bytes.HasPrefix(line, []byte("HTTP/")) {
		p.isNPH = true
		p.status, p.statusLine, err = parseStatus(bytes.Trim(line, " \t"))
		return err
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	switch {
	case !ok && first:
		return ErrNoHeader
	case !ok:
		return fmt.Errorf("response header has a line that is none: %q", line[:min(len(line), maxShown)])
	case !IsToken(name):
		p.drop(line)
		return nil
	}
	value = bytes.Trim(value, " \t")
	if i := indexControl(value); i >= 0 {
		return fmt.Errorf("response header has the control character %#02x: %.*q", value[i], maxShown, line)
	}
	switch {
	case equalFold(name, "Status"):
		if p.status != 0 && !p.isNPH {
			return nil // the first counts
		}
		p.isNPH = false
		if p.status, value, err = parseStatus(value); err != nil {
			return err
		}
	case equalFold(name, "Location"):
		p.hasLocation = p.hasLocation || len(value) > 0
	case p.length < 0 && equalFold(name, "Content-Length"):
		p.length = parseLength(value)
	}
	p.block = appendField(p.block, name, value)
	return nil
}

func (p *headerParser) drop(line []byte) {
	if len(p.dropped) < maxDropped {
		p.dropped = append(p.dropped, string(line[:min(len(line), maxShown)]))
	}
}

func (p *headerParser) finish() (Header, error) {
	switch {
	case p.isNPH:
		p.block = append(appendField(nil, []byte("Status"), p.statusLine), p.block...)
	case p.status == 0 && p.hasLocation:
		p.status = http.StatusFound
		p.block = appendField(p.block, []byte("Status"), []byte("302 Found"))
	case p.status == 0:
		p.status = http.StatusOK
	}
	p.block = append(p.block, '\r', '\n')
	if len(p.block) > MaxHeader-1 {
		return Header{}, HeaderError(ErrHeaderTooLarge, p.block)
	}
	return Header{p.block, p.status, p.length, p.dropped}, nil
}

// parseLength is -1 for what is no length.
func parseLength(value []byte) int64 {
	n, err := strconv.ParseUint(string(value), 10, 63)
	if err != nil {
		return -1
	}
	return int64(n)
}

// parseStatus takes a status in the forms that people write: three digits, maybe in
// quotes or behind a version of HTTP, and words after whatever stands between. One that
// is not final would have the client wait for another.
func parseStatus(value []byte) (status int, form []byte, err error) {
	if bytes.HasPrefix(value, []byte("HTTP/")) {
		value = value[max(bytes.IndexAny(value, " \t"), 0):]
	}
	value = bytes.TrimLeft(value, " \t\"'(=:")
	digits, words := value[:min(3, len(value))], value[min(3, len(value)):]
	for _, c := range digits {
		if c < '0' || c > '9' {
			status = 0
			break
		}
		status = 10*status + int(c-'0')
	}
	if len(digits) < 3 || status < 200 {
		return 0, nil, fmt.Errorf("response header has a status that is none, or not final: %.*q", maxShown, value)
	}
	if i := indexControl(words); i >= 0 {
		return 0, nil, fmt.Errorf("response header has the control character %#02x: %.*q", words[i], maxShown, value)
	}
	if len(words) == 0 || words[0] == ' ' && len(words) > 1 && inToken[words[1]] && inToken[words[len(words)-1]] {
		return status, value, nil // the usual form
	}
	words = bytes.TrimLeft(bytes.TrimLeft(words, "0123456789"), " \t:;,.-\"')")
	words = bytes.TrimRight(words, " \t:;,.-\"'")
	if len(words) == 0 {
		return status, digits, nil
	}
	return status, fmt.Appendf(nil, "%s %s", digits, words), nil
}

// indexControl is where the first control character stands that no field may have, or -1.
func indexControl(s []byte) int {
	for i, c := range s {
		if c < ' ' && c != '\t' || c == 0x7f {
			return i
		}
	}
	return -1
}

// Fields yields the fields of the header.
func (h *Header) Fields() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for line := range strings.SplitSeq(string(h.Block), "\r\n") {
			if name, value, ok := strings.Cut(line, ": "); ok && !yield(name, value) {
				return
			}
		}
	}
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

// IsToken reports whether s may name a header field or a method.
func IsToken[T string | []byte](s T) bool {
	for i := range len(s) {
		if !inToken[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

func equalFold(a []byte, b string) bool {
	return len(a) == len(b) && bytes.EqualFold(a, []byte(b))
}
