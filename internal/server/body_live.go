package server

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/fcgid/fcgid/internal/nbio"
	"github.com/fcgid/fcgid/internal/protocol"
)

// fileChunk is how much is read of a spool file at once.
const fileChunk = 64 << 10

// A liveBody is read as it comes. What its runner has not read stands in memory, and
// what does not fit there in an unlinked file, whose room is used again when the runner
// has caught up.
//
// While nothing is held for a program that reads from a pipe, the read loop puts
// what comes straight into that, as far as there is room.
type liveBody struct {
	ctx    context.Context // at its end nothing is read any more
	memory int             // bytes held in memory
	limit  int64           // bytes in all; 0 is no bound

	mu         sync.Mutex // guards the fields below
	changed    sync.Cond
	size       int64 // of all that came
	mem        []byte
	counted    int    // of memory the most that mem has had
	spare      []byte // a buffer the reader gave back
	spool      spool  // holds what follows mem, from readAt to writeAt
	readAt     int64
	writeAt    int64
	ended      bool
	err        error // of reading the file
	discarding bool
	pipe       *inputPipe // of the program, while WriteTo runs
	idle       bool       // WriteTo waits, so the read loop may write to the pipe

	unread []byte // the end of a chunk of which Read has returned a part; the reader's
}

func newLiveBody(r *request) *liveBody {
	b := &liveBody{ctx: r.ctx, spool: spool{req: r}, memory: int(r.settings.Limits.BodyMemory), limit: r.settings.Limits.Body}
	b.changed.L = &b.mu
	return b
}

func (b *liveBody) write(p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.discarding || b.err != nil || b.ctx.Err() != nil {
		return nil
	}
	if b.limit > 0 && b.size+int64(len(p)) > b.limit {
		return errBodyTooLarge
	}
	b.size += int64(len(p))
	if b.isDirectLocked() {
		p = p[b.pipe.write(p):]
	}
	if len(p) == 0 {
		return nil
	}
	if b.writeAt == 0 && len(b.mem)+len(p) <= b.memory && b.hasRoomLocked(len(b.mem)+len(p)) {
		if b.mem == nil {
			b.mem, b.spare = b.spare[:0], nil
		}
		b.mem = append(b.mem, p...)
	} else if err := b.spoolLocked(p); err != nil {
		return fmt.Errorf("spool request body: %w", err)
	}
	b.changed.Signal()
	return nil
}

// hasRoomLocked reports whether n bytes may stand in memory. They are counted twice:
// while the reader has a chunk, the next one is filled.
func (b *liveBody) hasRoomLocked(n int) bool {
	if more := n - b.counted; more > 0 {
		if b.spool.req.memory.takeSpare(2*int64(more)) != nil {
			return false
		}
		b.counted = n
	}
	return true
}

func (b *liveBody) spoolLocked(p []byte) error {
	if err := b.spool.writeAt(p, b.writeAt); err != nil {
		return err
	}
	b.writeAt += int64(len(p))
	return nil
}

func (b *liveBody) complete() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.changed.Signal()
	return nil
}

// wake has a reader that waits notice the end of ctx.
func (b *liveBody) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changed.Signal()
}

func (b *liveBody) discard() { b.Close() }

// Close drops what is held and what still comes: nobody wants it any more. A
// reader that waits gets io.EOF.
func (b *liveBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.discarding = true
	b.mem, b.spare = nil, nil
	b.changed.Signal()
	b.spool.close()
	return nil
}

func (b *liveBody) length() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.size
}

// Read returns what has come, in its order, and waits when there is nothing.
func (b *liveBody) Read(p []byte) (int, error) {
	chunk, err := b.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, chunk)
	b.unread = chunk[n:]
	return n, nil
}

