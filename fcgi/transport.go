package fcgi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"

	"github.com/fcgid/fcgid/internal/cgi"
)

// A Transport is an http.RoundTripper that asks a FastCGI application, as a web server
// does. With it an httputil.ReverseProxy is a web server before php-fpm, and an
// http.Client can ask an application that has none.
//
// The scheme and host of a request's URL say nothing of where the application is: the
// Client does. The params are those of nginx's fastcgi_params, and the header fields
// but for Proxy and those whose names have other characters than letters, digits and
// "-". Behind a net/http server, addresses and TLS are those of its client.
//
// Fields are not to be changed once RoundTrip was called.
type Transport struct {
	// Client asks the application.
	Client *Client

	// Root is the folder of the scripts, as the application sees it: SCRIPT_FILENAME is
	// Root and SCRIPT_NAME. With "" there is no SCRIPT_FILENAME, for applications that
	// look at REQUEST_URI alone.
	Root string
	// Extensions divide a path into SCRIPT_NAME, which ends with the first element that
	// has one, such as ".php", and PATH_INFO. Empty: all of it is SCRIPT_NAME, and the
	// application divides it, as fcgid does.
	Extensions []string
	// Index is the script of a path that ends with a slash, such as "index.php".
	Index string
	// Script is the SCRIPT_NAME of all requests, such as "/index.php" of an application
	// with one front controller; then Extensions and Index mean nothing, and PATH_INFO is
	// the request's path.
	Script string
	// Params, if not nil, may change the params of a request before it is sent.
	Params func(r *http.Request, p *Params)

	// Log takes what the application writes to STDERR, an entry for each, at warn. Nil is
	// slog.Default.
	Log *slog.Logger
}

// CloseIdleConnections closes those of the Client.
func (t *Transport) CloseIdleConnections() {
	if t.Client != nil {
		t.Client.CloseIdleConnections()
	}
}

// errBodyClosed is what becomes of a request whose answer nobody reads to its end.
var errBodyClosed = errors.New("body of the response was closed")

// RoundTrip sends r, and returns when the header of its answer has come: see
// [ReadResponse]. Its body comes as it is read. It fails with an [ErrNoEnd] when the
// application is lost, and with context.Cause when r's context ends; to close it before
// its end aborts the request. The body of r may be read for as long as the answer's is,
// and is closed after that.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	params, err := t.params(r)
	if err == nil && t.Client == nil {
		err = errors.New("fcgi.Transport: Client is not set: it says where the application listens")
	}
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	out, in := io.Pipe()
	ended := make(chan struct{}) // when nothing more is written to in
	go func() {
		t.ask(ctx, r, params, in)
		close(ended)
		cancel(nil)
		if r.Body != nil {
			r.Body.Close()
		}
	}()
	resp, err := ReadResponse(out, r)
	if err != nil {
		cancel(err)
		out.Close()
		<-ended
		return nil, err
	}
	resp.Body = &roundTripBody{resp.Body, out, cancel}
	return resp, nil
}

// ask has the Client do the request, and ends the answer.
func (t *Transport) ask(ctx context.Context, r *http.Request, params Params, answer *io.PipeWriter) {
	stderr := &entryLogger{log: cmp.Or(t.Log, slog.Default()), script: params.Get("SCRIPT_FILENAME"), uri: params.Get("REQUEST_URI")}
	var answered atomic.Bool
	req := &Request{Params: params, Stdout: &notingWriter{answer, &answered}, Stderr: stderr, Close: r.Close}
	if r.Body != nil && r.Body != http.NoBody {
		req.Stdin = r.Body
	}
	result, err := t.Client.Do(ctx, req)
	stderr.flush()
	if err == nil && result.ProtocolStatus != StatusRequestComplete && !answered.Load() {
		err = fmt.Errorf("application refuses the request: %v", result.ProtocolStatus)
	}
	answer.CloseWithError(err)
}

// A roundTripBody is the answer's, and can be given up.
type roundTripBody struct {
	io.Reader
	pipe   *io.PipeReader
	cancel context.CancelCauseFunc
}

// Close aborts the request if it has not ended.
func (b *roundTripBody) Close() error {
	b.cancel(errBodyClosed)
	return b.pipe.CloseWithError(errBodyClosed)
}

// An entryLogger logs what an application writes to STDERR.
type entryLogger struct {
	log         *slog.Logger
	script, uri string
	cut         cgi.Entries
}

// Write logs the entries that are complete.
func (l *entryLogger) Write(p []byte) (int, error) {
	l.cut.Add(p, l.tell)
	return len(p), nil
}

func (l *entryLogger) flush() { l.cut.Flush(l.tell) }

func (l *entryLogger) tell(entry string) {
	l.log.Warn("application stderr", "script", l.script, "uri", l.uri, "line", entry)
}
