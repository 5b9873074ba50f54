package fcgi

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/internal/protocol"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/fcgid/fcgid/internal/spawn.launchAll")) // they never end
}

// A peer is the application at the other end, which a test plays.
type peer struct {
	t    *testing.T
	conn net.Conn
	r    *protocol.Reader
}

// newPeer is a Conn over a net.Pipe and its peer.
func newPeer(t *testing.T) (*Conn, *peer) {
	near, far := net.Pipe()
	return newPeerOf(t, near, far)
}

// newSocketPeer is newPeer over a Unix socket, which has buffers.
func newSocketPeer(t *testing.T) (*Conn, *peer) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := Dial(t.Context(), "unix:"+ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return newPeerOf(t, c.conn, far)
}

func newPeerOf(t *testing.T, near, far net.Conn) (*Conn, *peer) {
	c := NewConn(near)
	t.Cleanup(func() {
		c.Close()
		far.Close()
		c.Wait()
	})
	return c, &peer{t, far, protocol.NewReader(far)}
}

// next is the next record; its content is valid until the next next.
func (p *peer) next() protocol.Record {
	p.t.Helper()
	rec, err := p.r.Next()
	if err != nil {
		p.t.Errorf("peer: next record: %v", err)
	}
	return rec
}

// want reads a record and compares it.
func (p *peer) want(typ protocol.Type, content string) {
	p.t.Helper()
	if rec := p.next(); rec.Type != typ || string(rec.Content) != content {
		p.t.Errorf("peer: got %v %.60q, want %v %.60q", rec.Type, rec.Content, typ, content)
	}
}

// head reads BEGIN_REQUEST and PARAMS.
func (p *peer) head() (protocol.Begin, protocol.Params) {
	p.t.Helper()
	begin, err := protocol.ParseBegin(p.next().Content)
	if err != nil {
		p.t.Errorf("peer: %v", err)
	}
	var raw []byte
	for {
		rec := p.next()
		if rec.Type != protocol.TypeParams {
			p.t.Errorf("peer: got %v, want PARAMS", rec.Type)
			return begin, protocol.Params{}
		}
		if len(rec.Content) == 0 {
			break
		}
		raw = append(raw, rec.Content...)
	}
	params, err := protocol.ParseParams(string(raw))
	if err != nil {
		p.t.Errorf("peer: params: %v", err)
	}
	return begin, params
}

// stream reads a stream to its end.
func (p *peer) stream(typ protocol.Type) string {
	p.t.Helper()
	var all strings.Builder
	for {
		rec, err := p.r.Next()
		if err != nil || rec.Type != typ {
			p.t.Errorf("peer: got %v, %v inside %v", rec.Type, err, typ)
			return all.String()
		}
		if len(rec.Content) == 0 {
			return all.String()
		}
		all.Write(rec.Content)
	}
}

func (p *peer) send(typ protocol.Type, id uint16, content string) {
	p.t.Helper()
	p.write(protocol.AppendRecord(nil, typ, id, []byte(content)))
}

func (p *peer) end(appStatus uint32, status protocol.Status) {
	p.t.Helper()
	p.write(protocol.AppendEnd(nil, 1, protocol.End{AppStatus: appStatus, Status: status}))
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Errorf("peer: %v", err)
	}
}

// gone waits until the Conn has closed the connection.
func (p *peer) gone() {
	p.t.Helper()
	if rec, err := p.r.Next(); err == nil {
		p.t.Errorf("peer: got %v, want the end", rec.Type)
	} else if !errors.Is(err, io.EOF) {
		p.t.Errorf("peer: %v, want the end", err)
	}
}
