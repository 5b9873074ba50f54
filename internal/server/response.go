package server

import (
	"errors"
	"io"
	"slices"
	"sync"
	"syscall"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/protocol"
)

// errFinished is what a runner gets that writes to a request which has ended.
var errFinished = errors.New("request has ended")

// maxHeld is how much of an answer is held for the end of STDIN before its
// runner has to wait.
const maxHeld = 64 << 10

// A response is what a runner writes a request's STDOUT to. It collects and
// checks the header, holds the answer until STDIN has ended, and then passes on
// what comes, as it comes. STDERR goes through it too.
type response struct {
	req *request

	mu        sync.Mutex // guards the fields below
	pending   []byte     // a header that is not complete
	scanned   int        // pending[:scanned] holds no blank line
	begun     bool       // the header is complete
	head      []byte     // then: it
	headLen   int        // bytes of it in held
	held      []byte     // what waits for the end of STDIN, or of the request
	left      bool       // some of the answer has been sent
	heldErr   []byte     // of STDERR
	closed    bool       // nothing more may be written
	hasStderr bool       // some of STDERR was sent, so the stream must be ended
	status    int        // HTTP status, once begun
	dropped   []string   // lines of the header that are no fields, once begun
	sent      int64      // bytes of STDOUT
}

// Write takes a part of a CGI response.
func (w *response) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writeLocked(p, false)
}

// WriteLast is Write of what is meant to be the end of the answer: a little of it
// is held for END_REQUEST, so that both leave in one write.
func (w *response) WriteLast(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writeLocked(p, true)
}

func (w *response) writeLocked(p []byte, last bool) (int, error) {
	if w.closed {
		return w.afterEndLocked(len(p))
	}
	if w.begun {
		return len(p), w.putLocked(p, last)
	}
	all := p // the usual case: the header comes in one piece
	if len(w.pending) > 0 {
		w.pending = append(w.pending, p...)
		all = w.pending
	}
	end, next := cgi.HeaderEnd(all, w.scanned)
	w.scanned = next
	if end == 0 {
		if len(w.pending) == 0 {
			w.pending = append(w.pending, p...)
		}
		if len(all) >= cgi.MaxHeader {
			return 0, w.failLocked(cgi.HeaderError(cgi.ErrHeaderTooLarge, all))
		}
		return len(p), nil
	}
	h, err := cgi.ParseHeader(all)
	if err != nil {
		w.pending = slices.Clone(all) // what follows is no header either
		return 0, w.failLocked(err)
	}
	rest := all[end:]
	w.begun, w.status, w.dropped, w.pending = true, h.Status, h.Dropped, nil
	w.head, w.held, w.headLen = h.Block, h.Block, len(h.Block)
	return len(p), w.putLocked(rest, last)
}

// putLocked takes a part of the body and sends what may be sent. Of the last
// part it sends nothing if that is little.
func (w *response) putLocked(p []byte, last bool) error {
	if w.req.isHead {
		p = nil
	}
	last = last && len(w.held)+len(p) <= maxHeld
	if w.held == nil && !last {
		return w.sendLocked(p)
	}
	w.held = append(w.held, p...)
	if last {
		return nil
	}
	if !w.mayAnswer() {
		if len(w.held) <= maxHeld {
			return nil
		}
		if err := w.awaitStdinLocked(); err != nil {
			return err
		}
	}
	return w.releaseLocked()
}

// mayAnswer reports whether the answer may leave. Web servers stop sending a
// body, or break, when it comes before the body's end.
func (w *response) mayAnswer() bool {
	if w.req.settings.Limits.EarlyResponse {
		return true
	}
	return w.req.stdinOver.happened.Load()
}

// awaitStdinLocked waits until the answer may leave. The lock is not held meanwhile.
func (w *response) awaitStdinLocked() error {
	if !w.mayAnswer() {
		w.mu.Unlock()
		select {
		case <-w.req.stdinOver.wait():
		case <-w.req.ctx.Done():
		}
		w.mu.Lock()
	}
	if w.closed || w.req.ctx.Err() != nil {
		return errFinished
	}
	return nil
}

// release sends what was held: STDIN has ended.
func (w *response) release() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && w.req.ctx.Err() == nil {
		w.releaseLocked()
	}
}

func (w *response) releaseLocked() error {
	if w.held == nil && w.heldErr == nil {
		return nil
	}
	out := getBuffer()
	defer out.free()
	w.left = w.left || w.held != nil
	out.b = w.appendHeldLocked(out.b[:0])
	return w.toClient(out.b)
}

// toClient sends whole records. A program whose client has gone and that may
// run on is not to notice it.
func (w *response) toClient(records []byte) error {
	err := w.req.conn.write(w.req, records)
	if err != nil && w.goesOn() {
		return nil
	}
	return err
}

func (w *response) goesOn() bool { return w.req.mayOutlive() && w.req.ctx.Err() == nil }

// appendHeldLocked appends what was held as records. The header leaves whole,
// in the first one of STDOUT.
func (w *response) appendHeldLocked(dst []byte) []byte {
	dst = w.appendStderrLocked(dst)
	if w.held == nil {
		return dst
	}
	w.sent += int64(len(w.held))
	first := min(len(w.held), max(w.headLen, protocol.MaxContent))
	dst = protocol.AppendRecord(dst, protocol.TypeStdout, w.req.id, w.held[:first])
	dst = appendStream(dst, protocol.TypeStdout, w.req.id, w.held[first:])
	w.held, w.headLen = nil, 0
	return dst
}

func (w *response) appendStderrLocked(dst []byte) []byte {
	w.hasStderr = w.hasStderr || len(w.heldErr) > 0
	dst = appendStream(dst, protocol.TypeStderr, w.req.id, w.heldErr)
	w.heldErr = nil
	return dst
}

