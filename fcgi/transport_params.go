package fcgi

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/version"
)

// params are the variables of nginx's fastcgi_params, and the header fields.
func (t *Transport) params(r *http.Request) (Params, error) {
	if strings.ContainsRune(r.URL.Path, 0) {
		return nil, fmt.Errorf("path %q of the request contains NUL", r.URL.Path)
	}
	name := cgi.CleanPath(r.URL.Path)
	script, info := t.split(name)
	var p Params
	if t.Root != "" {
		p.Add("SCRIPT_FILENAME", strings.TrimSuffix(t.Root, "/")+script)
		p.Add("DOCUMENT_ROOT", t.Root)
	}
	p.Add("SCRIPT_NAME", script)
	if info != "" {
		p.Add("PATH_INFO", info)
	}
	p.Add("QUERY_STRING", r.URL.RawQuery)
	p.Add("REQUEST_METHOD", methodOf(r))
	hasBody := r.Body != nil && r.Body != http.NoBody
	if contentType := r.Header.Get("Content-Type"); contentType != "" {
		p.Add("CONTENT_TYPE", contentType)
	}
	switch {
	case hasBody && r.ContentLength > 0, !hasBody && r.Header.Get("Content-Length") != "", !hasBody && mayHaveBody(r):
		p.Add("CONTENT_LENGTH", strconv.FormatInt(max(0, r.ContentLength), 10))
	}
	uri := r.RequestURI
	if uri == "" {
		uri = r.URL.RequestURI()
	}
	p.Add("REQUEST_URI", uri)
	p.Add("DOCUMENT_URI", script+info)
	p.Add("SERVER_PROTOCOL", protocolOf(r))
	p.Add("GATEWAY_INTERFACE", "CGI/1.1")
	p.Add("SERVER_SOFTWARE", version.Software())
	p.Add("REDIRECT_STATUS", "200") // without it a PHP with force-cgi-redirect refuses
	p = appendAddresses(p, r)
	p = appendFields(p, r)
	if t.Params != nil {
		t.Params(r, &p)
	}
	return p, nil
}

func methodOf(r *http.Request) string {
	if r.Method == "" {
		return http.MethodGet
	}
	return r.Method
}

// mayHaveBody reports whether an application expects to be told that there is none.
func mayHaveBody(r *http.Request) bool {
	return r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
}

func protocolOf(r *http.Request) string {
	if r.Proto == "" {
		return "HTTP/1.1"
	}
	return r.Proto
}

// split divides a clean path.
func (t *Transport) split(name string) (script, info string) {
	if t.Script != "" {
		return "/" + strings.TrimPrefix(t.Script, "/"), name
	}
	for end := 1; end <= len(name); end++ {
		if end < len(name) && name[end] != '/' {
			continue
		}
		if slices.ContainsFunc(t.Extensions, func(e string) bool { return strings.HasSuffix(name[:end], e) }) {
			return name[:end], name[end:]
		}
	}
	if strings.HasSuffix(name, "/") {
		return name + t.Index, ""
	}
	return name, ""
}

// appendAddresses says who talks to whom.
func appendAddresses(p Params, r *http.Request) Params {
	if host, port, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		p.Add("REMOTE_ADDR", host)
		p.Add("REMOTE_PORT", port)
	}
	scheme, defaultPort := "http", "80"
	if r.TLS != nil || r.RequestURI == "" && r.URL.Scheme == "https" {
		scheme, defaultPort = "https", "443"
		p.Add("HTTPS", "on")
	}
	p.Add("REQUEST_SCHEME", scheme)
	name, port, err := net.SplitHostPort(hostOf(r))
	if err != nil {
		name, port = strings.Trim(hostOf(r), "[]"), defaultPort
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		if host, localPort, err := net.SplitHostPort(local.String()); err == nil {
			p.Add("SERVER_ADDR", host)
			port = localPort
			if name == "" {
				name = host
			}
		}
	}
	p.Add("SERVER_NAME", name)
	p.Add("SERVER_PORT", port)
	return p
}

func hostOf(r *http.Request) string {
	if r.Host != "" {
		return r.Host
	}
	return r.URL.Host
}

// appendFields appends the client's header fields as HTTP_ variables. The names that
// nginx does not take are left out, among them those with an underscore, which look the
// same as others then, and so is Proxy (CVE-2016-5385).
func appendFields(p Params, r *http.Request) Params {
	p.Add("HTTP_HOST", hostOf(r))
	names := make([]string, 0, len(r.Header))
	for name, values := range r.Header {
		switch name {
		case "Proxy", "Content-Type", "Content-Length", "Host":
			continue
		case "User-Agent":
			if len(values) == 1 && values[0] == "" { // httputil.ReverseProxy's word for none
				continue
			}
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
