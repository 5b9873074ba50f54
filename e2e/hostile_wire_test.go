//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/protocol"
)

// What is no FastCGI at all closes the connection at once.
func TestHostileGarbage(t *testing.T) {
	r := newRig(t, "", "")
	for name, garbage := range map[string]string{
		"zeros":     strings.Repeat("\x00", 100),
		"text":      "GARBAGE\n",
		"HTTP":      "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"TLS":       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"version 2": "\x02",
		"after a record": string(protocol.AppendGetValues(nil, fcgi.MaxConns)) +
			"\xff",
		"a megabyte": strings.Repeat("\xfe\x01garbage", 1<<20/9),
	} {
		r.both(t, func(t *testing.T, address string) {
			p := connect(t, address)
			p.send([]byte(garbage))
			if n := p.closed(); n > 1 {
				t.Errorf("%s: %d records came", name, n)
			}
			r.good(t, address)
		})
	}
	if n, _ := strconv.Atoi(r.metric(t, `fcgid_protocol_errors_total{kind="version",pool="cgi"}`)); n < 10 {
		t.Errorf("protocol errors of kind version: %d", n)
	}
}

// A request that is cut off after each of its bytes runs nothing and leaves
// nothing behind.
func TestHostileTruncated(t *testing.T) {
	r := newRig(t, "", "")
	touch := r.script(t, "touch.sh", "#!/bin/sh\n: >"+r.dir+"/ran\nprintf 'Content-Type: text/plain\\n\\n'\n")
	whole := request(1, params(touch), "body")
	end := len(stdin(1, ""))
	r.both(t, func(t *testing.T, address string) {
		for n := range len(whole) - end {
			p := connect(t, address)
			p.send(whole[:n])
			p.Close()
		}
		await(t, "the connections to end", func() bool {
			pool := r.status(t).Pools[0]
			return pool.Connections == 0 && len(pool.Requests) == 0
		})
		r.good(t, address)
	})
	if n := r.metric(t, `fcgid_process_starts_total{pool="cgi"}`); n != "2" {
		t.Errorf("%s programs were started, want the 2 good ones", n)
	}
}

// Lengths that lie.
func TestHostileLengths(t *testing.T) {
	r := newRig(t, "", "")
	hello := params(r.dir + "/cgi/hello.sh")
	header := func(typ protocol.Type, id uint16, length, padding int) []byte {
		return protocol.AppendHeader(nil, typ, id, length, padding)
	}
	zeros := func(n int) []byte { return make([]byte, n) }
	closes := map[string][]byte{
		"BEGIN of 7 bytes":   append(header(protocol.TypeBeginRequest, 1, 7, 0), zeros(7)...),
		"BEGIN of 9 bytes":   append(header(protocol.TypeBeginRequest, 1, 9, 0), zeros(9)...),
		"empty BEGIN":        header(protocol.TypeBeginRequest, 1, 0, 0),
		"BEGIN twice":        append(begin(1, protocol.RoleResponder, true), begin(1, protocol.RoleResponder, true)...),
		"BEGIN in a request": append(append(begin(1, protocol.RoleResponder, true), pairs(1, hello)...), begin(1, protocol.RoleResponder, true)...),
	}
	for name, bad := range closes {
		r.both(t, func(t *testing.T, address string) {
			p := connect(t, address)
			p.send(bad)
			if got := p.reply(1); got.end != nil {
				t.Errorf("%s: got %v, want a closed connection", name, got)
			}
			r.good(t, address)
		})
	}
	r.both(t, func(t *testing.T, address string) {
		p := connect(t, address)
		for name, odd := range map[string][]byte{
			"65535 bytes and 255 of padding to nobody": append(header(protocol.TypeStdin, 9, 65535, 255), zeros(65535+255)...),
			"nothing but padding":                      append(header(protocol.TypeData, 9, 0, 255), zeros(255)...),
		} {
			p.send(odd, request(1, hello, ""))
			if got := p.reply(1); got.status() != 200 {
				t.Errorf("%s: got %v", name, got)
			}
		}
		whole := request(1, hello, "")
		padded := bytes.Clone(begin(1, protocol.RoleResponder, true))
		content := new(protocol.Params)
		for _, one := range hello {
			content.Add(one.Name, one.Value)
		}
		encoded := content.Append(nil)
		for _, b := range encoded { // one byte a record, each with all the padding there can be
			padded = append(append(append(padded, header(protocol.TypeParams, 1, 1, 255)...), b), zeros(255)...)
		}
		padded = append(append(padded, header(protocol.TypeParams, 1, 0, 255)...), zeros(255)...)
		p.send(padded, whole[len(whole)-len(stdin(1, "")):])
		if got := p.reply(1); got.status() != 200 {
			t.Errorf("a byte a record: got %v", got)
		}
	})
}