// sendLocked sends a part of the body.
func (w *response) sendLocked(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	w.sent += int64(len(p))
	out := getBuffer()
	defer out.free()
	out.b = appendStream(out.b[:0], protocol.TypeStdout, w.req.id, p)
	return w.toClient(out.b)
}

// ReadFrom passes on what r holds until io.EOF, each read at once. A read of
// the body goes to where its record is sent from. From a descriptor that can be
// waited for it reads without holding memory while there is nothing.
func (w *response) ReadFrom(r io.Reader) (int64, error) {
	if f, ok := r.(syscall.Conn); ok {
		rc, err := f.SyscallConn()
		if err != nil {
			return 0, err
		}
		return w.readFromConn(rc)
	}
	var total int64
	buf := getBuffer()
	defer buf.free()
	for {
		n, err := r.Read(buf.content())
		total += int64(n)
		if n > 0 {
			if err := w.passOn(buf, n); err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

func (w *response) readFromConn(rc syscall.RawConn) (total int64, err error) {
	var buf *buffer
	get := func() []byte { buf = getBuffer(); return buf.content() }
	put := func() { buf.free() }
	var splice *splicer
	for {
		n, err := nbio.Read(rc, get, put)
		last := false
		if err == nil && n < spliceMin {
			n, last = readMore(rc, buf.content(), n)
		}
		total += int64(n)
		switch {
		case err == nil && last:
			_, err = w.WriteLast(buf.content()[:n])
			buf.free()
			return total, err
		case err == nil:
			err = w.passOn(buf, n)
		}
		buf.free()
		if splice == nil && err == nil && n >= spliceMin {
			splice = newSplicer(w, rc)
		}
		if splice != nil && err == nil {
			var moved int64
			moved, err = w.spliceBody(splice)
			total += moved
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// readMore adds what is there by now to the n bytes of p. It waits for nothing. last
// tells that nothing more will come: then one write may serve for all of the rest.
func readMore(rc syscall.RawConn, p []byte, n int) (total int, last bool) {
	err := rc.Control(func(fd uintptr) {
		for n < len(p) {
			k, err := nbio.ReadPipe(fd, p[n:])
			last = err == nil && k == 0
			if k == 0 {
				return
			}
			n += k
		}
	})
	return n, last && err == nil
}

// passOn sends the n bytes of content that stand in buf behind room for a header.
func (w *response) passOn(buf *buffer, n int) error {
	w.mu.Lock()
	if !w.begun || w.closed || w.held != nil || w.req.isHead {
		w.mu.Unlock()
		_, err := w.Write(buf.content()[:n])
		return err
	}
	defer w.mu.Unlock()
	w.sent += int64(n)
	b := buf.b[:cap(buf.b)]
	pad := protocol.PaddingFor(protocol.TypeStdout, n)
	protocol.AppendHeader(b[:0], protocol.TypeStdout, w.req.id, n, pad)
	clear(b[protocol.HeaderLen+n : protocol.HeaderLen+n+pad])
	return w.toClient(b[:protocol.HeaderLen+n+pad])
}

// failLocked ends the request: what the runner writes is no CGI response.
func (w *response) failLocked(err error) error {
	w.req.conn.cancel(w.req, err)
	return err
}

// afterEndLocked is the outcome of a write after the end.
func (w *response) afterEndLocked(n int) (int, error) {
	if w.goesOn() {
		return n, nil
	}
	return 0, errFinished
}

// IsWhole reports whether so much of the body has come as the header has announced.
func (w *response) IsWhole() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.begun {
		return false
	}
	length := cgi.Length(w.head)
	return length >= 0 && (w.req.isHead || w.sent+int64(len(w.held)) >= int64(len(w.head))+length)
}

// close lets nothing more be written. It reports whether the header was
// complete, and whether some of the answer has left.
func (w *response) close() (begun, left bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	return w.begun, w.left
}

// stderr is what a runner writes a request's STDERR to.
type stderr struct{ *response }

// Write sends p in STDERR records, not before STDIN has ended: till then a
// little is held, and the program with more of it has to wait.
func (e stderr) Write(p []byte) (int, error) {
	w := e.response
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed || len(p) == 0 {
		return len(p), nil
	}
	w.heldErr = append(w.heldErr, p...)
	if !w.mayAnswer() && (len(w.heldErr) <= maxHeld || w.awaitStdinLocked() != nil) {
		return len(p), nil
	}
	return len(p), w.releaseLocked()
}

// appendStream appends p in as many records as it needs.
func appendStream(dst []byte, t protocol.Type, id uint16, p []byte) []byte {
	const chunk = protocol.MaxContent - 8 // STDERR is always padded
	for len(p) > 0 {
		n := min(len(p), chunk)
		dst = protocol.AppendRecord(dst, t, id, p[:n])
		p = p[n:]
	}
	return dst
}

// A buffer holds a record of the largest size and the few that end a request.
type buffer struct{ b []byte }

var buffers = sync.Pool{New: func() any {
	return &buffer{b: make([]byte, 0, protocol.HeaderLen+protocol.MaxContent+64)}
}}

func getBuffer() *buffer { return buffers.Get().(*buffer) }

// content is the part of the buffer behind room for a record's header.
func (b *buffer) content() []byte {
	return b.b[protocol.HeaderLen : protocol.HeaderLen+protocol.MaxContent]
}

// free gives the buffer back, unless it has grown out of the common size.
func (b *buffer) free() {
	if cap(b.b) <= 2*protocol.MaxContent {
		buffers.Put(b)
	}
}
