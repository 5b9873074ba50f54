package devserver

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fcgid/fcgid/fcgi"
)

// A front is what stands before fcgid where there is no web server.
type front struct {
	transport *fcgi.Transport
	root      string
	log       *slog.Logger
}

// newFront returns an HTTP handler that asks a FastCGI application as nginx
// would, on a new connection for each request: a path is a script below
// docRoot. A folder is shown as the list of its programs. The log may be nil.
func newFront(dial func(context.Context) (net.Conn, error), docRoot string, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	root := path.Clean(docRoot)
	return &front{root: root, log: log, transport: &fcgi.Transport{
		Client: &fcgi.Client{Dial: dial}, Root: root, Log: log,
		Params: func(_ *http.Request, p *fcgi.Params) { p.Set("SERVER_SOFTWARE", "fcgid dev") },
	}}
}

// ServeHTTP answers one request. It breaks the client's connection when the
// application fails inside its answer.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.ContainsRune(r.URL.Path, 0) {
		http.Error(w, "400 Bad Request: NUL in the path", http.StatusBadRequest)
		return
	}
	x := &exchange{front: f, w: w, control: http.NewResponseController(w), r: r}
	if r.Body != nil && r.Body != http.NoBody {
		x.body = &watchedBody{r: r.Body}
	}
	if x.serveFolder() {
		return
	}
	defer x.release()
	if err := x.ask(); err != nil {
		x.fail(err)
	}
}

// An exchange is one HTTP request and its answer.
type exchange struct {
	front   *front
	w       http.ResponseWriter
	control *http.ResponseController
	r       *http.Request
	body    *watchedBody // nil without one
	started bool         // the header has left
}

// ask sends the request to the application and its answer to the client, as it comes.
func (x *exchange) ask() error {
	out := x.r.Clone(x.r.Context())
	if x.body != nil {
		out.Body = x.body
		// Else the first byte of the answer would make net/http take the rest of the body.
		_ = x.control.EnableFullDuplex()
	}
	resp, err := x.front.transport.RoundTrip(out)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for _, name := range hopByHop {
		resp.Header.Del(name)
	}
	for name, values := range resp.Header {
		x.w.Header()[name] = values
	}
	x.closeAfter()
	x.started = true
	x.w.WriteHeader(resp.StatusCode)
	if err := x.flush(); err != nil {
		return err
	}
	_, err = io.Copy(flushingWriter{x}, resp.Body)
	return err
}

// hopByHop are fields between a server and its client that no script may set.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Trailer", "Transfer-Encoding", "Upgrade"}

func (x *exchange) flush() error {
	if err := x.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// A flushingWriter sends each piece of the body at once.
type flushingWriter struct{ x *exchange }

// Write writes and flushes.
func (w flushingWriter) Write(p []byte) (int, error) {
	n, err := w.x.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, w.x.flush()
}

// release waits until nobody reads the body, which the server takes back.
func (x *exchange) release() {
	if x.body == nil {
		return
	}
	// A deadline on a body that has ended would break the next request instead.
	if !x.body.ended.Load() {
		_ = x.control.SetReadDeadline(time.Unix(1, 0))
	}
	x.body.mu.Lock() // a Read has returned
	x.body.over = true
	x.body.mu.Unlock()
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

// A watchedBody is a request's body that knows whether it was read to its end, and when
// nobody reads it any more.
type watchedBody struct {
	r     io.Reader
	ended atomic.Bool
	mu    sync.Mutex // guards the field below; held by Read
	over  bool
}

// Read notes the end.
func (b *watchedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.r.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

// Close is called by who reads it no more. The server closes the body itself.
func (b *watchedBody) Close() error {
	return nil
}