func TestHostileParams(t *testing.T) {
	r := newRig(t, "limits: {params: 256KiB}", "")
	hello := params(r.dir + "/cgi/hello.sh")
	raw := func(content []byte) []byte {
		b := begin(1, protocol.RoleResponder, true)
		for len(content) > 0 {
			n := min(len(content), 60000)
			b = protocol.AppendRecord(b, protocol.TypeParams, 1, content[:n])
			content = content[n:]
		}
		return append(protocol.AppendRecord(b, protocol.TypeParams, 1, nil), stdin(1, "")...)
	}
	encoded := func(p fcgi.Params) (b []byte) {
		for _, one := range p {
			b = protocol.AppendPair(b, one.Name, one.Value)
		}
		return b
	}
	many := encoded(hello)
	for i := range 20000 {
		many = protocol.AppendPair(many, fmt.Sprint("N", i), fmt.Sprint(i))
	}
	for name, c := range map[string]struct {
		content []byte
		want    int
	}{
		"100,000 empty pairs":       {append(encoded(hello), make([]byte, 2*100_000)...), 200},
		"none":                      {nil, 404},
		"20,000 variables":          {many, 200},
		"300 KiB":                   {protocol.AppendPair(encoded(hello), "X", strings.Repeat("x", 300<<10)), 431},
		"20 MiB":                    {protocol.AppendPair(encoded(hello), "X", strings.Repeat("x", 20<<20)), 431},
		"a value of 200 KiB":        {protocol.AppendPair(encoded(hello), "X", strings.Repeat("x", 200<<10)), 431},
		"a name of 200 KiB":         {protocol.AppendPair(encoded(hello), strings.Repeat("X", 200<<10), ""), 431},
		"pair cut off":              {append(encoded(hello), 5, 5, 'a'), 400},
		"length cut off":            {append(encoded(hello), 0x80, 0), 400},
		"name of 2 GiB":             {append(encoded(hello), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 'a'), 400},
		"lengths in four bytes":     {append(encoded(hello), 0x80, 0, 0, 1, 0x80, 0, 0, 1, 'a', 'b'), 200},
		"200 times the same header": {encoded(append(hello, repeated("HTTP_X", "1", 200)...)), 200},
	} {
		r.both(t, func(t *testing.T, address string) {
			p := connect(t, address)
			p.send(raw(c.content))
			if got := p.reply(1); got.status() != c.want || got.end == nil {
				t.Errorf("%s: got %v, want %d", name, got, c.want)
			}
			p.send(request(1, hello, ""))
			if got := p.reply(1); got.status() != 200 {
				t.Errorf("%s: the next request on the connection: %v", name, got)
			}
		})
	}
}

func repeated(name, value string, n int) (p fcgi.Params) {
	for range n {
		p = append(p, fcgi.Param{Name: name, Value: value})
	}
	return p
}

// Floods by a client that reads nothing: it is cut off, or ignored, and the
// daemon's memory stays bounded.
func TestHostileFloods(t *testing.T) {
	r := newRig(t, "", "", stock(t)) // the race detector's memory tells nothing
	for range 20 {                   // what the first requests take for good
		r.good(t, r.unix)
	}
	before := r.memory(t)
	begins := make([]byte, 0, 50_000*16)
	for id := range 50_000 {
		begins = append(begins, begin(uint16(id+1), protocol.RoleResponder, true)...)
	}
	query := bytes.Repeat(protocol.AppendGetValues(nil, fcgi.MaxConns, fcgi.MaxReqs, fcgi.MpxsConns), 50_000)
	unknown := bytes.Repeat(protocol.AppendHeader(nil, 99, 0, 0, 0), 100_000)
	var unended []byte
	for id := range uint16(1200) {
		unended = append(unended, begin(id+1, protocol.RoleResponder, true)...)
		unended = protocol.AppendRecord(unended, protocol.TypeParams, id+1, make([]byte, 60000))
	}
	r.both(t, func(t *testing.T, address string) {
		for name, flood := range map[string][]byte{
			"BEGIN": begins, "GET_VALUES": query, "unknown types": unknown, "unended PARAMS": unended,
		} {
			p := connect(t, address)
			p.send(flood)
			r.good(t, address)
			p.Close()
			await(t, "the requests of the flood of "+name+" to end", func() bool { return len(r.status(t).Pools[0].Requests) == 0 })
		}
	})
	// It is 20 MiB, however often this is done.
	if grown := (r.memory(t) - before) >> 20; grown > 128 {
		t.Errorf("the daemon grew by %d MiB", grown)
	}
}

