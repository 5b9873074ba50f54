package server

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/plural"
	"github.com/fcgid/fcgid/internal/protocol"
)

// errFinished is what a runner gets that writes to a request which has ended.
var errFinished = errors.New("request has ended")

const (
	// maxPart is how much of a stream goes into one record: STDERR is always padded.
	maxPart = protocol.MaxContent - 8
	// maxHeld is how much of the end of an answer is held for END_REQUEST: a record.
	maxHeld = maxPart
)

// An answer is what a runner writes a request's STDOUT to. It collects and checks the
// header, and then passes on what comes, as it comes. STDERR goes through it too: it
// follows the header, and other records of STDOUT, in few records.
type answer struct {
	req *request

	isClosed bool // nothing more is taken; set with the outlet's door and mu held, read with either
	isOut    bool // some of the answer has been sent; guarded by the outlet's door

	outPatience, errPatience patience // of who writes STDOUT, and STDERR
	backlog                  backlog  // has its own lock

	mu        sync.Mutex // guards the fields below
	head      []byte     // the header, or as much of it as has come
	scanned   int        // head[:scanned] holds no blank line
	hasHead   bool       // the header is complete
	headLen   int        // how long it is then
	held      []byte     // the header, until more comes or the request ends
	last      lastPart   // what waits for the end of the request
	heldErr   []byte     // of STDERR
	hasStderr bool       // some of STDERR was sent, so the stream must be ended
	status    int        // HTTP status, once hasHead
	length    int64      // of the body, as the header announces it, once hasHead; or -1
	dropped   []string   // lines of the header that are no fields, once hasHead
	sent      int64      // bytes of STDOUT
	block     []byte     // the header as it is sent, once hasHead; not changed
	blockAt   time.Time  // when it was complete
}

// Write takes a part of a CGI response.
func (w *answer) Write(p []byte) (int, error) { return w.write(p, false) }

// WriteLast is Write of what is meant to be the end of the answer: a little of it
// is held for END_REQUEST, so that both leave in one write.
func (w *answer) WriteLast(p []byte) (int, error) { return w.write(p, true) }

func (w *answer) write(p []byte, last bool) (written int, err error) {
	switch {
	case w.dropsOutput():
		return len(p), nil
	case w.isDeserted():
		return 0, ErrClientGone
	}
	w.req.silence.speaks()
	defer w.req.silence.spoke(w.req)
	var buf *buffer
	defer func() { buf.free() }()
	for {
		n := min(len(p)-written, maxPart)
		w.mu.Lock()
		body, isHeld, err := w.takeLocked(p[written:written+n], last && written+n == len(p))
		if err == nil && !isHeld {
			if buf == nil {
				buf = w.roomForPartLocked(body)
			}
			buf.b = w.appendPartLocked(buf.b[:0], body)
		}
		w.mu.Unlock()
		switch {
		case err != nil:
			if err != errFinished { // what the runner writes is no CGI response
				w.req.conn.table.end(w.req, err)
			}
			if err = w.outcome(err); err == nil {
				written = len(p)
			}
			return written, err
		case !isHeld:
			if err := w.pass(&w.outPatience, buf.b); err != nil {
				return written, err
			}
		}
		if written += n; written == len(p) {
			return written, nil
		}
	}
}

func (w *answer) init(r *request) {
	w.req, w.backlog.req, w.backlog.spool.req = r, r, r
	if r.settings.Limits.AnswerSpool > 0 {
		w.outPatience = patience{patienceTime, true}
		w.errPatience = w.outPatience
	}
}

// pass sends whole records, or leaves them to the backlog when the client is too slow.
// A program whose client has gone and that may run on is not to notice it.
func (w *answer) pass(p *patience, records []byte) error {
	if len(records) == 0 {
		return nil
	}
	if w.backlog.isEmpty() {
		err := w.req.conn.out.pass(w.req, p, records)
		switch {
		case w.isCancelled():
			return w.outcome(err)
		case errors.Is(err, errSlow):
			w.backlog.start()
			return nil
		case !errors.Is(err, errShut):
			return w.outcome(err)
		}
	}
	if w.backlog.add(w.req.ctx, records) || w.dropsOutput() {
		return nil
	}
	if w.isCancelled() {
		return errFinished
	}
	return w.outcome(w.req.conn.out.pass(w.req, new(patience), records))
}

