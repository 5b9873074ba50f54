// Package wiretest is the web server's end of FastCGI byte by byte, for tests and
// benchmarks: what a good one sends, what a bad one might, and a strict reader.
package wiretest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// TypicalGet is what nginx sends for a page, on a connection that it keeps.
var TypicalGet = Get(1, true, TypicalParams...)

// TypicalParams are the params of TypicalGet: names and values, by turns.
var TypicalParams = []string{
	"SCRIPT_FILENAME", "/srv/www/cgi-bin/hello", "QUERY_STRING", "a=b&c=d", "REQUEST_METHOD", "GET",
	"CONTENT_TYPE", "", "CONTENT_LENGTH", "", "SCRIPT_NAME", "/cgi-bin/hello", "REQUEST_URI", "/cgi-bin/hello?a=b&c=d",
	"DOCUMENT_URI", "/cgi-bin/hello", "DOCUMENT_ROOT", "/srv/www", "SERVER_PROTOCOL", "HTTP/1.1",
	"REQUEST_SCHEME", "https", "HTTPS", "on", "GATEWAY_INTERFACE", "CGI/1.1", "SERVER_SOFTWARE", "nginx/1.22.1",
	"REMOTE_ADDR", "192.0.2.1", "REMOTE_PORT", "54321", "SERVER_ADDR", "192.0.2.2", "SERVER_PORT", "443",
	"SERVER_NAME", "example.org", "REDIRECT_STATUS", "200", "HTTP_HOST", "example.org",
	"HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "HTTP_ACCEPT", "*/*",
}

// UnderRace reports whether the test was built with the race detector, whose build
// allocates more and makes other system calls.
func UnderRace() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// A Client asks for the same page again and again.
type Client struct {
	nc net.Conn
	r  *protocol.Reader
}

// Dial returns a Client of who listens at addr. It is closed with the test.
func Dial(tb testing.TB, addr net.Addr) *Client {
	tb.Helper()
	nc, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { nc.Close() })
	return &Client{nc, protocol.NewReader(nc)}
}

// Get sends TypicalGet and reads the answer to its end.
func (c *Client) Get(tb testing.TB) { c.GetMany(tb, TypicalGet, 1) }

// GetMany sends n requests at once, which stand in wire, and reads all answers.
func (c *Client) GetMany(tb testing.TB, wire []byte, n int) {
	if _, err := c.nc.Write(wire); err != nil {
		tb.Error(err)
		return
	}
	for n > 0 {
		rec, err := c.r.Next()
		if err != nil {
			tb.Error(err)
			return
		}
		if rec.Type == protocol.TypeEndRequest {
			n--
		}
	}
}

// A Record is one that an application has sent.
type Record struct {
	Type    protocol.Type
	ID      uint16
	Content string
}

// String is the type, the id and the beginning of the content.
func (r Record) String() string { return fmt.Sprintf("%v %d %.60q", r.Type, r.ID, r.Content) }

// ErrWire is what an application must not send.
var ErrWire = errors.New("server broke the protocol")

// ReadRecord reads a record and checks all of its bytes.
func ReadRecord(r io.Reader) (Record, error) {
	var h [protocol.HeaderLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Record{}, err
	}
	length, padding := int(binary.BigEndian.Uint16(h[4:])), int(h[6])
	rest := make([]byte, length+padding)
	if _, err := io.ReadFull(r, rest); err != nil {
		return Record{}, fmt.Errorf("%w: cut inside a record: %w", ErrWire, err)
	}
	rec := Record{protocol.Type(h[1]), binary.BigEndian.Uint16(h[2:]), string(rest[:length])}
	switch {
	case h[0] != protocol.Version:
		return rec, fmt.Errorf("%w: version %d", ErrWire, h[0])
	case h[7] != 0 || strings.Trim(string(rest[length:]), "\x00") != "":
		return rec, fmt.Errorf("%w: reserved or padding bytes of %v are not zero", ErrWire, rec)
	case length+padding > 65535:
		return rec, fmt.Errorf("%w: content and padding of %v are %d bytes", ErrWire, rec, length+padding)
	case rec.Type == protocol.TypeStderr && padding == 0:
		return rec, fmt.Errorf("%w: STDERR without padding", ErrWire)
	case rec.Type == protocol.TypeEndRequest && (length != 8 || rec.Content[5:] != "\x00\x00\x00"):
		return rec, fmt.Errorf("%w: END_REQUEST % x", ErrWire, rec.Content)
	}
	return rec, nil
}

// Rec is a record that a web server sends.
func Rec(t protocol.Type, id uint16, content string) []byte {
	return protocol.AppendRecord(nil, t, id, []byte(content))
}

// Begin is the BEGIN_REQUEST of a Responder.
func Begin(id uint16, keep bool) []byte {
	return protocol.AppendBegin(nil, id, protocol.Begin{Role: protocol.RoleResponder, Keep: keep})
}

// Pairs encodes names and values, by turns.
func Pairs(namesAndValues ...string) string {
	var b []byte
	for i := 0; i < len(namesAndValues); i += 2 {
		b = protocol.AppendPair(b, namesAndValues[i], namesAndValues[i+1])
	}
	return string(b)
}

// Params is a whole PARAMS stream.
func Params(id uint16, namesAndValues ...string) []byte {
	var out []byte
	if len(namesAndValues) > 0 {
		out = Rec(protocol.TypeParams, id, Pairs(namesAndValues...))
	}
	return append(out, Rec(protocol.TypeParams, id, "")...)
}

// Abort is an ABORT_REQUEST.
func Abort(id uint16) []byte { return Rec(protocol.TypeAbortRequest, id, "") }

// Stdin is a record of STDIN; an empty one ends it.
func Stdin(id uint16, content string) []byte { return Rec(protocol.TypeStdin, id, content) }

// Get is a whole request without a body.
func Get(id uint16, keep bool, namesAndValues ...string) []byte {
	out := append(Begin(id, keep), Params(id, namesAndValues...)...)
	return append(out, Stdin(id, "")...)
}

// Post is a whole request with a body and its CONTENT_LENGTH, and more params.
func Post(id uint16, keep bool, body string, namesAndValues ...string) []byte {
	out := append(Begin(id, keep), Params(id, append(namesAndValues, "CONTENT_LENGTH", fmt.Sprint(len(body)))...)...)
	for len(body) > 0 {
		n := min(len(body), 32<<10)
		out = append(out, Stdin(id, body[:n])...)
		body = body[n:]
	}
	return append(out, Stdin(id, "")...)
}

// Bench asks who listens at addr for b.N pages, on so many connections, each with
// so many requests at once.
func Bench(b *testing.B, addr net.Addr, conns, multiplexed int) {
	var wire []byte
	for id := range multiplexed {
		wire = append(wire, Get(uint16(id+1), true, TypicalParams...)...)
	}
	clients := make([]*Client, conns)
	for i := range clients {
		clients[i] = Dial(b, addr)
		clients[i].GetMany(b, wire, multiplexed)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for i, c := range clients {
		all.Go(func() {
			for n := i * multiplexed; n < b.N; n += conns * multiplexed {
				c.GetMany(b, wire, multiplexed)
			}
		})
	}
	all.Wait()
}
