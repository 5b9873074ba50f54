package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"go.uber.org/zap"
)

// maxLocalRedirects is how often one request may be sent on by a script.
const maxLocalRedirects = 10

// A devFront is what stands before fcgid where there is no web server.
type devFront struct {
	dial func(context.Context) (net.Conn, error)
	root string
	log  *zap.Logger
}

// newDevFront returns an HTTP handler that asks a FastCGI application as nginx
// would, on a new connection for each request: a path is a script below
// docRoot. A folder is shown as the list of its programs. The log may be nil.
func newDevFront(dial func(context.Context) (net.Conn, error), docRoot string, log *zap.Logger) http.Handler {
	if log == nil {
		log = zap.NewNop()
	}
	return &devFront{dial: dial, root: path.Clean(docRoot), log: log}
}

// ServeHTTP answers one request. It breaks the client's connection when the
// application fails inside its answer.
func (f *devFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.ContainsRune(r.URL.Path, 0) {
		http.Error(w, "400 Bad Request: NUL in the path", http.StatusBadRequest)
		return
	}
	x := newDevExchange(f, w, r)
	defer x.release()
	visit := devVisit{method: r.Method, path: cleanPath(r.URL.Path), query: r.URL.RawQuery, body: x.body, length: -1}
	if x.body != nil || r.Header.Get("Content-Length") != "" {
		visit.length = r.ContentLength
	}
	for range maxLocalRedirects + 1 {
		if x.serveFolder(visit) {
			return
		}
		location, err := x.ask(visit)
		if err != nil {
			x.fail(err)
			return
		}
		if location == nil {
			return
		}
		visit = visit.redirected(location)
	}
	x.fail(fmt.Errorf("more than %d local redirects", maxLocalRedirects))
}

// cleanPath is p without . and .. and double slashes; a slash at its end stays.
func cleanPath(p string) string {
	clean := path.Clean("/" + p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// A devVisit is what a script is asked for: the client's request, or what a
// local redirect has made of it.
type devVisit struct {
	method, path, query string
	body                *watchedBody // nil without one, as after a redirect
	length              int64        // of body; -1 when it is not known
}

func (v devVisit) redirected(location *url.URL) devVisit {
	method := http.MethodGet
	if v.method == http.MethodHead {
		method = v.method
	}
	return devVisit{method: method, path: cleanPath(location.Path), query: location.RawQuery, length: -1}
}

// A devExchange is one HTTP request and its answer.
type devExchange struct {
	front   *devFront
	w       http.ResponseWriter
	control *http.ResponseController
	r       *http.Request
	body    *watchedBody
	sender  *fcgi.Client // the one that got body
	started bool         // the header has left
}

func newDevExchange(f *devFront, w http.ResponseWriter, r *http.Request) *devExchange {
	x := &devExchange{front: f, w: w, control: http.NewResponseController(w), r: r}
	if r.Body != nil && r.Body != http.NoBody {
		x.body = &watchedBody{r: r.Body}
	}
	return x
}

// release waits until nobody reads the body, which the server takes back.
func (x *devExchange) release() {
	if x.sender == nil {
		return
	}
	// A deadline on a body that has ended would break the next request instead.
	if !x.body.ended.Load() {
		_ = x.control.SetReadDeadline(time.Unix(1, 0))
	}
	x.sender.Wait()
}

// ask sends the visit to the application and its answer to the client. It
// returns where a local redirect leads; then nothing was sent.
func (x *devExchange) ask(visit devVisit) (location *url.URL, err error) {
	conn, err := x.front.dial(x.r.Context())
	if err != nil {
		return nil, fmt.Errorf("cannot reach the application: %w", err)
	}
	client := fcgi.NewClient(conn)
	defer client.Close()

	answer := &devAnswer{x: x}
	cutter := &headerCutter{header: answer.header, body: answer}
	stderr := &lineLogger{line: func(line string) {
		x.front.log.Info("script stderr", zap.String("path", visit.path), zap.String("line", line))
	}}
	req := &fcgi.Request{Params: x.params(visit), Stdout: cutter, Stderr: stderr}
	if visit.body != nil {
		req.Stdin, x.sender = visit.body, client
		// Else the first byte of the answer would make net/http take the rest of the body.
		_ = x.control.EnableFullDuplex()
	}
	result, err := client.Do(x.r.Context(), req)
	stderr.flush()
	if answer.err != nil {
		err = answer.err
	}
	if err == nil {
		if !cutter.past && result.ProtocolStatus != fcgi.StatusRequestComplete {
			return nil, fmt.Errorf("application refuses the request: %v", result.ProtocolStatus)
		}
		err = cutter.finish()
	}
	x.front.log.Debug("request", zap.String("method", visit.method), zap.String("path", visit.path),
		zap.Stringer("protocol_status", result.ProtocolStatus), zap.Uint32("app_status", result.AppStatus), zap.Error(err))
	return answer.location, err
}

// fail tells the client of err if it can still be told.
func (x *devExchange) fail(err error) {
	if x.r.Context().Err() == nil {
		x.front.log.Warn("request not answered", zap.String("uri", x.r.RequestURI), zap.Error(err))
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
func (x *devExchange) closeAfter() {
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

// A devAnswer turns a CGI response into the HTTP response.
type devAnswer struct {
	x        *devExchange
	location *url.URL
	err      error // of the header
}

// start sends a header: status and fields, and what a redirect has left.
func (x *devExchange) start(status int, fields http.Header) {
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

func (a *devAnswer) header(block []byte) error {
	status, fields, err := parseCGIHeader(block)
	if err != nil {
		a.err = fmt.Errorf("answer of the application: %w", err)
		return a.err
	}
	location := fields.Get("Location")
	if status == 0 && strings.HasPrefix(location, "/") && !strings.HasPrefix(location, "//") {
		return a.redirect(location, fields)
	}
	switch {
	case status == 0 && location != "":
		status = http.StatusFound
	case status == 0:
		status = http.StatusOK
	}
	a.x.start(status, fields)
	return a.flush()
}

// redirect keeps where to go and the cookies, which Apache keeps too.
func (a *devAnswer) redirect(location string, fields http.Header) (err error) {
	a.location, err = url.Parse(location)
	if err != nil {
		a.err = fmt.Errorf("answer of the application: local redirect: %w", err)
		return a.err
	}
	for _, v := range fields.Values("Set-Cookie") {
		a.x.w.Header().Add("Set-Cookie", v)
	}
	return nil
}

// Write sends a piece of the body at once.
func (a *devAnswer) Write(p []byte) (int, error) {
	if a.location != nil {
		return len(p), nil
	}
	n, err := a.x.w.Write(p)
	if errors.Is(err, http.ErrBodyNotAllowed) {
		return len(p), nil
	}
	if err != nil {
		return n, err
	}
	return n, a.flush()
}

func (a *devAnswer) flush() error {
	if err := a.x.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// A lineLogger gives away what is written by the line.
type lineLogger struct {
	line func(string)
	rest []byte
}

// maxLine is where a line without an end is cut.
const maxLine = 8 << 10

func (l *lineLogger) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, after, ok := strings.Cut(string(l.rest), "\n")
		if !ok && len(l.rest) < maxLine {
			return len(p), nil
		}
		l.line(strings.TrimSuffix(line, "\r"))
		l.rest = l.rest[len(l.rest)-len(after):]
	}
}

func (l *lineLogger) flush() {
	if len(l.rest) > 0 {
		l.line(string(l.rest))
		l.rest = nil
	}
}
