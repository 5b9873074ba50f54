package fcgi

import (
	"bytes"
	"context"
	"io"
	"net"
	"path/filepath"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// The application answers one request after the other on one connection, over a
// Unix socket, and costs as little as it can.
func BenchmarkClientHello(b *testing.B) {
	answer := protocol.AppendRecord(nil, protocol.TypeStdout, 1, []byte("Content-Type: text/plain\r\n\r\nhello, world\n"))
	c := benchmarkApplication(b, answer)
	req := &Request{Stdout: io.Discard, Params: Params{
		{"REQUEST_METHOD", "GET"}, {"SCRIPT_FILENAME", "/srv/hello"}, {"SERVER_PROTOCOL", "HTTP/1.1"}, {"REQUEST_URI", "/hello"},
	}}
	benchmarkDo(b, c, func() *Request { return req })
}

func BenchmarkClientUpload(b *testing.B) {
	body := make([]byte, 1<<20)
	c := benchmarkApplication(b, protocol.AppendRecord(nil, protocol.TypeStdout, 1, []byte("Status: 204\r\n\r\n")))
	b.SetBytes(int64(len(body)))
	benchmarkDo(b, c, func() *Request {
		return &Request{Stdout: io.Discard, Stdin: bytes.NewReader(body)}
	})
}

func BenchmarkClientDownload(b *testing.B) {
	var answer bytes.Buffer
	stdout := protocol.StreamWriter{W: &answer, Type: protocol.TypeStdout, ID: 1}
	stdout.Write(make([]byte, 1<<20))
	c := benchmarkApplication(b, answer.Bytes())
	b.SetBytes(1 << 20)
	req := &Request{Stdout: io.Discard}
	benchmarkDo(b, c, func() *Request { return req })
}

func benchmarkDo(b *testing.B, c *Conn, next func() *Request) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Do(context.Background(), next()); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkApplication gives the same answer to each request at the end of its STDIN.
func benchmarkApplication(b *testing.B, answer []byte) *Conn {
	b.Helper()
	ln, err := net.Listen("unix", filepath.Join(b.TempDir(), "s"))
	if err != nil {
		b.Fatal(err)
	}
	answer = protocol.AppendRecord(bytes.Clone(answer), protocol.TypeStdout, 1, nil)
	answer = protocol.AppendEnd(answer, 1, protocol.End{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		r := protocol.NewReader(conn)
		for {
			rec, err := r.Next()
			if err != nil {
				return
			}
			if rec.Type == protocol.TypeStdin && len(rec.Content) == 0 {
				conn.Write(answer)
			}
		}
	}()
	c, err := Dial(b.Context(), "unix:"+ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		c.Close()
		c.Wait()
		ln.Close()
		<-ended
	})
	return c
}
