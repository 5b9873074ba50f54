package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// patienceTime is how long a program waits for its client in all. After that what the
// client does not take at once goes to a file, so that the program can end.
const patienceTime = time.Second

// A backlog is what of an answer its client has yet to take, while its program goes on:
// the outlet's tail, and whole records in an unlinked file. A goroutine sends it; when
// it has sent all, records go to the client again.
type backlog struct {
	req *request

	adding sync.Mutex // held by who adds, also while that waits

	mu      sync.Mutex    // guards the fields below
	spool   spool         // records from readAt to writeAt; while writing it belongs to who adds
	readAt  int64         // up to where it was sent
	writeAt int64         // up to where it was written
	writing bool          // something is being written behind that
	sending bool          // there is something to send, and a goroutine that does
	used    bool          // there was
	closed  bool          // nothing more is taken
	empty   chan struct{} // closed when there is nothing to send; nil if nobody waits for that
}

// isEmpty reports whether records can go to the client.
func (b *backlog) isEmpty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isEmptyLocked()
}

func (b *backlog) isEmptyLocked() bool { return !b.sending && !b.writing }

// wasUsed reports whether some of the answer went through the backlog.
func (b *backlog) wasUsed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// start sees that the outlet's tail is sent.
func (b *backlog) start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sendLocked()
}

func (b *backlog) sendLocked() {
	b.used = true
	if !b.sending {
		b.sending = true
		b.req.conn.wg.Go(b.send)
	}
}

// add takes records. It waits only if the file is as large as it may be, until the
// client has taken all, or ctx ends. On false they are to be sent another way: there is
// no room for a file, and the backlog is empty.
func (b *backlog) add(ctx context.Context, records []byte) bool {
	b.adding.Lock()
	defer b.adding.Unlock()
	for {
		first, err := b.write(records)
		if err == nil {
			return true
		}
		if first {
			b.report(err)
		}
		select {
		case <-b.drained():
			if first {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
}

var errAnswerSpool = errors.New("limits.answer_spool is reached")

// write appends records. first tells that nothing stood in the file.
func (b *backlog) write(records []byte) (first bool, err error) {
	size := int64(len(records))
	b.mu.Lock()
	at := b.writeAt
	switch {
	case b.closed:
		b.mu.Unlock()
		return false, nil
	case at+size > b.req.settings.Limits.AnswerSpool:
		b.mu.Unlock()
		return at == 0, errAnswerSpool
	}
	b.writing = true
	b.mu.Unlock()

	err = b.spool.writeAt(records, at)

	b.mu.Lock()
	defer b.mu.Unlock()
	b.writing = false
	if err == nil {
		b.writeAt = at + size
		b.sendLocked()
	}
	b.restartLocked()
	return at == 0, err
}

// report tells why a program has to wait for its client.
func (b *backlog) report(err error) {
	b.req.server.opt.Log.Warn("answer cannot be spooled: its program waits for the client",
		"request", b.req.req.Serial, "client", b.req.req.Client(), "script", b.req.req.Params.Get("SCRIPT_FILENAME"), "error", err)
}

// drained returns what is closed when there is nothing to send.
func (b *backlog) drained() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isEmptyLocked() {
		return closedChan
	}
	if b.empty == nil {
		b.empty = make(chan struct{})
	}
	return b.empty
}

// close takes nothing more. What there is is sent.
func (b *backlog) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// drop gives up what is left: nobody wants it.
func (b *backlog) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.writeAt = true, b.readAt
}

// restartLocked gives up the file when all was sent. Its room is not written to again,
// since the socket may hold its pages.
func (b *backlog) restartLocked() {
	if !b.isEmptyLocked() {
		return
	}
	b.spool.close()
	b.req.silence.note(b.req)
	b.readAt, b.writeAt = 0, 0
	if b.empty != nil {
		close(b.empty)
		b.empty = nil
	}
}

// send is the goroutine that sends what there is.
func (b *backlog) send() {
	err := b.req.conn.out.write(b.req, nil) // the tail
	for {
		file, from, ok := b.next(err)
		if !ok {
			return
		}
		var n int64
		if n, err = recordAt(file, from); err != nil {
			err = b.req.conn.out.lose(fmt.Errorf("read spooled answer: %w", err))
			continue
		}
		err = b.req.conn.out.sendFile(b.req, file, from, n)
		b.mu.Lock()
		b.readAt += n
		b.mu.Unlock()
	}
}

// recordAt is the length of the record that begins there.
func recordAt(file *os.File, from int64) (int64, error) {
	var header [protocol.HeaderLen]byte
	_, err := file.ReadAt(header[:], from)
	return protocol.HeaderLen + int64(binary.BigEndian.Uint16(header[4:])) + int64(header[6]), err
}

// next is where the next record is, if there is one and it is wanted.
func (b *backlog) next(err error) (file *os.File, from int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.readAt < b.writeAt && err == nil {
		return b.spool.file, b.readAt, true
	}
	b.closed = b.closed || err != nil
	b.sending = false
	b.restartLocked()
	return nil, 0, false
}