func (w *answer) isCancelled() bool { return w.req.ctx.Err() != nil }

// takeLocked takes a part of the response, and returns what of it is body. It is held if
// nothing is to be sent yet: the header has not ended, or this is the last part, and little.
func (w *answer) takeLocked(p []byte, last bool) (body []byte, isHeld bool, err error) {
	if w.isClosed {
		return nil, false, errFinished
	}
	if !w.hasHead {
		if p, err = w.addHeadLocked(p); err != nil || !w.hasHead {
			return nil, true, err
		}
	}
	if w.req.isHead {
		p = nil
	}
	return p, last && w.keepLastLocked(p), nil
}

// appendPartLocked appends records of what was held and a part of the body.
func (w *answer) appendPartLocked(dst, p []byte) []byte {
	dst = w.appendLastLocked(dst)
	dst = w.appendBodyLocked(dst, p)
	if len(dst) > 0 {
		dst = w.appendStderrLocked(dst)
	}
	return dst
}

// roomForPartLocked is a buffer for what appendPartLocked appends.
func (w *answer) roomForPartLocked(p []byte) *buffer {
	return getBufferFor(len(w.last.records) + len(w.held) + len(p) + len(w.heldErr) + 2*maxEnd)
}

// addHeadLocked takes a part of the header, and returns what of p follows it.
func (w *answer) addHeadLocked(p []byte) (rest []byte, err error) {
	all := p // the usual case: the header comes in one piece
	if len(w.head) > 0 {
		w.req.memory.charge(int64(len(p)))
		w.head = append(w.head, p...)
		all = w.head
	}
	end, next := cgi.HeaderEnd(all, w.scanned)
	w.scanned = next
	if end == 0 {
		if len(w.head) == 0 {
			w.req.memory.charge(int64(len(p)))
			w.head = append(w.head, p...)
		}
		if len(all) >= cgi.MaxHeader {
			return nil, cgi.HeaderError(cgi.ErrHeaderTooLarge, all)
		}
		return nil, nil
	}
	h, err := cgi.ParseHeader(all)
	if err != nil {
		w.head = slices.Clone(all) // what follows is no header either
		return nil, err
	}
	w.req.memory.charge(int64(len(h.Block)))
	w.hasHead, w.status, w.length, w.dropped = true, h.Status, h.Length, h.Dropped
	w.head, w.held, w.headLen = nil, h.Block, len(h.Block)
	w.block, w.blockAt = h.Block[:len(h.Block):len(h.Block)], time.Now()
	return all[end:], nil
}

// appendBodyLocked appends a part of the body. The header leaves whole before it, in the
// first record of STDOUT.
func (w *answer) appendBodyLocked(dst, p []byte) []byte {
	w.sent += int64(len(w.held) + len(p))
	if w.held != nil {
		n := min(len(p), max(0, maxPart-len(w.held)))
		pad := protocol.PaddingFor(protocol.TypeStdout, len(w.held)+n)
		dst = protocol.AppendHeader(dst, protocol.TypeStdout, w.req.id, len(w.held)+n, pad)
		dst = append(append(dst, w.held...), p[:n]...)
		dst = append(dst, make([]byte, pad)...)
		w.held, p = nil, p[n:]
	}
	return appendStream(dst, protocol.TypeStdout, w.req.id, p)
}

func (w *answer) appendStderrLocked(dst []byte) []byte {
	if len(w.heldErr) > 0 {
		w.hasStderr = true
		dst = appendStream(dst, protocol.TypeStderr, w.req.id, w.heldErr)
		w.heldErr = nil
	}
	return dst
}

