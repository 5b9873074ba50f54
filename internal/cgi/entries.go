package cgi

import (
	"bytes"
	"sync"
	"time"
)

// Where a program's STDERR goes.
const (
	StderrLog    = "log"
	StderrClient = "client"
	StderrBoth   = "both"
)

const (
	// MaxEntry is the longest text of a program's STDERR that is logged as one.
	MaxEntry = 16 << 10
	// holdEntry is how long an entry waits for lines that may belong to it. holdTrace is
	// the same for one that must have more lines. The lines of a stack trace come at once,
	// but not in one write, and the machine may be busy.
	holdEntry = 100 * time.Millisecond
	holdTrace = time.Second
	// pipePart is what a longer write to a pipe comes in (pipe(7): PIPE_BUF).
	pipePart = 4 << 10
)

// traceBegins is the line before a stack trace of Python, which writes each line of it
// by itself, and the exception last.
var traceBegins = []byte("Traceback (most recent call last):")

// Entries makes the entries of a log of what a program writes to STDERR. What is
// written at once is one, however many lines it has: a stack trace is one message. So
// are lines that follow it closely and go on with it: indented ones, blank ones, and the
// exception behind Python's stack trace. What ends in the middle of a line waits for its
// end. The zero value is ready.
type Entries struct {
	mu    sync.Mutex // guards the fields below; it is held while an entry is emitted, for which the next one has to wait
	text  []byte     // of the entry that has not ended
	part  bool       // what was written at once may go on
	emit  func(entry string)
	timer *time.Timer // flushes an entry that has its end; nil while none was needed
}

// Add takes what was written at once, and calls emit with an entry that has ended, here
// or a moment later.
func (e *Entries) Add(p []byte, emit func(entry string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopLocked()
	e.emit = emit
	if e.isWhole() && !e.part && !e.goesOnWith(p) {
		e.flushLocked()
	}
	e.part = len(p) > 0 && len(p)%pipePart == 0
	for len(p) > 0 {
		n := min(len(p), MaxEntry-len(e.text))
		e.text, p = append(e.text, p[:n]...), p[n:]
		if len(e.text) == MaxEntry {
			e.cutLocked()
		}
	}
	if e.isWhole() {
		e.holdLocked()
	}
}

// Flush ends the entry, as the end of the text does.
func (e *Entries) Flush(emit func(entry string)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopLocked()
	e.emit = emit
	e.flushLocked()
}

// isWhole reports whether there is an entry and no line of it lacks its end.
func (e *Entries) isWhole() bool { return bytes.HasSuffix(e.text, []byte{'\n'}) }

// goesOnWith reports whether p, which was written behind the entry, belongs to it.
func (e *Entries) goesOnWith(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	return isIndented(p) || e.isInTrace()
}

// isIndented reports whether a text begins with a blank, or with a blank line.
func isIndented(text []byte) bool {
	return len(text) > 0 && bytes.IndexByte([]byte(" \t\r\n"), text[0]) >= 0
}

// isInTrace reports whether the entry ends in Python's stack trace, before the exception,
// or between two of them.
func (e *Entries) isInTrace() bool {
	begin := bytes.LastIndex(e.text, traceBegins)
	if begin < 0 {
		return false
	}
	ended := false
	for line := range bytes.Lines(e.text[begin+len(traceBegins):]) {
		ended = !isIndented(line)
	}
	return !ended
}

// holdLocked lets the entry wait for more.
func (e *Entries) holdLocked() {
	wait := holdEntry
	if e.isInTrace() {
		wait = holdTrace
	}
	if e.timer == nil {
		e.timer = time.AfterFunc(wait, e.expire)
		return
	}
	e.timer.Reset(wait)
}

func (e *Entries) stopLocked() {
	if e.timer != nil {
		e.timer.Stop()
	}
}

// expire is called when an entry has waited for long enough. More may have come
// meanwhile.
func (e *Entries) expire() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isWhole() {
		e.flushLocked()
	}
}

// cutLocked ends an entry that is too long, if it can behind a line.
func (e *Entries) cutLocked() {
	n := bytes.LastIndexByte(e.text, '\n') + 1
	if n == 0 {
		n = len(e.text)
	}
	rest := bytes.Clone(e.text[n:])
	e.text = e.text[:n]
	e.flushLocked()
	e.text = append(e.text, rest...)
}

// flushLocked calls emit with the entry. An empty one says nothing.
func (e *Entries) flushLocked() {
	text := bytes.Trim(bytes.ReplaceAll(e.text, []byte("\r\n"), []byte{'\n'}), "\r\n")
	if len(text) > 0 {
		e.emit(string(text))
	}
	e.text, e.part = e.text[:0], false
}
