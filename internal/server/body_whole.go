package server

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A wholeBody has all come before it is read: it stands in memory, or if it is too
// large for that, in an unlinked file. So it needs no lock: it belongs to the read loop,
// and then to the runner.
type wholeBody struct {
	ctx    context.Context
	memory int64 // bytes held in memory
	limit  int64 // bytes in all; 0 is no bound

	size    int64
	mem     []byte // all of it, unless there is a file
	spool   spool  // all of it, if there is a file
	batch   *batch // the last of what is to be in the file, until the end; nil: none is taken
	batched int    // bytes in batch

	at     int64 // what was read
	closed atomic.Bool
}

// A batch is what is written to a file at once. A file system has some work for each
// write, and takes memory for it in pieces that are no larger than the write: records of
// STDIN are 32 KiB or less, and written one by one they cost twice as much. To give up what
// was written like that costs twice as much too. Only a body of
// allocateFrom bytes has one: a slow client's that is a little over body_memory takes none.
type batch [1 << 20]byte

var batches = sync.Pool{New: func() any { return new(batch) }}

func (b *wholeBody) write(p []byte) error {
	size := b.size + int64(len(p))
	if b.limit > 0 && size > b.limit {
		return errBodyTooLarge
	}
	if b.spool.file == nil && size <= b.memory {
		var err error
		if b.mem, err = b.spool.req.memory.append(b.mem, p); err == nil {
			b.size = size
			return nil
		} // short of memory it goes to the file
	}
	if err := b.toFile(p); err != nil {
		return fmt.Errorf("spool request body: %w", err)
	}
	b.size = size
	return nil
}

// toFile adds p, which is not counted in size yet.
func (b *wholeBody) toFile(p []byte) error {
	first := b.spool.file == nil
	if err := b.spool.reserve(b.size + int64(len(p))); err != nil {
		return err
	}
	if b.batch == nil && b.size >= allocateFrom {
		b.batch = b.newBatch()
	}
	if first {
		if err := b.add(b.mem, 0); err != nil {
			return err
		}
		b.spool.req.memory.giveBack(int64(cap(b.mem)))
		b.mem = nil
	}
	return b.add(p, b.size)
}

// add has p be what follows the first size bytes in the file.
func (b *wholeBody) add(p []byte, size int64) error {
	if b.batch == nil { // short of memory, or not large
		return b.spool.writeReserved(p, size)
	}
	for len(p) > 0 {
		n := copy(b.batch[b.batched:], p)
		p, size, b.batched = p[n:], size+int64(n), b.batched+n
		if b.batched < len(b.batch) {
			break
		}
		if err := b.writeBatch(size); err != nil {
			return err
		}
	}
	return nil
}

// writeBatch writes what waits, the last of size bytes, to the file.
func (b *wholeBody) writeBatch(size int64) error {
	full := b.batch[:b.batched]
	b.batched = 0
	return b.spool.writeReserved(full, size-int64(len(full)))
}

func (b *wholeBody) complete() error {
	var err error
	if b.batched > 0 {
		err = b.writeBatch(b.size)
	}
	b.dropBatch()
	if err != nil {
		return fmt.Errorf("spool request body: %w", err)
	}
	return nil
}

// newBatch returns nil when there is no memory for one more.
func (b *wholeBody) newBatch() *batch {
	if b.spool.req.memory.takeSpare(int64(len(batch{}))) != nil {
		return nil
	}
	return batches.Get().(*batch)
}

// dropBatch gives it back. What it holds that is not in the file is lost.
func (b *wholeBody) dropBatch() {
	if b.batch == nil {
		return
	}
	b.spool.req.memory.giveBack(int64(len(b.batch)))
	batches.Put(b.batch)
	b.batch, b.batched = nil, 0
}

func (b *wholeBody) length() int64 { return b.size }

// Whole returns the body if it is in memory and none of it was read. It reads nothing.
func (b *wholeBody) Whole() ([]byte, bool) {
	if b.spool.file != nil || b.at > 0 || b.closed.Load() || b.ctx.Err() != nil {
		return nil, false
	}
	return b.mem, true
}

// File returns the body as a file of its own, read-only and at its beginning, if it is
// in one; see protocol.Filer.
func (b *wholeBody) File() (*os.File, error) {
	if b.spool.file == nil || b.closed.Load() {
		return nil, nil
	}
	rc, err := b.spool.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if cerr := rc.Control(func(own uintptr) {
		fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", own), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("open spooled request body: %w", err)
	}
	return os.NewFile(uintptr(fd), "stdin"), nil
}

// Read reads on.
func (b *wholeBody) Read(p []byte) (n int, err error) {
	switch {
	case b.ctx.Err() != nil:
		return 0, context.Cause(b.ctx)
	case b.closed.Load() || b.at == b.size:
		return 0, io.EOF
	case b.spool.file == nil:
		n = copy(p, b.mem[b.at:])
	default:
		if n, err = b.spool.file.ReadAt(p[:min(int64(len(p)), b.size-b.at)], b.at); n > 0 {
			err = nil
		}
	}
	b.at += int64(n)
	if err != nil {
		err = fmt.Errorf("read spooled request body: %w", err)
	}
	return n, err
}

// WriteTo writes the rest to w, without a copy of what is in memory.
func (b *wholeBody) WriteTo(w io.Writer) (total int64, err error) {
	if b.spool.file == nil && b.ctx.Err() == nil && !b.closed.Load() {
		n, err := w.Write(b.mem[b.at:])
		b.at += int64(n)
		return int64(n), err
	}
	buf := getBuffer()
	defer buf.free()
	for {
		n, err := b.Read(buf.content())
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		n, err = w.Write(buf.content()[:n])
		if total += int64(n); err != nil {
			return total, err
		}
	}
}

// Close tells that no more is wanted. Anybody may call it.
func (b *wholeBody) Close() error {
	b.closed.Store(true)
	return nil
}

func (b *wholeBody) discard() {
	b.closed.Store(true)
	b.dropBatch()
	b.spool.close()
}