// WriteTo writes the body to w as it comes, without a copy of what is in memory.
// It counts what went through its hands, and not what the read loop wrote.
func (b *liveBody) WriteTo(w io.Writer) (int64, error) {
	b.attach(w)
	var total int64
	for {
		chunk, err := b.next()
		n := 0
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, err
		case chunk == nil:
			n = b.spliceFile()
		default:
			n, err = w.Write(chunk)
			b.giveBack(chunk)
		}
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// attach lets the read loop write to w if that is a pipe.
func (b *liveBody) attach(w io.Writer) {
	p, ok := w.(protocol.PipeWriter)
	if !ok {
		return
	}
	if pipe := newInputPipe(p); pipe != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.pipe = pipe
	}
}

// isDirectLocked reports whether the read loop may write to the program's pipe.
func (b *liveBody) isDirectLocked() bool {
	return b.idle && len(b.mem) == 0 && b.readAt == b.writeAt && !b.discarding && b.err == nil && b.ctx.Err() == nil
}

// isDirect is that for the read loop: nobody else can make it true meanwhile.
func (b *liveBody) isDirect() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.isDirectLocked()
}

// splice moves up to n bytes from the socket to the program's pipe. When it moves
// none, wait tells whether that is because the socket has none; else they are to
// be read and written.
func (b *liveBody) splice(socket, n int) (moved int, wait bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.isDirectLocked() || b.limit > 0 && b.size+int64(n) > b.limit {
		return 0, false
	}
	moved, wait = b.pipe.splice(socket, n)
	b.size += int64(moved)
	return moved, wait
}

// spliceFile moves some of what is in the file to the program's pipe, and waits
// until that has room. When it cannot, the pipe is written to like any writer from
// now on, which then tells why.
func (b *liveBody) spliceFile() int {
	b.mu.Lock()
	file, pipe, from, n := b.spool.file, b.pipe, b.readAt, b.writeAt-b.readAt
	b.mu.Unlock()
	moved, err := pipe.spliceFile(file, from, int(min(n, nbio.PipeSize)))
	b.spliced(moved, err != nil)
	return moved
}

// spliced notes that spliceFile has moved n bytes, or that it could not. A file that
// was read gives way to a new one: its room must not be written to again, since what is
// in the pipe are its pages.
func (b *liveBody) spliced(n int, failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if failed {
		b.pipe = nil
	}
	b.readAt += int64(n)
	if b.readAt == b.writeAt {
		b.spool.close()
		b.readAt, b.writeAt = 0, 0
	}
}

// next waits for bytes and returns them; they are the reader's. It returns none
// if they are in the file and spliceFile can move them.
func (b *liveBody) next() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.ctx.Err() != nil:
			return nil, context.Cause(b.ctx) // at once, whatever is buffered
		case b.err != nil:
			return nil, b.err
		case b.discarding:
			return nil, io.EOF
		case len(b.unread) > 0:
			chunk := b.unread
			b.unread = nil
			return chunk, nil
		case len(b.mem) > 0:
			chunk := b.mem
			b.mem = nil
			return chunk, nil
		case b.readAt < b.writeAt && b.pipe != nil:
			return nil, nil
		case b.readAt < b.writeAt:
			return b.readFileLocked()
		case b.ended:
			return nil, io.EOF
		}
		b.idle = b.pipe != nil
		b.changed.Wait()
		b.idle = false
	}
}

func (b *liveBody) readFileLocked() ([]byte, error) {
	chunk := b.spare
	b.spare = nil
	if cap(chunk) < fileChunk {
		chunk = make([]byte, fileChunk)
	}
	chunk = chunk[:min(int64(fileChunk), b.writeAt-b.readAt)]
	n, err := b.spool.file.ReadAt(chunk, b.readAt)
	if n == 0 {
		b.err = fmt.Errorf("read spooled request body: %w", err)
		return nil, b.err
	}
	b.readAt += int64(n)
	if b.readAt == b.writeAt {
		b.readAt, b.writeAt = 0, 0
	}
	return chunk[:n], nil
}

func (b *liveBody) giveBack(chunk []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spare = chunk[:0]
}
