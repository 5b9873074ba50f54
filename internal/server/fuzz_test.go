package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/wiretest"
)

// FuzzConnection: whatever a client sends, and whenever, each request that it begins
// gets one END_REQUEST at most, as the last of its records, and gets one unless the
// connection ends; nothing hangs, and nothing is left of it.
func FuzzConnection(f *testing.F) {
	for _, seed := range []string{
		"\x00G\x01\x00G\x02\x03G\x01\x03",
		"\x01P\x01\x01\x20P\x02\x01\x40P\x03\x01\xff",
		"\x02B\x01\x13p\x01\x05s\x01\xffs\x01\xffe\x01",
		"\x03B\x01\x13B\x02\x13a\x01p\x02\x02e\x02t\x20a\x02",
		"\x00B\x01\x13B\x01\x13", "\x04G\x01\x02G\x02\x02G\x03\x02G\x04\x02G\x05\x02", "\x00vu\x01r\x09\x01\x04abcd",
		"\x00B\x01\x23p\x01\x00e\x01", "\x10x\x03\x01\x01\x01", "\x08P\x01\x04\xffP\x02\x05\xffP\x01\x06\xffP\x02\x07\xff",
		"\x05B\x01\x13t\x40", "\x01B\x01\x13p\x01\x01s\x01\x10t\x40G\x02\x00", "\x20G\x01\x08G\x02\x09G\x03\x0a", "\x40B\x01\x13p\x01\x02e\x01c",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 300 {
			return
		}
		synctest.Test(t, func(t *testing.T) { playConnection(t, script) })
	})
}

// playConnection does what a script says; its first byte chooses the settings.
func playConnection(t *testing.T, script []byte) {
	var flags byte
	if len(script) > 0 {
		flags, script = script[0], script[1:]
	}
	settings := testSettings(fuzzPrograms)
	settings.SpoolDir = t.TempDir()
	settings.Timeout = time.Minute
	settings.Limits.RequestBuffering = flags&1 == 0
	settings.Limits.Multiplex = flags&2 == 0
	settings.Limits.AnswerSpool = int64(flags&4) << 20
	settings.OnAbort = []OnAbort{AbortKill, AbortClose, AbortIgnore}[int(flags>>3&3)%3]
	settings.Limits.MaxReqs, settings.Limits.Queue = 2, 2
	s := serve(t, settings)
	near, far := net.Pipe()
	s.l.(*pipeListener).Take(far)
	c := &fuzzClient{t: t, nc: near, piece: 1 << 20, begun: make(map[uint16]int), open: make(map[uint16]*streams)}
	if flags&32 != 0 {
		c.piece = 3
	}
	var reading sync.WaitGroup
	reading.Go(c.read)
	leaves := c.play(script)
	if !leaves {
		time.Sleep(10 * time.Minute) // all timeouts together
	}
	synctest.Wait()
	c.check(leaves)
	near.Close()
	reading.Wait()
	time.Sleep(2 * time.Minute) // programs may go on without their client
	synctest.Wait()
	if got := s.Snapshot(); got.InFlight+got.Queued+got.Connections > 0 {
		t.Errorf("left: %+v", got)
	}
	if n := s.spooled.used.Load(); n != 0 {
		t.Errorf("%d bytes are spooled", n)
	}
	if n := len(s.done); n < c.ended || n > c.begins && !c.wild {
		t.Errorf("%d requests are reported, of %d that began and %d that ended", n, c.begins, c.ended)
	}
}

// streams says which streams of a request have ended.
type streams struct{ stdoutEnded, stderrEnded bool }

// A fuzzClient remembers what it has begun and checks what it gets.
type fuzzClient struct {
	t     *testing.T
	nc    net.Conn
	piece int // bytes that are sent at once, at the most

	mu     sync.Mutex // guards the fields below
	wild   bool       // it has sent what is no record
	begins int
	ended  int
	begun  map[uint16]int // requests that began and have not ended
	open   map[uint16]*streams
	err    error // why reading has ended
}