// ReadFrom passes on what r holds until io.EOF, each read at once. A read of
// the body goes to where its record is sent from. From a descriptor that can be
// waited for it reads without holding memory while there is nothing.
func (w *answer) ReadFrom(r io.Reader) (int64, error) {
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

func (w *answer) readFromConn(rc syscall.RawConn) (total int64, err error) {
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
			if splice = newSplicer(w, rc); splice != nil {
				defer splice.shrink()
			}
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
func (w *answer) passOn(buf *buffer, n int) error {
	if !w.flows(n) {
		_, err := w.Write(buf.content()[:n])
		return err
	}
	w.req.silence.speaks()
	defer w.req.silence.spoke(w.req)
	b := buf.b[:cap(buf.b)]
	pad := protocol.PaddingFor(protocol.TypeStdout, n)
	protocol.AppendHeader(b[:0], protocol.TypeStdout, w.req.id, n, pad)
	clear(b[protocol.HeaderLen+n : protocol.HeaderLen+n+pad])
	return w.pass(&w.outPatience, b[:protocol.HeaderLen+n+pad])
}

// flows reports whether n bytes can be sent as they are: there is a header, and
// nothing has to go before or with them. Then they count as sent.
func (w *answer) flows(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.isClosed || !w.hasHead || w.held != nil || w.last.records != nil || len(w.heldErr) > 0 || w.req.isHead {
		return false
	}
	w.sent += int64(n)
	return true
}

// unsend takes back n bytes that flows has counted.
func (w *answer) unsend(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent -= int64(n)
}

// outcome is the error of a runner that has written to a client.
func (w *answer) outcome(err error) error {
	switch {
	case err == nil:
		return nil
	case w.dropsOutput():
		return nil
	case w.isDeserted():
		return ErrClientGone
	case errors.Is(err, errShut), errors.Is(err, errSlow): // it was cancelled meanwhile
		return errFinished
	}
	return err
}

// dropsOutput reports whether the program is not to notice that its client has gone.
func (w *answer) dropsOutput() bool {
	return w.req.settings.OnAbort == AbortIgnore && w.isDeserted()
}

// isDeserted reports whether the program runs on though its client has gone.
func (w *answer) isDeserted() bool {
	if !w.req.mayOutlive() || w.req.ctx.Err() != nil {
		return false
	}
	state := w.req.stateNow()
	return state == stateParting || state == stateLeft || w.req.conn.out.lost.Load()
}

// IsWhole reports whether so much of the body has come as the header has announced.
func (w *answer) IsWhole() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hasHead && w.length >= 0 && w.missingLocked() <= 0
}

// missingLocked is how much of the body has not come that the header has announced. A
// few answers have none (RFC 9110, section 6.4.1).
func (w *answer) missingLocked() int64 {
	if w.length < 0 || w.req.isHead || w.status == http.StatusNoContent || w.status == http.StatusNotModified {
		return 0
	}
	return w.length - (w.sent + int64(len(w.held)+w.last.content-w.headLen))
}

// checkWhole is the error of an answer that has ended before its Content-Length.
func (w *answer) checkWhole() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.missingLocked(); n > 0 {
		return fmt.Errorf("answer ended %s before its Content-Length of %d", plural.Of(n, "byte"), w.length)
	}
	return nil
}

// close lets nothing more be written. It reports whether the header was
// complete, and whether some of the answer has been sent.
func (w *answer) close() (hasHead, isOut bool) {
	o := &w.req.conn.out
	o.door.enter()
	defer o.done()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isClosed = true
	w.backlog.close()
	return w.hasHead, w.isOut || w.backlog.wasUsed()
}

// appendStream appends p in as many records as it needs.
func appendStream(dst []byte, t protocol.Type, id uint16, p []byte) []byte {
	for len(p) > 0 {
		n := min(len(p), maxPart)
		dst = protocol.AppendRecord(dst, t, id, p[:n])
		p = p[n:]
	}
	return dst
}