// A client that floods with STDIN of a request which is refused, or which there
// is not: it is not stored.
func TestHostileStdinFlood(t *testing.T) {
	r := newRig(t, "limits: {body: 1MiB}", "", stock(t)) // the race detector's memory tells nothing
	for range 20 {
		r.good(t, r.unix)
	}
	before := r.memory(t)
	r.both(t, func(t *testing.T, address string) {
		p := connect(t, address)
		p.send(begin(1, protocol.RoleResponder, true), pairs(1, params(r.dir+"/cgi/missing.sh")))
		part := bytes.Repeat(stdin(1, strings.Repeat("x", 65528)), 16)
		for range 32 {
			p.send(part)
		}
		p.send(stdin(1, ""), stdin(1, "more"), stdin(1, ""))
		if got := p.reply(1); got.status() != 413 {
			t.Errorf("got %v, want 413", got)
		}
		lost := bytes.Repeat(stdin(7, strings.Repeat("x", 65528)), 16)
		for range 64 {
			if !p.send(lost) {
				t.Fatal("STDIN of an unknown id: the connection was closed")
			}
		}
		p.send(request(7, params(r.dir+"/cgi/hello.sh"), ""))
		if got := p.reply(7); got.status() != 200 {
			t.Errorf("after STDIN of an unknown id: %v", got)
		}
		r.good(t, address)
	})
	if grown := (r.memory(t) - before) >> 20; grown > 64 { // of 192 MiB
		t.Errorf("the daemon grew by %d MiB", grown)
	}
}

// Records that mean nothing where they come are answered as section 4.2 says, or
// ignored; the request between them is served.
func TestHostileTypes(t *testing.T) {
	r := newRig(t, "", "")
	echo := r.script(t, "cat.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; cat\n")
	r.both(t, func(t *testing.T, address string) {
		p := connect(t, address)
		var nonsense []byte
		for typ := range 256 {
			switch protocol.Type(typ) {
			case protocol.TypeBeginRequest, protocol.TypeAbortRequest, protocol.TypeParams, protocol.TypeStdin:
				continue
			}
			nonsense = protocol.AppendRecord(nonsense, protocol.Type(typ), 1, []byte("nonsense"))
			nonsense = protocol.AppendRecord(nonsense, protocol.Type(typ), 99, []byte("nonsense"))
		}
		nonsense = protocol.AppendRecord(nonsense, protocol.TypeParams, 99, []byte("x"))
		nonsense = protocol.AppendRecord(nonsense, protocol.TypeAbortRequest, 99, nil)
		p.send(nonsense, begin(1, protocol.RoleResponder, true), nonsense,
			pairs(1, params(echo, "CONTENT_LENGTH", "4")), nonsense, pairs(1, nil), stdin(1, "ab"), nonsense, stdin(1, "cd"), stdin(1, ""), nonsense)
		if got := p.reply(1); got.status() != 200 || got.body() != "abcd" {
			t.Errorf("between nonsense: %v", got)
		}
		p.send(protocol.AppendRecord(nil, 200, 0, []byte("what?")))
		rec, _ := p.next()
		if want := []byte{200, 0, 0, 0, 0, 0, 0, 0}; rec.Type != protocol.TypeUnknownType || rec.ID != 0 || !bytes.Equal(rec.Content, want) {
			t.Errorf("type 200: got type %v, id %d, % x; want UNKNOWN_TYPE % x", rec.Type, rec.ID, rec.Content, want)
		}
		r.good(t, address)
	})
}

func TestHostileRoles(t *testing.T) {
	r := newRig(t, "", "")
	r.both(t, func(t *testing.T, address string) {
		p := connect(t, address)
		for _, role := range []protocol.Role{protocol.RoleFilter, 0, 4, 77, 65535} {
			p.send(begin(3, role, true), pairs(3, params(r.dir+"/cgi/hello.sh")), stdin(3, ""))
			got := p.reply(3)
			if got.end == nil || got.end.Status != protocol.StatusUnknownRole || got.status() < 500 {
				t.Errorf("%v: got %v, want UNKNOWN_ROLE", role, got)
			}
		}
		p.send(request(3, params(r.dir+"/cgi/hello.sh"), ""))
		if got := p.reply(3); got.status() != 200 {
			t.Errorf("after it: %v", got)
		}
	})
}

func TestMultiplexOff(t *testing.T) {
	r := newRig(t, "limits: {multiplex: false}", "")
	r.both(t, func(t *testing.T, address string) {
		p := connect(t, address)
		first := request(1, params(r.dir+"/cgi/hello.sh"), "")
		last := len(stdin(1, ""))
		p.send(first[:len(first)-last], request(2, params(r.dir+"/cgi/hello.sh"), ""))
		got := p.reply(2)
		if got.end == nil || got.end.Status != protocol.StatusCantMpxConn || got.status() != 503 {
			t.Errorf("second request: got %v, want 503 and CANT_MPX_CONN", got)
		}
		p.send(first[len(first)-last:])
		if got := p.reply(1); got.status() != 200 {
			t.Errorf("first request: %v", got)
		}
		p.send(request(2, params(r.dir+"/cgi/hello.sh"), ""))
		if got := p.reply(2); got.status() != 200 {
			t.Errorf("a second request after the first: %v", got)
		}
	})
}
