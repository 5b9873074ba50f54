package devserver

import (
	"bytes"
	"context"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/server"
	"github.com/fcgid/fcgid/internal/status"
)

// maxOwnAnswer is more than an answer of fcgid's own is long.
const maxOwnAnswer = 1 << 10

// An ending is what the daemon knows of how a request ended.
type ending struct {
	Outcome server.Outcome
	Reason  string
	Exit    string // of a program that failed behind its answer
}

// endings are the requests that have been sent and not ended, by their number.
type endings struct {
	mu   sync.Mutex // guards the fields below
	last int
	open map[string]chan ending
}

// idParam is how the daemon is told which request of the front's it answers.
const idParam = "FCGID_DEV_REQUEST"

func (e *endings) begin() (id string, end <-chan ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open == nil {
		e.open = make(map[string]chan ending)
	}
	e.last++
	id = fmt.Sprint(e.last)
	c := make(chan ending, 1)
	e.open[id] = c
	return id, c
}

func (e *endings) forget(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.open, id)
}

// ended is told by the daemon.
func (e *endings) ended(r *server.Result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	end := ending{Outcome: r.Outcome}
	if r.Reason != nil {
		end.Reason = r.Reason.Error()
	} else if r.Outcome == server.OK && r.End.AppStatus != 0 {
		end.Exit = cgi.ExitText(r.End.AppStatus)
	}
	if c := e.open[r.Params.Get(idParam)]; c != nil {
		c <- end
		delete(e.open, r.Params.Get(idParam))
	}
}

// A heard is what a program has written to STDERR, up to a bound.
type heard struct {
	mu    sync.Mutex // guards the field below
	lines []string
}

const maxHeard = 200 // lines

// Enabled takes all.
func (h *heard) Enabled(context.Context, slog.Level) bool { return true }

// Handle takes what [fcgi.Transport] logs.
func (h *heard) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "line" {
			h.add(a.Value.String())
		}
		return true
	})
	return nil
}

// WithAttrs and WithGroup change nothing.
func (h *heard) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup changes nothing.
func (h *heard) WithGroup(string) slog.Handler { return h }

func (h *heard) add(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		if len(h.lines) < maxHeard {
			h.lines = append(h.lines, status.Printable(line))
		}
	}
}

func (h *heard) text() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lines
}

// A problem is what the page of an answer of ours says.
type problem struct {
	Status int
	Title  string // of the status
	Path   string
	Script string // the file, or ""
	Reason string
	Hint   string
	Stderr []string
}

var problemPage = template.Must(template.New("problem").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Status}} {{.Title}}</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 3rem auto; padding: 0 1rem; color-scheme: light dark }
h1 { font-size: 1.4rem } pre { padding: 1rem; overflow: auto; border: 1px solid #8884; border-radius: .3rem }
dt { font-weight: bold; margin-top: 1rem } dd { margin: 0 }
</style></head>
<body>
<h1>{{.Status}} {{.Title}}</h1>
<dl>
<dt>Path</dt><dd><code>{{.Path}}</code></dd>
{{- with .Script}}<dt>Script</dt><dd><code>{{.}}</code></dd>{{end}}
{{- with .Reason}}<dt>Why</dt><dd id="why">{{.}}</dd>{{end}}
{{- with .Hint}}<dt>What to do</dt><dd id="hint">{{.}}</dd>{{end}}
{{- with .Stderr}}<dt>What the program wrote to STDERR</dt><dd><pre id="stderr">{{range .}}{{.}}
{{end}}</pre></dd>{{end}}
</dl>
<p>This page is of <code>fcgid dev</code>: a web server shows none of it.</p>
</body>
</html>
`))

// write answers with the page, or with text for who does not ask for HTML.
func (p *problem) write(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if strings.Contains(r.Header.Get("Accept"), "text/html") {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		w.WriteHeader(p.Status)
		problemPage.Execute(w, p) // an error is the client's, who has gone
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(p.Status)
	io.WriteString(w, p.text())
}

func (p *problem) text() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%d %s: %s\n", p.Status, p.Title, status.Printable(p.Path))
	for _, part := range []string{p.Reason, p.Hint} {
		if part != "" {
			fmt.Fprintf(&b, "%s\n", status.Printable(part))
		}
	}
	for _, line := range p.Stderr {
		fmt.Fprintf(&b, "stderr: %s\n", line)
	}
	return b.String()
}

// newProblem explains an answer of ours.
func (f *front) newProblem(code int, r *http.Request, t *target, end ending, stderr []string) *problem {
	p := &problem{Status: code, Title: http.StatusText(code), Path: r.URL.Path, Reason: end.Reason, Stderr: stderr}
	if t.pool != "" && t.pool != functionPool {
		p.Script = t.name
	}
	if code == http.StatusInternalServerError && p.Reason == "" && len(stderr) == 0 {
		p.Reason = "The program answered 500, wrote no page and nothing to STDERR"
		if end.Exit != "" {
			p.Reason += ": " + end.Exit
		}
	}
	p.Hint = f.hint(t, p)
	return p
}

// awaitEnd has what the daemon knows of a request that has been answered.
func (x *exchange) awaitEnd(end <-chan ending) {
	if !x.front.hears || x.end != (ending{}) {
		return
	}
	select {
	case x.end = <-end:
	case <-time.After(time.Second):
	}
}
