package devserver

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/cgi"
)

// params are the variables of nginx's fastcgi_params for a visit, and the
// client's header fields.
func (x *exchange) params(v visit) fcgi.Params {
	root := strings.TrimSuffix(x.front.root, "/")
	var p fcgi.Params
	p.Add("SCRIPT_FILENAME", root+v.path)
	p.Add("QUERY_STRING", v.query)
	p.Add("REQUEST_METHOD", v.method)
	if contentType := x.r.Header.Get("Content-Type"); contentType != "" && v.body != nil {
		p.Add("CONTENT_TYPE", contentType)
	}
	if v.length >= 0 {
		p.Add("CONTENT_LENGTH", strconv.FormatInt(v.length, 10))
	}
	p.Add("SCRIPT_NAME", v.path)
	p.Add("REQUEST_URI", x.r.RequestURI)
	p.Add("DOCUMENT_URI", v.path)
	p.Add("DOCUMENT_ROOT", x.front.root)
	p.Add("SERVER_PROTOCOL", x.r.Proto)
	p.Add("REQUEST_SCHEME", "http")
	p.Add("GATEWAY_INTERFACE", "CGI/1.1")
	p.Add("SERVER_SOFTWARE", "fcgid dev")
	p = append(p, addressParams(x.r)...)
	p.Add("REDIRECT_STATUS", "200")
	return append(p, headerParams(x.r)...)
}

// addressParams say who talks to whom.
func addressParams(r *http.Request) fcgi.Params {
	var p fcgi.Params
	if host, port, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		p.Add("REMOTE_ADDR", host)
		p.Add("REMOTE_PORT", port)
	}
	name := r.Host
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		name = host
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if host, port, err := net.SplitHostPort(local.String()); err == nil {
			p.Add("SERVER_ADDR", host)
			p.Add("SERVER_PORT", port)
			if name == "" {
				name = host
			}
		}
	}
	p.Add("SERVER_NAME", name)
	return p
}

// headerParams are the client's header fields as HTTP_ variables. The names
// that nginx does not take are left out, among them those with an underscore,
// which look the same as others then, and so is Proxy (CVE-2016-5385).
func headerParams(r *http.Request) fcgi.Params {
	p := fcgi.Params{{Name: "HTTP_HOST", Value: r.Host}}
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		switch name {
		case "Proxy", "Content-Type", "Content-Length", "Host":
			continue
		}
		if strings.Trim(name, headerNameChars) == "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		variable := "HTTP_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		p.Add(variable, strings.Join(r.Header[name], cgi.Separator(variable)))
	}
	return p
}

const headerNameChars = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
