package cli

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/address"
	"github.com/fcgid/fcgid/internal/cgi"
)

// parseDialAddress takes fcgid's form of an address apart for net.Dial.
func parseDialAddress(addr string) (network, name string, err error) {
	network, name, err = address.ParseDial(addr)
	if err != nil {
		return "", "", usageErrorf("address %v", err)
	}
	return network, name, nil
}

// request checks the flags and makes the request of them; closeFiles is to be
// called after it.
func (o *requestOptions) request(cmd *cobra.Command) (req *fcgi.Request, closeFiles func(), err error) {
	if err := o.check(cmd.Flags()); err != nil {
		return nil, nil, err
	}
	role, err := parseRole(o.role)
	if err != nil {
		return nil, nil, err
	}
	body := requestBody{Closer: io.NopCloser(nil), size: -1}
	if cmd.Flags().Changed("data") {
		if body, err = openData(o.data, cmd.InOrStdin()); err != nil {
			return nil, nil, err
		}
	}
	req = &fcgi.Request{Role: role, Params: o.standardParams(body), Stdin: body.Reader}
	closeFiles = func() { body.Close() }
	if role == fcgi.RoleFilter && o.script != "" {
		data, err := addFilterData(req, o.script)
		if err != nil {
			body.Close()
			return nil, nil, err
		}
		closeFiles = func() { body.Close(); data.Close() }
	}
	for _, p := range o.params {
		name, value, _ := strings.Cut(p, "=")
		req.Params.Set(name, value)
	}
	return req, closeFiles, nil
}

func (o *requestOptions) check(flags *pflag.FlagSet) error {
	switch {
	case o.timeout < 0:
		return usageErrorf("--timeout %v is negative", o.timeout)
	case o.repeat < 1:
		return usageErrorf("--repeat %d is less than 1", o.repeat)
	case flags.Changed("repeat") && o.include:
		return usageErrorf("--repeat prints no answer: --include means nothing with it")
	case flags.Changed("repeat") && o.data == "@-":
		return usageErrorf("--repeat sends the body again: --data @- can be read once only")
	case o.values:
		return o.checkValues(flags)
	case strings.Contains(o.script, "/") && !filepath.IsAbs(o.script):
		return usageErrorf("--script %q is neither an absolute path nor the name of a function", o.script)
	case flags.Changed("method") && !cgi.IsToken(o.method):
		return usageErrorf("--method %q is no method", o.method)
	}
	for _, p := range o.params {
		if strings.Index(p, "=") < 1 {
			return usageErrorf("--param %q is not NAME=VALUE", p)
		}
	}
	return nil
}

func (o *requestOptions) checkValues(flags *pflag.FlagSet) error {
	for _, name := range []string{"script", "method", "query", "param", "data", "role", "include", "fail", "repeat"} {
		if flags.Changed(name) {
			return usageErrorf("--values sends no request: --%s means nothing with it", name)
		}
	}
	return nil
}

func parseRole(s string) (fcgi.Role, error) {
	for _, r := range []fcgi.Role{fcgi.RoleResponder, fcgi.RoleAuthorizer, fcgi.RoleFilter} {
		if strings.EqualFold(s, r.String()) {
			return r, nil
		}
	}
	return 0, usageErrorf("--role %q is none of responder, authorizer, filter", s)
}

// A requestBody is what -d gives. Its size is -1 when it is not known, its
// Reader nil when there is none.
type requestBody struct {
	io.Reader
	io.Closer
	size int64
}

func openData(spec string, stdin io.Reader) (requestBody, error) {
	name, isFile := strings.CutPrefix(spec, "@")
	switch {
	case !isFile:
		return requestBody{strings.NewReader(spec), io.NopCloser(nil), int64(len(spec))}, nil
	case name == "":
		return requestBody{}, usageErrorf("--data @ names no file")
	case name == "-":
		return requestBody{stdin, io.NopCloser(nil), sizeOf(stdin)}, nil
	}
	f, err := openFile(name)
	if err != nil {
		return requestBody{}, usageErrorf("--data: %v", err)
	}
	return requestBody{f, f, sizeOf(f)}, nil
}

// sizeOf is how much a regular file has left to read, -1 for anything else.
func sizeOf(r io.Reader) int64 {
	f, ok := r.(*os.File)
	if !ok {
		return -1
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return -1
	}
	offset, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return -1
	}
	return max(0, info.Size()-offset)
}

// openFile is os.Open that takes no folder.
func openFile(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// addFilterData makes the script the second input of a Filter, with the
// variables that the specification wants for it.
func addFilterData(req *fcgi.Request, script string) (io.Closer, error) {
	f, err := openFile(script)
	if err != nil {
		return nil, usageErrorf("--role filter sends the script as DATA: %v", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, exitError{exitFailure, err.Error()}
	}
	req.Data = io.LimitReader(f, info.Size())
	req.Params.Add("FCGI_DATA_LAST_MOD", strconv.FormatInt(info.ModTime().Unix(), 10))
	req.Params.Add("FCGI_DATA_LENGTH", strconv.FormatInt(info.Size(), 10))
	return f, nil
}

// standardParams are the variables that nginx's fastcgi_params would set for
// the script at the top of its own folder.
func (o *requestOptions) standardParams(body requestBody) fcgi.Params {
	method := o.method
	if method == "" {
		method = "GET"
		if body.Reader != nil {
			method = "POST"
		}
	}
	name, root := "/", "/"
	var p fcgi.Params
	if o.script != "" {
		name, root = "/"+filepath.Base(o.script), filepath.Dir(filepath.Join("/", o.script))
		p.Add("SCRIPT_FILENAME", o.script)
	}
	p.Add("QUERY_STRING", o.query)
	p.Add("REQUEST_METHOD", method)
	if body.Reader != nil {
		p.Add("CONTENT_TYPE", "application/x-www-form-urlencoded")
	}
	if body.size >= 0 {
		p.Add("CONTENT_LENGTH", strconv.FormatInt(body.size, 10))
	}
	uri := url.URL{Path: name, RawQuery: o.query}
	return append(p, fcgi.Params{
		{Name: "SCRIPT_NAME", Value: name},
		{Name: "REQUEST_URI", Value: uri.RequestURI()},
		{Name: "DOCUMENT_URI", Value: name},
		{Name: "DOCUMENT_ROOT", Value: root},
		{Name: "SERVER_PROTOCOL", Value: "HTTP/1.1"},
		{Name: "REQUEST_SCHEME", Value: "http"},
		{Name: "GATEWAY_INTERFACE", Value: "CGI/1.1"},
		{Name: "SERVER_SOFTWARE", Value: "fcgid request"},
		{Name: "REMOTE_ADDR", Value: "127.0.0.1"},
		{Name: "SERVER_ADDR", Value: "127.0.0.1"},
		{Name: "SERVER_PORT", Value: "80"},
		{Name: "SERVER_NAME", Value: "localhost"},
		{Name: "HTTP_HOST", Value: "localhost"},
		{Name: "REDIRECT_STATUS", Value: "200"},
	}...)
}
