package devserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"log/slog"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/cgi"
)

// A front is what stands before fcgid where there is no web server.
type front struct {
	dial func(context.Context) (net.Conn, error)
	root string
	log  *slog.Logger
}

// newFront returns an HTTP handler that asks a FastCGI application as nginx
// would, on a new connection for each request: a path is a script below
// docRoot. A folder is shown as the list of its programs. The log may be nil.
func newFront(dial func(context.Context) (net.Conn, error), docRoot string, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &front{dial: dial, root: path.Clean(docRoot), log: log}
}

// ServeHTTP answers one request. It breaks the client's connection when the
// application fails inside its answer.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.ContainsRune(r.URL.Path, 0) {
		http.Error(w, "400 Bad Request: NUL in the path", http.StatusBadRequest)
		return
	}
	x := newExchange(f, w, r)
	defer x.release()
	v := visit{method: r.Method, path: cleanPath(r.URL.Path), query: r.URL.RawQuery, body: x.body, length: -1}
	if x.body != nil || r.Header.Get("Content-Length") != "" {
		v.length = r.ContentLength
	}
	if x.serveFolder(v) {
		return
	}
	if err := x.ask(v); err != nil {
		x.fail(err)
	}
}

// cleanPath is p without . and .. and double slashes; a slash at its end stays.
func cleanPath(p string) string {
	clean := path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// A visit is what a script is asked for.
type visit struct {
	method, path, query string
	body                *watchedBody // nil without one
	length              int64        // of body; -1 when it is not known
}

// An exchange is one HTTP request and its answer.
type exchange struct {
	front   *front
	w       http.ResponseWriter
	control *http.ResponseController
	r       *http.Request
	body    *watchedBody
	sender  *fcgi.Client // the one that got body
	started bool         // the header has left
}

func newExchange(f *front, w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{front: f, w: w, control: http.NewResponseController(w), r: r}
	if r.Body != nil && r.Body != http.NoBody {
		x.body = &watchedBody{r: r.Body}
	}
	return x
}

// release waits until nobody reads the body, which the server takes back.
func (x *exchange) release() {
	if x.sender == nil {
		return
	}
	// A deadline on a body that has ended would break the next request instead.
	if !x.body.ended.Load() {
		_ = x.control.SetReadDeadline(time.Unix(1, 0))
	}
	x.sender.Wait()
}

// ask sends the visit to the application and its answer to the client.
func (x *exchange) ask(v visit) error {
	conn, err := x.front.dial(x.r.Context())
	if err != nil {
		return fmt.Errorf("cannot reach the application: %w", err)
	}
	client := fcgi.NewClient(conn)
	defer client.Close()

	to := &answer{x: x}
	cutter := &HeaderCutter{Header: to.header, Body: to}
	stderr := &lineLogger{line: func(line string) {
		x.front.log.Info("script stderr", "path", v.path, "line", line)
	}}
	req := &fcgi.Request{Params: x.params(v), Stdout: cutter, Stderr: stderr}
	if v.body != nil {
		req.Stdin, x.sender = v.body, client
		// Else the first byte of the answer would make net/http take the rest of the body.
		_ = x.control.EnableFullDuplex()
	}
	result, err := client.Do(x.r.Context(), req)
	stderr.flush()
	if to.err != nil {
		err = to.err
	}
	if err == nil {
		if !cutter.Past() && result.ProtocolStatus != fcgi.StatusRequestComplete {
			return fmt.Errorf("application refuses the request: %v", result.ProtocolStatus)
		}
		err = cutter.Finish()
	}
	x.front.log.Debug("request", "method", v.method, "path", v.path,
		"protocol_status", result.ProtocolStatus.String(), "app_status", result.AppStatus, "error", err)
	return err
}

// fail tells the client of err if it can still be told.
func (x *exchange) fail(err error) {
	if x.r.Context().Err() == nil {
		x.front.log.Warn("request not answered", "uri", x.r.RequestURI, "error", err)
	}
	if x.started {
		panic(http.ErrAbortHandler)
	}
	clear(x.w.Header())
	x.closeAfter()
	http.Error(x.w, "502 Bad Gateway: "+err.Error(), http.StatusBadGateway)
}

// closeAfter gives up the connection after this answer if there is more of the
// body to come, and is to be called before each header: in full duplex, net/http
// would take the body for the next request, or panic.
func (x *exchange) closeAfter() {
	if x.body != nil && !x.body.ended.Load() {
		x.w.Header().Set("Connection", "close")
	}
}

// A watchedBody is a request's body that knows whether it was read to its end.
type watchedBody struct {
	r     io.Reader
	ended atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

// An answer turns a CGI response into the HTTP response.
type answer struct {
	x   *exchange
	err error // of the header
}

// start sends a header: status and fields.
func (x *exchange) start(status int, fields http.Header) {
	for _, name := range hopByHop {
		fields.Del(name)
	}
	for name, values := range fields {
		for _, v := range values {
			x.w.Header().Add(name, v)
		}
	}
	x.closeAfter()
	x.started = true
	x.w.WriteHeader(status)
}

// hopByHop are fields between a server and its client that no script may set.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Trailer", "Transfer-Encoding", "Upgrade"}

func (a *answer) header(block []byte) error {
	h, err := ParseHeader(block)
	if err != nil {
		a.err = fmt.Errorf("answer of the application: %w", err)
		return a.err
	}
	fields := make(http.Header)
	for name, value := range h.Fields() {
		fields.Add(name, value)
	}
	fields.Del("Status")
	a.x.start(h.Status, fields)
	return a.flush()
}

// Write sends a piece of the body at once.
func (a *answer) Write(p []byte) (int, error) {
	n, err := a.x.w.Write(p)
	if errors.Is(err, http.ErrBodyNotAllowed) {
		return len(p), nil
	}
	if err != nil {
		return n, err
	}
	return n, a.flush()
}

func (a *answer) flush() error {
	if err := a.x.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// A lineLogger gives away what is written by the line.
type lineLogger struct {
	line func(string)
	cut  cgi.Entries
}

func (l *lineLogger) Write(p []byte) (int, error) {
	l.cut.Add(p, l.line)
	return len(p), nil
}

func (l *lineLogger) flush() { l.cut.Flush(l.line) }
