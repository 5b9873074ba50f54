// Package access writes the lines of an access log: in JSON, in the combined format of
// Apache and nginx, or as a format of php-fpm's says. It knows what a line looks like, and
// not where it goes. What clients fill is escaped in each of them: it can neither end its
// line nor be taken for another field.
package access

import (
	"time"
)

// A Line is what there is to tell of a request.
type Line struct {
	Pool      string
	ID        []byte // the request's id, as its program has it
	Serial    uint64 // the number that `fcgid requests` shows
	Remote    string // the web server; host:port if it came by TCP
	PID       int    // of the program; 0 without one
	Params    Params // as they came
	Header    []byte // of the answer, in lines that end with CRLF; nil without one
	Status    int    // of the answer; 0 without one
	AppStatus uint32
	Outcome   string
	Reason    error // why the answer is not the program's, or nil

	In, Out, Body int64 // bytes of STDIN, of STDOUT, and of that without the header

	Begun, Ended time.Time
	Queue, Run   time.Duration // of the time between: until it ran, and since then
	FirstByte    time.Duration // of Run: until the answer's header was there; 0 without one
	Usage        Usage
}

// Params are the variables of a request, which its client may have written.
type Params interface{ Get(name string) string }

// Usage is what a program has used for a request. What is 0 is not known.
type Usage struct {
	CPU          time.Duration // user and system together
	User, System time.Duration // apart; both are 0 if only their sum is known
	MaxRSS       int64         // bytes
}

// A Format is how a line looks. The zero value is JSON.
type Format struct {
	text  string
	parts []part
}

// A part appends one piece of a line.
type part func(dst []byte, l *Line) []byte

// The formats that have names.
const (
	JSON     = "json"
	Combined = "combined"
)

// Parse reads a format: JSON, Combined, or one with php-fpm's tokens. The error is a
// *FormatError.
func Parse(text string) (Format, error) {
	f := Format{text: text}
	switch text {
	case JSON, "":
		f.parts = []part{appendJSON}
		return f, nil
	case Combined:
		f.parts = combined
		return f, nil
	}
	parts, err := parseTokens(text)
	if err != nil {
		return Format{}, err
	}
	f.parts = parts
	return f, nil
}

// String is the text that was parsed.
func (f Format) String() string { return f.text }

// Append appends a line, with its end.
func (f Format) Append(dst []byte, l *Line) []byte {
	if f.parts == nil {
		return append(appendJSON(dst, l), '\n')
	}
	for _, p := range f.parts {
		dst = p(dst, l)
	}
	return append(dst, '\n')
}
