package cgi

import (
	"bytes"
	"strconv"
)

// Length is how long a body the header of a response announces, and -1 when it does
// not say so (RFC 3875, section 6.3).
func Length(header []byte) int64 {
	for line := range bytes.Lines(header) {
		name, value, _ := bytes.Cut(line, []byte{':'})
		if !bytes.EqualFold(name, []byte("Content-Length")) {
			continue
		}
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err == nil && n >= 0 {
			return n
		}
	}
	return -1
}
