package fcgi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/fcgid/fcgid/internal/cgi"
)

// ReadResponse reads the header of a CGI response, as a [Conn] or a CGI program writes it
// to Stdout, and returns it as the http.Response to req, whose Body reads on. Without a
// req it is one to a GET.
//
// A header may end its lines with "\n". Status is 200 where there is none, and 302 with a
// Location; a status line ("HTTP/1.1 404 Not Found") will do for it. A line whose name is
// not one of a field is left out. Body ends where Content-Length says, and reads what is
// behind it before it does; it fails with io.ErrUnexpectedEOF when r ends before that. Of
// an answer to HEAD, and with status 204 and 304, it is empty.
func ReadResponse(r io.Reader, req *http.Request) (*http.Response, error) {
	header, rest, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	resp := &http.Response{
		Status: fmt.Sprintf("%03d %s", header.Status, http.StatusText(header.Status)), StatusCode: header.Status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header), ContentLength: -1, Request: req,
	}
	for name, value := range header.Fields() {
		resp.Header.Add(name, value)
	}
	if words := resp.Header.Get("Status"); len(words) > len("200 ") {
		resp.Status = words
	}
	resp.Header.Del("Status")
	if n, err := strconv.ParseUint(resp.Header.Get("Content-Length"), 10, 63); err == nil {
		resp.ContentLength = int64(n)
	}
	closer, _ := r.(io.Closer)
	body := &responseBody{closer: closer, r: io.MultiReader(bytes.NewReader(rest), r), left: resp.ContentLength}
	if req != nil && req.Method == http.MethodHead || header.Status == http.StatusNoContent || header.Status == http.StatusNotModified {
		body.left = 0
	}
	resp.Body = body
	return resp, nil
}

// readHeader also returns what was read behind the header. An error of r is returned as
// it is.
func readHeader(r io.Reader) (header cgi.Header, rest []byte, err error) {
	wrong := func(err error) (cgi.Header, []byte, error) {
		return cgi.Header{}, nil, fmt.Errorf("answer of the application: %w", err)
	}
	buf := make([]byte, 0, 4<<10)
	for searched, end := 0, 0; ; {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		end, searched = cgi.HeaderEnd(buf, searched)
		switch {
		case end > cgi.MaxHeader, end == 0 && len(buf) > cgi.MaxHeader:
			return wrong(cgi.HeaderError(cgi.ErrHeaderTooLarge, buf))
		case end > 0:
			if header, err = cgi.ParseHeader(buf[:end]); err != nil {
				return wrong(err)
			}
			return header, buf[end:], nil
		case err == io.EOF:
			return wrong(cgi.HeaderError(cgi.Unfinished(buf), buf))
		case err != nil:
			return cgi.Header{}, nil, err
		case len(buf) == cap(buf):
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
	}
}

// A responseBody is as much of a reader as a Content-Length says.
type responseBody struct {
	r      io.Reader
	closer io.Closer // nil if there is nothing to close
	left   int64     // -1: until the end
}

// Read returns io.ErrUnexpectedEOF when the reader ends too early.
func (b *responseBody) Read(p []byte) (n int, err error) {
	if b.left == 0 {
		if _, err := io.Copy(io.Discard, b.r); err != nil {
			return 0, err
		}
		return 0, io.EOF
	}
	if b.left > 0 {
		p = p[:min(int64(len(p)), b.left)]
	}
	n, err = b.r.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
		if errors.Is(err, io.EOF) && b.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return n, err
}

// Close closes the reader if it is an io.Closer.
func (b *responseBody) Close() error {
	if b.closer != nil {
		return b.closer.Close()
	}
	return nil
}
