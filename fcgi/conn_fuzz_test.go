package fcgi

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// A cannedConn answers the first write with bytes that are known, and then ends.
type cannedConn struct {
	net.Conn // for what is not called
	answer   io.Reader
	once     sync.Once
	asked    chan struct{}
}

// Read waits until something was written.
func (c *cannedConn) Read(p []byte) (int, error) { <-c.asked; return c.answer.Read(p) }

// Write is told by the first call that all of the request's head is written.
func (c *cannedConn) Write(p []byte) (int, error) {
	c.once.Do(func() { close(c.asked) })
	return len(p), nil
}

// Close ends nothing: the answer ends by itself.
func (c *cannedConn) Close() error { c.once.Do(func() { close(c.asked) }); return nil }

// RemoteAddr is one.
func (c *cannedConn) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "canned"} }

// model is what a Conn is to make of an application's answer to request 1.
func model(answer []byte) (stdout, stderr string, end protocol.End, ok bool) {
	var out, errs strings.Builder
	for r := bytes.NewReader(answer); ; {
		head := make([]byte, protocol.HeaderLen)
		if _, err := io.ReadFull(r, head); err != nil || head[0] != 1 {
			return out.String(), errs.String(), end, false
		}
		length := int(head[4])<<8 | int(head[5])
		content := make([]byte, length+int(head[6]))
		if _, err := io.ReadFull(r, content); err != nil {
			return out.String(), errs.String(), end, false
		}
		content = content[:length]
		switch id, typ := int(head[2])<<8|int(head[3]), protocol.Type(head[1]); {
		case id == 0:
		case id != 1:
			return out.String(), errs.String(), end, false
		case typ == protocol.TypeStdout:
			out.Write(content)
		case typ == protocol.TypeStderr:
			errs.Write(content)
		case typ == protocol.TypeEndRequest:
			end, err := protocol.ParseEnd(content)
			return out.String(), errs.String(), end, err == nil
		}
	}
}

// Whatever an application sends, a request ends, with what the specification says, and
// without an END_REQUEST with an error.
func FuzzAnswer(f *testing.F) {
	hello := wiretest.Rec(protocol.TypeStdout, 1, "A: b\n\nhello")
	end := protocol.AppendEnd(nil, 1, protocol.End{AppStatus: 3})
	for _, parts := range [][][]byte{
		{hello, end}, {end}, {}, {hello}, {hello, end[:9]}, {hello, wiretest.Rec(protocol.TypeStderr, 1, "oops"), end, hello},
		{wiretest.Rec(protocol.TypeStdout, 2, "x"), end}, {wiretest.Rec(protocol.TypeGetValuesResult, 0, "x"), hello, end},
		{wiretest.Rec(protocol.TypeEndRequest, 1, "short")}, {wiretest.Rec(99, 1, "x"), hello, end}, {[]byte("HTTP/1.1 400 Bad Request\r\n")},
	} {
		f.Add(bytes.Join(parts, nil))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		c := NewConn(&cannedConn{answer: bytes.NewReader(answer), asked: make(chan struct{})})
		defer c.Close()
		var stdout, stderr strings.Builder
		result, err := c.Do(t.Context(), &Request{Stdout: &stdout, Stderr: &stderr})
		wantOut, wantErr, end, ok := model(answer)
		if (err == nil) != ok || ok && result != (Result{end.AppStatus, ProtocolStatus(end.Status)}) {
			t.Errorf("got %+v, %v; want %+v, %v", result, err, end, ok)
		}
		if stdout.String() != wantOut || stderr.String() != wantErr {
			t.Errorf("got %.100q and %.100q, want %.100q and %.100q", stdout.String(), stderr.String(), wantOut, wantErr)
		}
		if !ok && len(answer) == 0 && !errors.Is(err, ErrNoEnd) {
			t.Errorf("nothing came: %v", err)
		}
	})
}

// Whatever a program writes, ReadResponse has an error or a response whose body ends.
func FuzzReadResponse(f *testing.F) {
	for _, s := range []string{"A: b\n\nbody", "", "Status: 404\r\n\r\n", "Content-Length: 3\n\nlonger", "Content-Length: 99\n\nx", "HTTP/1.0 200 OK\n\n", "x\n\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		resp, err := ReadResponse(strings.NewReader(text), nil)
		if err != nil {
			return
		}
		body, err := io.ReadAll(resp.Body)
		switch {
		case resp.StatusCode < 200 || resp.StatusCode > 999:
			t.Errorf("status is %d", resp.StatusCode)
		case err != nil && err != io.ErrUnexpectedEOF:
			t.Errorf("body: %v", err)
		case !strings.Contains(text, string(body)):
			t.Errorf("body is %q", body)
		case err == nil && resp.ContentLength >= 0 && int64(len(body)) != resp.ContentLength && resp.StatusCode != 204 && resp.StatusCode != 304:
			t.Errorf("body is %q, Content-Length %d", body, resp.ContentLength)
		}
	})
}
