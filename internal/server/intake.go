package server

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
)

const (
	// lingerTime is how long a connection that we close is still read, so that a
	// client which sends gets its answer and not a reset.
	lingerTime = 3 * time.Second
	// lastCallTime is how long a drained connection waits for a request that its
	// client has sent, or will since it has just connected.
	lastCallTime = time.Second
)

// An intake is what reads a connection: its socket, the records in it, and the times
// by which something must have come. It belongs to the read loop, but for what is said
// to be of others too.
type intake struct {
	conn    *conn
	reader  *protocol.Reader
	socket  *socketReader
	bulk    *request  // the request whose large STDIN record was read last
	heard   time.Time // when bytes came last
	partial time.Time // when the record began to come that is not complete
	set     time.Time // the deadline that is set on the socket
	counted int       // bytes of the buffer that count as memory

	until     atomic.Int64 // when to stop reading, Unix nanoseconds; 0 is never. Of all
	unhandled atomic.Bool  // something was read and not handled. For all to look at
}

func (in *intake) init(c *conn) {
	in.conn = c
	in.socket = newSocketReader(c.nc)
	in.reader = protocol.NewReader(in)
}

// next returns the next record. While large ones of STDIN come for a program that
// takes them, their content goes to it without being read (nextPart). What has not come in time
// is ended, and an error tells that this is the connection itself.
func (in *intake) next() (protocol.Record, error) {
	for {
		rec, err := in.nextPart()
		switch {
		case in.isTimeout(err) && in.isLate():
			if err = in.expire(time.Now()); err != nil {
				return rec, err
			}
		case err == nil:
			in.partial = time.Time{}
			fallthrough
		default:
			return rec, err
		}
	}
}

// nextPart returns the next record, or the next part of a large one. The content of a
// large STDIN record goes from the socket to the program's pipe, if table.stdin has noted
// that record as bulk and the program waits: then it is in no record that is returned.
func (in *intake) nextPart() (protocol.Record, error) {
	r := in.bulk
	if r == nil || !in.mayBulk(r) {
		return in.reader.Next()
	}
	for in.reader.Left() > 0 {
		n, err := in.splice(r.stdin.(*liveBody), in.reader.Left())
		if err != nil {
			return protocol.Record{}, err
		}
		if n == 0 {
			return in.reader.Next()
		}
		in.reader.Took(n)
		r.received.Add(int64(n))
		r.heard.Store(in.heard.UnixNano())
	}
	return in.reader.NextPart(bulkMin)
}

// mayBulk reports whether STDIN of r can go straight to its program.
func (in *intake) mayBulk(r *request) bool {
	if in.socket.rc == nil || r.stdinClosed || r.refusal != nil || in.until.Load() != 0 {
		return false
	}
	live, ok := r.stdin.(*liveBody)
	return ok && live.isDirect()
}

