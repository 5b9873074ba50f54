package devserver

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/fcgid/fcgid/internal/status"
	"github.com/fcgid/fcgid/internal/terminal"
)

// A console is where requests are told to a person.
type console struct {
	mu      sync.Mutex // held while writing: what a request has to say stays together
	w       io.Writer
	colours bool
}

// newConsole writes to w, in colour if that is a terminal and nobody minds
// (https://no-color.org).
func newConsole(w io.Writer) *console {
	return &console{w: w, colours: terminal.TakesColours(w)}
}

// paint is text in the colour of a status.
func (t *console) paint(code int, text string) string {
	if !t.colours {
		return text
	}
	colour := 32 // green
	switch {
	case code >= 500:
		colour = 31 // red
	case code >= 400:
		colour = 33 // yellow
	case code >= 300:
		colour = 36 // cyan
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", colour, text)
}

// report tells of a request that has ended, once.
func (x *exchange) report() {
	if x.front.term == nil {
		return
	}
	t := x.front.term
	t.mu.Lock()
	defer t.mu.Unlock()
	if x.w.told {
		return
	}
	x.w.told = true
	code := fmt.Sprint(x.w.status)
	switch {
	case x.r.Context().Err() != nil:
		code = "gone"
	case x.w.status == 0:
		code = "---"
	}
	fmt.Fprintf(t.w, "%s %-4s %s  %v  %s\n", t.paint(x.w.status, code), x.r.Method, status.Printable(x.r.RequestURI),
		time.Since(x.begun).Round(100*time.Microsecond), humanize.IBytes(uint64(x.w.size)))
	if text := x.end.Reason + x.end.Exit; text != "" && x.r.Context().Err() == nil {
		fmt.Fprintf(t.w, "     %s\n", status.Printable(text))
	}
	for _, line := range x.stderr.text() {
		fmt.Fprintf(t.w, "     stderr: %s\n", line)
	}
}

// A countingWriter notes what was answered.
type countingWriter struct {
	http.ResponseWriter
	status int
	size   int64
	told   bool // of the terminal
}

// WriteHeader notes the status.
func (w *countingWriter) WriteHeader(code int) {
	if w.status == 0 && code >= 200 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write notes the size.
func (w *countingWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.size += int64(n)
	return n, err
}

// Unwrap is for [http.ResponseController].
func (w *countingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