// play sends what the script says until it or the connection ends. It reports
// whether the client is to leave now.
func (c *fuzzClient) play(script []byte) (leaves bool) {
	next := func() (b byte) {
		if len(script) > 0 {
			b, script = script[0], script[1:]
		}
		return b
	}
	id := func() uint16 { return uint16(next()%4) + 1 }
	for len(script) > 0 {
		var out []byte
		switch op := next(); op {
		case 'B':
			id, b := id(), next()
			out = c.begin(id, protocol.Begin{Role: protocol.Role(b >> 4), Keep: b&2 != 0})
		case 'G', 'P':
			id, program, size := id(), next(), 0
			if op == 'P' {
				size = int(next()) << 8
			}
			out = append(c.begin(id, protocol.Begin{Role: protocol.RoleResponder, Keep: program < 128}),
				params(id, "RUN", string('a'+program%16), "CONTENT_LENGTH", fmt.Sprint(size))...)
			if size > 0 {
				out = append(out, part(id, strings.Repeat("x", size))...)
			}
			out = append(out, part(id, "")...)
		case 'p':
			id, program := id(), next()
			out = params(id, "RUN", string('a'+program%16))
		case 's':
			id, size := id(), int(next())
			out = part(id, strings.Repeat("x", size*size))
		case 'e':
			out = part(id(), "")
		case 'a':
			out = abort(id())
		case 'v':
			out = protocol.AppendGetValues(nil, protocol.MaxConns, "X")
		case 'u':
			out = rec(protocol.Type(100+next()%100), 0, "?")
		case 'r':
			kind, id, size := protocol.Type(next()), uint16(next()), min(int(next()), len(script))
			if kind == protocol.TypeBeginRequest {
				continue
			}
			out, script = rec(kind, id, string(script[:size])), script[size:]
		case 'x':
			size := min(int(next()), len(script))
			c.mu.Lock()
			c.wild = true
			c.mu.Unlock()
			out, script = script[:size], script[size:]
		case 't':
			time.Sleep(time.Duration(next()) * time.Second)
		case 'w':
			synctest.Wait()
		case 'c':
			return true
		}
		if !c.send(out) {
			return false
		}
	}
	return false
}

// begin notes that a request is to begin. What is on its way settles first: until
// END_REQUEST an id is not free.
func (c *fuzzClient) begin(id uint16, b protocol.Begin) []byte {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun[id]++
	c.begins++
	return protocol.AppendBegin(nil, id, b)
}

// send reports whether the server has taken it all.
func (c *fuzzClient) send(out []byte) bool {
	c.nc.SetWriteDeadline(time.Now().Add(time.Hour))
	for len(out) > 0 {
		n, err := c.nc.Write(out[:min(len(out), c.piece)])
		if err != nil {
			if !errors.Is(err, io.ErrClosedPipe) {
				c.t.Errorf("the server does not read: %v", err)
			}
			return false
		}
		out = out[n:]
	}
	return true
}

// read checks what the server sends until the connection ends.
func (c *fuzzClient) read() {
	var err error
	for err == nil {
		var rec wiretest.Record
		if rec, err = wiretest.ReadRecord(c.nc); err == nil {
			err = c.take(rec)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	c.nc.Close()
}

func (c *fuzzClient) take(rec wiretest.Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wild && c.begun[rec.ID] == 0 {
		c.begun[rec.ID]++ // it may have been among what was no record
		c.begins++
	}
	r := c.open[rec.ID]
	if r == nil {
		r = new(streams)
		c.open[rec.ID] = r
	}
	bad := fmt.Errorf("%v comes, of %d that began", rec, c.begun[rec.ID])
	switch {
	case rec.Type == protocol.TypeGetValuesResult, rec.Type == protocol.TypeUnknownType:
		return nil
	case c.begun[rec.ID] == 0:
		return bad
	case rec.Type == protocol.TypeStdout && !r.stdoutEnded:
		r.stdoutEnded = rec.Content == ""
	case rec.Type == protocol.TypeStderr && !r.stderrEnded:
		r.stderrEnded = rec.Content == ""
	case rec.Type == protocol.TypeEndRequest && r.stdoutEnded:
		delete(c.open, rec.ID)
		c.begun[rec.ID]--
		c.ended++
	default:
		return bad
	}
	return nil
}

// check is for the end, when nothing is on its way.
func (c *fuzzClient) check(leaves bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	isCut := errors.Is(c.err, io.EOF) || errors.Is(c.err, io.ErrUnexpectedEOF) || errors.Is(c.err, io.ErrClosedPipe)
	if c.err != nil && !isCut {
		c.t.Error(c.err)
	}
	if c.err != nil || leaves || c.wild {
		return
	}
	for id, n := range c.begun {
		if n > 0 {
			c.t.Errorf("%d requests with id %d have not ended, and the connection is open", n, id)
		}
	}
}

// fuzzPrograms are what a request may ask for by its param RUN.
func fuzzPrograms(ctx context.Context, req *protocol.Request) (uint32, error) {
	switch req.Params.Get("RUN") {
	case "b":
		return echo(ctx, req)
	case "c":
		return untilDone(ctx, req)
	case "d":
		return 3, errors.New("broken")
	case "e":
		time.Sleep(5 * time.Second)
		return hello(ctx, req)
	case "f":
		io.WriteString(req.Stderr, "complaint\n")
		return echo(ctx, req)
	case "g":
		return writes(0, "no header")(ctx, req)
	case "h":
		return writes(0, plainHeader, strings.Repeat("x", 300_000))(ctx, req)
	case "i":
		return 0, nil
	case "j":
		return 0, &protocol.Refusal{HTTPStatus: 404, AppStatus: 404, Reason: errors.New("not here")}
	case "k":
		writes(0, plainHeader)(ctx, req)
		return untilDone(ctx, req)
	case "l": // deaf to its end
		time.Sleep(2 * time.Minute)
		return hello(ctx, req)
	case "m":
		if req.Stdin != nil {
			io.ReadFull(req.Stdin, make([]byte, 10))
		}
		return hello(ctx, req)
	}
	return hello(ctx, req)
}