// isTimeout reports whether err is that of a deadline. Not every net.Conn has
// os.ErrDeadlineExceeded for it; of a socket other errors are timeouts too.
func (in *intake) isTimeout(err error) bool {
	if in.socket.rc != nil {
		return errors.Is(err, os.ErrDeadlineExceeded)
	}
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// trim gives up memory that is not needed while nothing comes; while there is little,
// also what the next record of a body will need again.
func (in *intake) trim() {
	if len(in.conn.table.receiving) == 0 || in.conn.all.isShort() {
		in.reader.Release()
	}
	in.noteSize()
}

// noteSize counts the buffer: a client that sends half a record keeps it in use for as
// long as it likes.
func (in *intake) noteSize() {
	if size := in.reader.Size(); size != in.counted {
		in.conn.charge(int64(size - in.counted))
		in.counted = size
	}
}

// Read reads what there is, until the deadline that is in force.
func (in *intake) Read(p []byte) (int, error) {
	in.prepare()
	n, err := in.readSome(p)
	in.noteHeard(n)
	return n, err
}

func (in *intake) readSome(p []byte) (int, error) {
	if in.socket.rc != nil {
		return in.socket.readTo(p)
	}
	return in.conn.nc.Read(p)
}

// Lend reads what there is, as Read does. See protocol.Lender.
func (in *intake) Lend() (buf []byte, n int, err error) {
	s := in.socket
	if s.rc == nil {
		buf = make([]byte, len(readBuffer{}))
		n, err = in.Read(buf)
		return buf, n, err
	}
	in.prepare()
	buf, n, err = s.lend()
	in.noteHeard(n)
	return buf, n, err
}

// GiveBack takes back a buffer.
func (in *intake) GiveBack(buf []byte) {
	if in.socket.rc != nil {
		readBuffers.Put((*readBuffer)(buf))
	}
}

// splice moves up to n bytes of STDIN to the program that has b for its body. It
// waits for the client as Read does; 0 without an error tells that they are to be
// read, since the program is not ready for them.
func (in *intake) splice(b *liveBody, n int) (moved int, err error) {
	in.prepare()
	moved, err = in.socket.spliceTo(b, n)
	in.noteHeard(moved)
	return moved, err
}

// prepare is for before a read.
func (in *intake) prepare() {
	in.conn.table.launchReady()
	if d := in.due(); !in.isEarly(d) {
		in.setDeadline(d)
	}
	in.unhandled.Store(in.reader.Pending())
}

// noteHeard notes that n bytes came.
func (in *intake) noteHeard(n int) {
	if n > 0 {
		in.unhandled.Store(true)
		in.heard = time.Now()
		in.conn.lane().received.Add(int64(n))
		in.noteSize()
	}
}

// isEarly reports whether the deadline that is set on the socket serves for d: one that
// is earlier does, since expire looks at what is due. To set it at each read costs more.
func (in *intake) isEarly(d time.Time) bool {
	if in.set.IsZero() || in.set.Equal(passed) {
		return d.Equal(in.set)
	}
	return d.IsZero() || !d.Before(in.set)
}

// setDeadline is for the read loop. Who ends the connection sets a deadline too, at
// any moment, and that one holds.
func (in *intake) setDeadline(d time.Time) {
	in.set = d
	in.conn.nc.SetReadDeadline(d)
	if until := in.until.Load(); until != 0 {
		in.conn.nc.SetReadDeadline(time.Unix(0, until))
	}
}

// stopAfter lets the read loop end after d. Anybody may call it.
func (in *intake) stopAfter(d time.Duration) {
	until := time.Now().Add(d)
	in.until.Store(until.UnixNano())
	in.conn.nc.SetReadDeadline(until)
}

// resume takes back what stopAfter has done: a request has come.
func (in *intake) resume() {
	in.until.Store(0)
	in.setDeadline(in.due())
}

// due is when the read loop has something to do although nothing came: the
// zero time for never.
func (in *intake) due() time.Time {
	if until := in.until.Load(); until != 0 {
		return time.Unix(0, until)
	}
	return sooner(in.dueOfAll(), in.conn.renewAt())
}

// dueOfAll is when something must have come: the zero time for never.
func (in *intake) dueOfAll() time.Time {
	t := &in.conn.table
	t.forgetAnswered()
	if len(t.receiving) > 0 {
		var first time.Time
		for _, r := range t.receiving {
			first = sooner(first, in.dueOf(r))
		}
		return first
	}
	limits := in.conn.server().settings.Load().Limits
	if limits.ReadTimeout > 0 && in.reader.Pending() {
		in.notePartial(time.Now())
		return in.partial.Add(limits.ReadTimeout)
	}
	if limits.IdleTimeout > 0 {
		since, _, idle := t.idleSince()
		if !idle {
			since = time.Now() // looked at again before the time can have passed
		}
		return since.Add(limits.IdleTimeout)
	}
	return time.Time{}
}

func (in *intake) notePartial(now time.Time) {
	if in.partial.IsZero() {
		in.partial = now
	}
}

// isStalled reports whether a record has been coming for longer than read_timeout, of a
// connection that waits for nothing else.
func (in *intake) isStalled(now time.Time) bool {
	in.notePartial(now)
	limit := in.conn.server().settings.Load().Limits.ReadTimeout
	return limit > 0 && now.Sub(in.partial) >= limit
}

// isLate reports whether a deadline that was set on the socket may be over. If not, a
// timeout is one of the connection's own, and its end: TCP's keepalive has such.
func (in *intake) isLate() bool {
	if in.until.Load() != 0 {
		return true // it ends soon in any case
	}
	return !in.set.IsZero() && !time.Now().Before(in.set)
}

// passed is a deadline that is not the next one, whatever that is.
var passed = time.Unix(0, 1)

// expire ends what has been silent for too long. An error ends the connection.
func (in *intake) expire(now time.Time) error {
	in.set = passed
	if until := in.until.Load(); until != 0 && now.UnixNano() >= until {
		return errStopped
	}
	if renew := in.conn.renewAt(); !renew.IsZero() && !now.Before(renew) {
		return errRenew
	}
	t := &in.conn.table
	t.forgetAnswered()
	if len(t.receiving) > 0 {
		for i := len(t.receiving) - 1; i >= 0; i-- {
			r := t.receiving[i]
			if d := in.dueOf(r); !d.IsZero() && !now.Before(d) {
				t.drop(r, ErrReadTimeout)
			}
		}
		return nil
	}
	limits := in.conn.server().settings.Load().Limits
	if limits.ReadTimeout > 0 && !in.partial.IsZero() && now.Sub(in.partial) >= limits.ReadTimeout {
		return errStalled
	}
	if limits.IdleTimeout > 0 && in.partial.IsZero() { // a record that comes may begin a request
		if since, _, idle := t.idleSince(); idle && now.Sub(since) >= limits.IdleTimeout {
			return errIdle
		}
	}
	return nil
}

// dueOf is when the client must have sent more of r: the zero time for never.
// PARAMS have to be complete by then, a body has to go on. While a record comes
// bit by bit no other can, so every byte of it is a sign of life of all bodies. Of a
// request that is answered nothing more is needed.
func (in *intake) dueOf(r *request) time.Time {
	timeout := r.settings.Limits.ReadTimeout
	heard := time.Unix(0, r.heard.Load())
	switch state := r.stateNow(); {
	case timeout == 0, state == stateAnswer:
		return time.Time{}
	case state == stateParams:
		return r.begun.Add(timeout)
	case in.reader.Pending() && in.heard.After(heard):
		return in.heard.Add(timeout)
	}
	return heard.Add(timeout)
}

// sooner is the earlier one of two times, of which the zero time is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// hasInput reports whether the client has sent something that was not handled.
// Anybody may ask.
func (in *intake) hasInput() bool {
	if in.unhandled.Load() {
		return true
	}
	sc, ok := in.conn.nc.(syscall.Conn) // also one that embeds a socket
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n > 0
}

// isOver reports whether err is an ordinary end of a connection.
func (in *intake) isOver(err error) bool {
	switch {
	case err == io.EOF, errors.Is(err, errIdle), errors.Is(err, errGiven), in.until.Load() != 0:
		return true
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe): // by us
		return true
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
