package main

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strconv"
)

// Record types of the FastCGI specification, section 8.
const (
	typeBegin  = 1
	typeEnd    = 3
	typeParams = 4
	typeStdin  = 5
	typeStdout = 6
	typeStderr = 7
)

// A request holds the bytes that a client sends for one kind of request, made
// once and sent as they are. It is immutable, so any number of loads share it.
type request struct {
	// heads are all that is sent before the body, by request id; heads[0] has id 1.
	heads [][]byte
	// The body is block, sent so many times, and then tail.
	block  []byte
	blocks int
	tail   []byte
	http   bool
	want   string // the body of a right answer; "" is one of wantBytes bytes
	has    string // what stands in a right answer over HTTP; "": want is all of it
	// wantBytes is the length of a right answer's body.
	wantBytes int64
}

// bodyBytes is what a request's body adds to what is sent, without its tail.
func (r *request) bodyBytes() int64 { return int64(len(r.block)) * int64(r.blocks) }

// upload makes n bytes of STDIN part of a request with one id. The records hold
// 32 KiB as nginx's do; n is a multiple of that.
func (r *request) upload(n int64) *request {
	const record, perBlock = 32 << 10, 8
	for range perBlock {
		r.block = appendRecord(r.block, typeStdin, 1, make([]byte, record))
	}
	r.blocks = int(n / (record * perBlock))
	r.tail = appendRecord(nil, typeStdin, 1, nil)
	return r
}

// get is a GET of a script over FastCGI, with the parameters that nginx sends.
// With keep the connection is used again; it may carry streams requests at once.
func get(script string, keep bool, streams int) *request {
	r := &request{want: "hello\n"}
	for id := 1; id <= streams; id++ {
		head := appendHead(nil, id, keep, params(script, "GET", ""))
		r.heads = append(r.heads, appendRecord(head, typeStdin, id, nil))
	}
	return r
}

// post is a POST of n bytes to a script, on a connection of its own.
func post(script string, n int64) *request {
	head := appendHead(nil, 1, false, params(script, "POST", strconv.FormatInt(n, 10)))
	r := &request{heads: [][]byte{head}, want: fmt.Sprintf("%d\n", n)}
	return r.upload(n)
}

// httpGet is a GET over HTTP/1.1 that keeps its connection.
func httpGet(path string) *request {
	text := "GET " + path + " HTTP/1.1\r\nHost: bench\r\nUser-Agent: fcgid-bench\r\nAccept: */*\r\n\r\n"
	return &request{heads: [][]byte{[]byte(text)}, http: true, want: "hello\n"}
}

// params are those of nginx's fastcgi_params.
func params(script, method, length string) [][2]string {
	name := "/" + filepath.Base(script)
	contentType := ""
	if length != "" {
		contentType = "application/octet-stream"
	}
	return [][2]string{
		{"QUERY_STRING", ""}, {"REQUEST_METHOD", method}, {"CONTENT_TYPE", contentType},
		{"CONTENT_LENGTH", length}, {"SCRIPT_NAME", name}, {"REQUEST_URI", name},
		{"DOCUMENT_URI", name}, {"DOCUMENT_ROOT", filepath.Dir(script)}, {"SERVER_PROTOCOL", "HTTP/1.1"},
		{"REQUEST_SCHEME", "http"}, {"GATEWAY_INTERFACE", "CGI/1.1"}, {"SERVER_SOFTWARE", "nginx/1.22.1"},
		{"REMOTE_ADDR", "127.0.0.1"}, {"REMOTE_PORT", "50000"}, {"SERVER_ADDR", "127.0.0.1"},
		{"SERVER_PORT", "80"}, {"SERVER_NAME", "bench"}, {"REDIRECT_STATUS", "200"},
		{"SCRIPT_FILENAME", script}, {"HTTP_HOST", "bench"}, {"HTTP_USER_AGENT", "fcgid-bench"}, {"HTTP_ACCEPT", "*/*"},
	}
}

// appendHead appends BEGIN_REQUEST for a responder and PARAMS with their end.
func appendHead(dst []byte, id int, keep bool, params [][2]string) []byte {
	begin := []byte{0, 1, 0, 0, 0, 0, 0, 0}
	if keep {
		begin[2] = 1
	}
	var pairs []byte
	for _, p := range params {
		pairs = append(appendLength(appendLength(pairs, len(p[0])), len(p[1])), p[0]+p[1]...)
	}
	dst = appendRecord(dst, typeBegin, id, begin)
	dst = appendRecord(dst, typeParams, id, pairs)
	return appendRecord(dst, typeParams, id, nil)
}

// appendLength appends a length of a name-value pair (section 3.4).
func appendLength(dst []byte, n int) []byte {
	if n < 128 {
		return append(dst, byte(n))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n)|1<<31)
}

// appendRecord appends a record (section 3.3), padded to a multiple of 8.
func appendRecord(dst []byte, kind byte, id int, content []byte) []byte {
	pad := -len(content) & 7
	dst = append(dst, 1, kind, byte(id>>8), byte(id), byte(len(content)>>8), byte(len(content)), byte(pad), 0)
	dst = append(dst, content...)
	return append(dst, make([]byte, pad)...)
}
