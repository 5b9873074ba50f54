package protocol_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
)

// nginxParams are what Debian's fastcgi_params and a browser make: 1 KB.
func nginxParams() *protocol.Params {
	return newParams(
		pair{"QUERY_STRING", "page=2&sort=date"}, pair{"REQUEST_METHOD", "GET"},
		pair{"CONTENT_TYPE", ""}, pair{"CONTENT_LENGTH", ""},
		pair{"SCRIPT_NAME", "/cgi-bin/index.cgi"}, pair{"REQUEST_URI", "/cgi-bin/index.cgi?page=2&sort=date"},
		pair{"DOCUMENT_URI", "/cgi-bin/index.cgi"}, pair{"DOCUMENT_ROOT", "/srv/www/html"},
		pair{"SERVER_PROTOCOL", "HTTP/1.1"}, pair{"REQUEST_SCHEME", "https"}, pair{"HTTPS", "on"},
		pair{"GATEWAY_INTERFACE", "CGI/1.1"}, pair{"SERVER_SOFTWARE", "nginx/1.22.1"},
		pair{"REMOTE_ADDR", "192.0.2.17"}, pair{"REMOTE_PORT", "51884"},
		pair{"SERVER_ADDR", "198.51.100.2"}, pair{"SERVER_PORT", "443"}, pair{"SERVER_NAME", "www.example.org"},
		pair{"REDIRECT_STATUS", "200"}, pair{"SCRIPT_FILENAME", "/srv/www/cgi-bin/index.cgi"},
		pair{"HTTP_HOST", "www.example.org"},
		pair{"HTTP_USER_AGENT", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
		pair{"HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
		pair{"HTTP_ACCEPT_LANGUAGE", "en-US,en;q=0.5"}, pair{"HTTP_ACCEPT_ENCODING", "gzip, deflate, br, zstd"},
		pair{"HTTP_COOKIE", "session=6fd3b1a2c0e94d17; theme=dark; consent=1"}, pair{"HTTP_CONNECTION", "keep-alive"},
	)
}

func nginxRequest() []byte {
	wire := protocol.AppendBegin(nil, 1, protocol.Begin{Role: protocol.RoleResponder, Keep: true})
	wire = protocol.AppendParams(wire, 1, nginxParams(), nil)
	return protocol.AppendRecord(wire, protocol.TypeStdin, 1, nil)
}

// An endless reader gives data again and again.
type endless struct {
	data []byte
	pos  int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.data[e.pos:])
	e.pos = (e.pos + n) % len(e.data)
	return n, nil
}

var stdinRecord = protocol.AppendRecord(nil, protocol.TypeStdin, 1, make([]byte, 32<<10))

func BenchmarkReaderNext(b *testing.B) {
	for name, wire := range map[string][]byte{"nginx request": nginxRequest(), "32 KB STDIN": stdinRecord} {
		b.Run(name, func(b *testing.B) {
			records := len(mustRead(b, wire))
			r := protocol.NewReader(&endless{data: wire})
			b.SetBytes(int64(len(wire)))
			b.ReportAllocs()
			for b.Loop() {
				for range records {
					if _, err := r.Next(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkParseParams(b *testing.B) {
	raw := string(nginxParams().Append(nil))
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := protocol.ParseParams(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendParams(b *testing.B) {
	p, err := protocol.ParseParams(string(nginxParams().Append(nil)))
	if err != nil {
		b.Fatal(err)
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = protocol.AppendParams(dst[:0], 1, &p, nil)
	}
}

func BenchmarkStreamWriterReadFrom(b *testing.B) {
	body := bytes.NewReader(megabyte)
	s := newStream(io.Discard, protocol.TypeStdout)
	b.SetBytes(body.Size())
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(megabyte)
		if _, err := s.ReadFrom(body); err != nil {
			b.Fatal(err)
		}
	}
}

var megabyte = make([]byte, 1<<20)

func BenchmarkAppendGetValuesResult(b *testing.B) {
	query := []byte(mustRead(b, protocol.AppendGetValues(nil, protocol.MaxReqs, protocol.MpxsConns))[0].Content)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = protocol.AppendGetValuesResult(dst[:0], query, knows)
	}
}

// What runs for each record must leave nothing for the garbage collector.
func TestAllocs(t *testing.T) {
	raw := string(nginxParams().Append(nil))
	small := protocol.NewReader(&endless{data: nginxRequest()})
	large := protocol.NewReader(&endless{data: stdinRecord})
	mixed := protocol.NewReader(&endless{data: concat(nginxRequest(), stdinRecord)})
	stream := newStream(io.Discard, protocol.TypeStderr)
	dst, content := make([]byte, 0, 40<<10), make([]byte, 32<<10)
	body := bytes.NewReader(nil)
	next := func(r *protocol.Reader) func() error {
		return func() error { _, err := r.Next(); return err }
	}
	for _, row := range []struct {
		what string
		most float64
		do   func() error
	}{
		{"Next, nginx request", 0, next(small)},
		{"Next, 32 KB", 0, next(large)},
		{"Next, mixed", 0, next(mixed)},
		{"ParseParams", 1, func() error { _, err := protocol.ParseParams(raw); return err }},
		{"AppendRecord", 0, func() error { protocol.AppendRecord(dst, protocol.TypeStderr, 1, content); return nil }},
		{"AppendBegin", 0, func() error { protocol.AppendBegin(dst, 1, protocol.Begin{}); return nil }},
		{"AppendEnd", 0, func() error { protocol.AppendEnd(dst, 1, protocol.End{}); return nil }},
		{"StreamWriter.Write", 0, func() error { _, err := stream.Write(content); return err }},
		{"StreamWriter.ReadFrom", 0, func() error { body.Reset(content); _, err := stream.ReadFrom(body); return err }},
	} {
		got := testing.AllocsPerRun(100, func() { // its first call warms up
			for range 4 {
				if err := row.do(); err != nil {
					t.Fatal(err)
				}
			}
		})
		if got > 4*row.most {
			t.Errorf("%s: %v allocations in 4 calls, want at most %v", row.what, got, 4*row.most)
		}
	}
}
