package cgi

import "bytes"

// Where a program's STDERR goes.
const (
	StderrLog    = "log"
	StderrClient = "client"
	StderrBoth   = "both"
)

// MaxEntry is the longest text of a program's STDERR that is logged as one.
const MaxEntry = 16 << 10

// Entries makes the entries of a log of what a program writes to STDERR. What is
// written at once is one, however many lines it has: a stack trace is one message.
// What ends in the middle of a line waits for its end.
type Entries struct {
	text []byte // that has not ended
}

// Add takes what was written at once, and calls emit with the entry that it ends.
func (e *Entries) Add(p []byte, emit func(entry string)) {
	for len(p) > 0 {
		n := min(len(p), MaxEntry-len(e.text))
		e.text, p = append(e.text, p[:n]...), p[n:]
		if len(e.text) == MaxEntry {
			e.cut(emit)
		}
	}
	if bytes.HasSuffix(e.text, []byte{'\n'}) {
		e.Flush(emit)
	}
}

// cut ends an entry that is too long, if it can behind a line.
func (e *Entries) cut(emit func(entry string)) {
	n := bytes.LastIndexByte(e.text, '\n') + 1
	if n == 0 {
		n = len(e.text)
	}
	rest := bytes.Clone(e.text[n:])
	e.text = e.text[:n]
	e.Flush(emit)
	e.text = append(e.text, rest...)
}

// Flush calls emit with what has come, as the end of the text does. An empty entry
// says nothing.
func (e *Entries) Flush(emit func(entry string)) {
	text := bytes.Trim(bytes.ReplaceAll(e.text, []byte("\r\n"), []byte{'\n'}), "\r\n")
	if len(text) > 0 {
		emit(string(text))
	}
	e.text = e.text[:0]
}
