package fcgi

import (
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// An httpResponse is an http.ResponseWriter that writes a CGI response (RFC 3875,
// section 6). Its header is rendered when the handler calls WriteHeader, and sent
// when the first byte of the body has told what it is, or there will be none.
type httpResponse struct {
	req    *Request
	out    io.Writer
	header http.Header
	isHead bool

	status   int // 0 before WriteHeader
	sniff    bool
	length   int64 // of the body, as Content-Length says; -1 when it does not
	written  int64 // that the handler has tried to
	accepted int64 // of it, without an error
	headSent bool
	head     []byte // of head0, if it is short
	head0    [256]byte
}

func newHTTPResponse(req *Request) *httpResponse {
	w := &httpResponse{
		req: req, out: req.Stdout, header: make(http.Header), length: -1,
		isHead: req.Params.Get("REQUEST_METHOD") == http.MethodHead,
	}
	if w.out == nil {
		w.out = io.Discard
	}
	w.head = w.head0[:0]
	return w
}

// Header is the header that WriteHeader will send.
func (w *httpResponse) Header() http.Header { return w.header }

// WriteHeader fixes the status and the header. There are no informational
// responses in CGI, so those are left out, and no status over 599.
func (w *httpResponse) WriteHeader(status int) {
	switch {
	case status < 100 || status > 599:
		panic(fmt.Sprintf("invalid WriteHeader code %v", status)) // as net/http does
	case w.status != 0:
		w.complainf("superfluous WriteHeader(%d)", status)
		return
	case status < 200:
		return
	}
	w.status = status
	w.head = append(w.head, "Status: "...)
	w.head = strconv.AppendInt(w.head, int64(status), 10)
	w.head = append(w.head, ' ')
	w.head = append(w.head, http.StatusText(status)...)
	w.head = append(w.head, "\r\n"...)
	_, hasType := w.header["Content-Type"]
	w.sniff = !hasType && w.header.Get("Content-Encoding") == "" && w.hasBody()
	w.takeLength()
	w.renderHeader()
}

// complainf tells the web server's log about a mistake, and where it was made.
func (w *httpResponse) complainf(format string, args ...any) {
	if w.req.Stderr == nil {
		return
	}
	where := ""
	if _, file, line, ok := runtime.Caller(2); ok {
		where = fmt.Sprintf(" at %s:%d", file, line)
	}
	fmt.Fprintf(w.req.Stderr, "http: "+format+where+"\n", args...)
}

// hasBody reports whether the status is one of an answer with a body.
func (w *httpResponse) hasBody() bool {
	return w.status != http.StatusNoContent && w.status != http.StatusNotModified
}

// takeLength holds the body to its Content-Length, if that is one.
func (w *httpResponse) takeLength() {
	text := w.header.Get("Content-Length")
	if text == "" {
		return
	}
	if n, err := strconv.ParseUint(text, 10, 63); err == nil {
		w.length = int64(n)
	}
}

// renderHeader writes the fields in their order, so that equal answers are equal.
func (w *httpResponse) renderHeader() {
	var few [16]string
	names := few[:0]
	for name := range w.header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if w.leavesOut(name) {
			continue
		}
		values := w.header[name]
		if name == "Content-Length" {
			values = values[:1] // takeLength has read no other
		}
		for _, value := range values {
			w.head = append(w.head, name...)
			w.head = append(w.head, ": "...)
			start := len(w.head)
			w.head = append(w.head, strings.Trim(value, " \t\r\n")...)
			cleanValue(w.head[start:])
			w.head = append(w.head, "\r\n"...)
		}
	}
}

// leavesOut reports whether a field is not one of a CGI response, or not of this one.
func (w *httpResponse) leavesOut(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Status", "Transfer-Encoding":
		return true
	case "Content-Length":
		return w.length < 0 || !w.hasBody() || name != "Content-Length"
	case "Content-Type":
		return w.status == http.StatusNotModified
	}
	return !isFieldName(name)
}

// isFieldName reports whether name is a token (RFC 9110, section 5.6.2).
func isFieldName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return name != ""
}

// cleanValue makes control characters spaces, so that no value can begin a line.
func cleanValue(value []byte) {
	for i, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			value[i] = ' '
		}
	}
}

// Write writes a part of the body, as net/http's does.
func (w *httpResponse) Write(p []byte) (int, error) {
	if send, err := w.begin(len(p), p, ""); err != nil || !send {
		return acceptedOr(len(p), err), err
	}
	return w.out.Write(p)
}

// WriteString is Write.
func (w *httpResponse) WriteString(s string) (int, error) {
	if send, err := w.begin(len(s), nil, s); err != nil || !send {
		return acceptedOr(len(s), err), err
	}
	return io.WriteString(w.out, s)
}

func acceptedOr(n int, err error) int {
	if err != nil {
		return 0
	}
	return n
}

// begin is for a part of the body of n bytes: either p or s. It reports whether
// the part is to be sent.
func (w *httpResponse) begin(n int, p []byte, s string) (send bool, err error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	switch w.written += int64(n); {
	case n == 0:
		return false, nil
	case !w.hasBody():
		return false, http.ErrBodyNotAllowed
	case w.length >= 0 && w.written > w.length:
		return false, http.ErrContentLength
	}
	if !w.headSent {
		if w.sniff && p == nil {
			p = []byte(s[:min(len(s), 512)])
		}
		if err := w.sendHead(p); err != nil {
			return false, err
		}
	}
	w.accepted += int64(n)
	return !w.isHead, nil
}

// sendHead sends the header of a body that begins with p.
func (w *httpResponse) sendHead(p []byte) error {
	w.headSent = true
	if w.sniff && len(p) > 0 {
		w.head = append(w.head, "Content-Type: "...)
		w.head = append(w.head, http.DetectContentType(p)...)
		w.head = append(w.head, "\r\n"...)
	}
	w.head = append(w.head, "\r\n"...)
	_, err := w.out.Write(w.head)
	return err
}

// finish sends the header if nothing else did. The error tells of a body that is
// shorter than its header says.
func (w *httpResponse) finish() error {
	if err := w.flushHead(); err != nil {
		return err
	}
	if w.accepted < w.length && !w.isHead && w.hasBody() {
		return fmt.Errorf("http: handler wrote %d bytes, Content-Length is %d", w.accepted, w.length)
	}
	return nil
}

func (w *httpResponse) flushHead() error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if w.headSent {
		return nil
	}
	return w.sendHead(nil)
}

// FlushError sends what has been written so far, header included.
func (w *httpResponse) FlushError() error {
	if err := w.flushHead(); err != nil {
		return err
	}
	return w.req.Flush()
}

// Flush is FlushError for an http.Flusher.
func (w *httpResponse) Flush() { w.FlushError() }

// EnableFullDuplex has nothing to enable: a body can always be read after a write.
func (w *httpResponse) EnableFullDuplex() error { return nil }

// readFromMin is how much is read for a look at it before the rest is passed on.
const readFromMin = 512

// ReadFrom writes what r holds until io.EOF, and sends each read at once.
func (w *httpResponse) ReadFrom(r io.Reader) (total int64, err error) {
	for !w.headSent {
		var start [readFromMin]byte
		n, err := r.Read(start[:])
		if n > 0 {
			if _, werr := w.Write(start[:n]); werr != nil {
				return 0, werr
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	rest, ok := w.out.(io.ReaderFrom)
	if !ok || w.isHead || w.length >= 0 {
		n, err := io.Copy(struct{ io.Writer }{w}, r)
		return total + n, err
	}
	n, err := rest.ReadFrom(r)
	w.written += n
	return total + n, err
}
