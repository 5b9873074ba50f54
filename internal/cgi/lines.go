package cgi

import "bytes"

// Where a program's STDERR goes.
const (
	StderrLog    = "log"
	StderrClient = "client"
	StderrBoth   = "both"
)

// MaxLine is the longest line of a program's STDERR that is logged as one.
const MaxLine = 16 << 10

// A LineCutter cuts text into lines of at most MaxLine bytes.
type LineCutter struct {
	partial []byte // a line that has not ended
}

// Add takes a part of the text and calls emit with each line that has ended.
func (l *LineCutter) Add(p []byte, emit func(line string)) {
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n')
		ended := n >= 0
		if !ended {
			n = len(p)
		}
		if room := MaxLine - len(l.partial); n > room {
			n, ended = room, false
		}
		l.partial = append(l.partial, p[:n]...)
		p = p[n:]
		if ended {
			p = p[1:]
		}
		if ended || len(l.partial) == MaxLine {
			l.Flush(emit)
		}
	}
}

// Flush calls emit with the line that has come. An empty one says nothing.
func (l *LineCutter) Flush(emit func(line string)) {
	line := bytes.TrimSuffix(l.partial, []byte{'\r'})
	if len(line) > 0 {
		emit(string(line))
	}
	l.partial = l.partial[:0]
}
