package devserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/cgi"
)

// A front is what stands before fcgid where there is no web server.
type front struct {
	site    *site
	clients map[string]*fcgi.Client // by pool
	endings endings
	term    *console
	hears   bool // endings are told of
}

// newFront returns an HTTP handler that sends files of a site as they are, and asks the
// pools behind dial for the others, as nginx would, on a new connection for each
// request. Each request is a line on term.
func newFront(site *site, dial func(ctx context.Context, pool string) (net.Conn, error), term *console) *front {
	f := &front{site: site, term: term, clients: make(map[string]*fcgi.Client)}
	for _, pool := range []string{programPool, scriptPool, workerPool, functionPool} {
		f.clients[pool] = &fcgi.Client{Dial: func(ctx context.Context) (net.Conn, error) { return dial(ctx, pool) }}
	}
	return f
}

// ServeHTTP answers one request. It breaks the client's connection when the
// application fails inside its answer.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	counted := &countingWriter{ResponseWriter: w}
	x := &exchange{front: f, w: counted, control: http.NewResponseController(w), r: r, begun: time.Now()}
	defer x.report()
	if strings.ContainsRune(r.URL.Path, 0) {
		x.refuse(http.StatusBadRequest, "there is a NUL in the path")
		return
	}
	if r.Body != nil && r.Body != http.NoBody {
		x.body = &watchedBody{r: r.Body}
	}
	x.target = f.site.find(cgi.CleanPath(r.URL.Path))
	switch t := &x.target; {
	case t.pool != "":
		defer x.release()
		if err := x.ask(); err != nil {
			x.fail(err)
		}
	case t.to != "":
		x.closeAfter()
		to := url.URL{Path: t.to, RawQuery: r.URL.RawQuery}
		http.Redirect(counted, r, to.String(), http.StatusMovedPermanently)
	case t.file != "":
		x.serveFile()
	case t.folder != "" || t.status == 0:
		x.serveFolder()
	default:
		x.refuse(t.status, t.reason)
	}
}

// An exchange is one HTTP request and its answer.
type exchange struct {
	front   *front
	w       *countingWriter
	control *http.ResponseController
	r       *http.Request
	begun   time.Time
	target  target
	body    *watchedBody // nil without one
	started bool         // the header has left
	stderr  heard
	end     ending
}

// transport asks for the target of the request, of whom the daemon tells by id.
func (x *exchange) transport(id string) *fcgi.Transport {
	t := &x.target
	return &fcgi.Transport{
		Client: x.front.clients[t.pool], Root: x.front.site.dir, Log: slog.New(&x.stderr),
		Params: func(_ *http.Request, p *fcgi.Params) {
			p.Set("SERVER_SOFTWARE", "fcgid dev")
			p.Set("SCRIPT_FILENAME", t.name)
			p.Set("SCRIPT_NAME", t.script)
			*p = slices.DeleteFunc(*p, func(v fcgi.Param) bool { return v.Name == "PATH_INFO" })
			if t.info != "" {
				p.Set("PATH_INFO", t.info)
			}
			p.Set("DOCUMENT_URI", t.script+t.info)
			p.Set(idParam, id)
		},
	}
}

// ask sends the request to the application and its answer to the client, as it comes.
func (x *exchange) ask() error {
	id, end := x.front.endings.begin()
	defer x.front.endings.forget(id)
	out := x.r.Clone(x.r.Context())
	if x.body != nil {
		out.Body = x.body
		// Else the first byte of the answer would make net/http take the rest of the body.
		_ = x.control.EnableFullDuplex()
	}
	resp, err := x.transport(id).RoundTrip(out)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body := io.Reader(resp.Body)
	if resp.StatusCode >= 400 {
		start, err := io.ReadAll(io.LimitReader(resp.Body, maxOwnAnswer))
		if err == nil && len(start) < maxOwnAnswer && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			x.awaitEnd(end)
		}
		isMute := len(start) == 0 && x.r.Method != http.MethodHead && // PHP without display_errors
			(resp.StatusCode == http.StatusInternalServerError || len(x.stderr.text()) > 0)
		if x.end.Reason != "" || err == nil && isMute {
			x.awaitEnd(end)
			x.closeAfter()
			x.started = true
			x.front.newProblem(resp.StatusCode, x.r, &x.target, x.end, x.stderr.text()).write(x.w, x.r)
			return nil
		}
		body = io.MultiReader(bytes.NewReader(start), resp.Body)
	}
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
	if _, err = io.Copy(flushingWriter{x}, body); x.r.Context().Err() == nil {
		x.awaitEnd(end) // also of a whole answer: its program may have failed behind it
	}
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
	if x.end.Reason == "" {
		x.end.Reason = err.Error()
	}
	if x.started {
		x.report()
		panic(http.ErrAbortHandler)
	}
	clear(x.w.Header())
	x.closeAfter()
	x.front.newProblem(http.StatusBadGateway, x.r, &x.target, x.end, x.stderr.text()).write(x.w, x.r)
}

// refuse answers for what is not asked of a pool, with the reason if there is more to say
// than the status.
func (x *exchange) refuse(code int, reason string) {
	x.closeAfter()
	x.target.reason, x.end.Reason = reason, reason
	x.front.newProblem(code, x.r, &x.target, x.end, nil).write(x.w, x.r)
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
