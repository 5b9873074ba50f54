package fcgi

import (
	"context"
	"io"
	"net/http"
	"net/http/cgi"
	"strings"
	"sync"

	rfc3875 "github.com/fcgid/fcgid/internal/cgi"
)

// HTTP makes a Go web application answer FastCGI requests behind a web server. Nil is
// http.DefaultServeMux.
//
// The http.Request is what net/http/cgi's RequestFromMap makes of the params: URL
// is REQUEST_URI as the client has sent it (SCRIPT_NAME and PATH_INFO when it is
// missing), with the scheme and Host; RemoteAddr is REMOTE_ADDR and REMOTE_PORT;
// TLS is set when HTTPS is "on". Of a repeated param the last one wins, but
// header fields are joined, and those that may be there once only are a 400 when
// their values differ. RequestURI is set as by net/http's own server. One
// that makes no http.Request is answered with 400: it needs REQUEST_METHOD,
// SERVER_PROTOCOL, and REQUEST_URI or SCRIPT_NAME at least. Further params, such as
// REMOTE_USER, are in [ParamsFromContext].
//
// Body streams Stdin. It fails with io.ErrUnexpectedEOF when it ends before
// CONTENT_LENGTH. ContentLength is -1 where the web server does not know it: some do
// not wait for all of a body that comes in chunks. The request's context ends as that of
// a [Handler].
//
// The http.ResponseWriter does what net/http's does, with these differences:
// there is no Date (web servers set one), no 1xx and no trailer, and no Hijacker.
// An answer is buffered; Flush, or http.ResponseController's, sends it. A handler
// may read its body after it has written, unless [Server.BufferRequests] is set: but
// nginx stops sending the body then.
// WriteHeader panics for a status that CGI has no room for, which is one over 599
// too. A body that is shorter than its Content-Length is an error of the request.
func HTTP(h http.Handler) Handler {
	if h == nil {
		h = http.DefaultServeMux
	}
	return HandlerFunc(func(ctx context.Context, req *Request) (uint32, error) {
		r, err := httpRequest(req)
		if err != nil {
			return 0, &StatusError{Status: http.StatusBadRequest, Err: err}
		}
		w := newHTTPResponse(req)
		h.ServeHTTP(w, r.WithContext(context.WithValue(ctx, paramsKey{}, req)))
		return 0, w.finish()
	})
}

type paramsKey struct{} // of the context's *Request

// ParamsFromContext returns all params of the FastCGI request that a handler of [HTTP]
// answers, given its http.Request's context: there is REMOTE_USER, say, or
// whatever fastcgi_param sets in nginx. They are not to be changed. With another
// context there are none.
func ParamsFromContext(ctx context.Context) Params {
	if req, ok := ctx.Value(paramsKey{}).(*Request); ok {
		return req.Params
	}
	return nil
}

// environments are maps for cgi.RequestFromMap, which does not keep them.
var environments = sync.Pool{New: func() any { return make(map[string]string, 48) }}

// maxEnvironment is how many params a map may have had that is used again.
const maxEnvironment = 256

func httpRequest(req *Request) (*http.Request, error) {
	env := environments.Get().(map[string]string)
	defer func() {
		if len(env) <= maxEnvironment {
			clear(env)
			environments.Put(env)
		}
	}()
	if err := merge(env, req.Params); err != nil {
		return nil, err
	}
	delete(env, "HTTP_") // the header field without a name
	for _, name := range [...]string{"CONTENT_TYPE", "CONTENT_LENGTH"} {
		if _, ok := env[name]; ok {
			delete(env, "HTTP_"+name) // the same once more, from nginx
		}
	}
	r, err := cgi.RequestFromMap(env)
	if err != nil {
		return nil, err
	}
	r.RequestURI = env["REQUEST_URI"]
	r.Body = http.NoBody
	if req.Role == RoleAuthorizer || req.Stdin == nil {
		r.ContentLength = 0
	}
	switch {
	case r.ContentLength > 0:
		r.Body = &httpBody{req.Stdin, r.ContentLength}
	case env["CONTENT_LENGTH"] != "0" && req.Role != RoleAuthorizer && req.Stdin != nil && req.Stdin != io.Reader(noInput):
		r.ContentLength, r.Body = -1, io.NopCloser(req.Stdin)
	}
	return r, nil
}

// merge takes each name of params once. Fields of the header are those too of which
// the web server has made no variable's name.
func merge(env map[string]string, params Params) error {
	m := rfc3875.NewMerger()
	defer m.Free()
	for _, p := range params {
		name := p.Name
		if strings.HasPrefix(name, "HTTP_") {
			name = strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		}
		m.Add(name, p.Value)
	}
	if err := m.Join(nil); err != nil {
		return err
	}
	for name, value := range m.All() {
		env[name] = value
	}
	return nil
}

// An httpBody is as much of Stdin as CONTENT_LENGTH says (RFC 3875, section 4.2).
type httpBody struct {
	src  io.Reader
	left int64
}

// Read returns io.ErrUnexpectedEOF when Stdin ends too early.
func (b *httpBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.src.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err == io.EOF && b.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close has nothing to do: the server drops what is not read.
func (b *httpBody) Close() error { return nil }
