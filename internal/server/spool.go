package server

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// errSpoolFull tells that a pool's files, or those of one of its connections, have as
// much in them as they may.
var errSpoolFull = errors.New("limits.spool is reached")

// A budget is how much of something is used. What is taken or added is given back.
type budget struct{ used atomic.Int64 }

// take reports whether n more were within the limit; 0 is none. Then they are used.
func (b *budget) take(n, limit int64) bool {
	if b.used.Add(n) > limit && limit > 0 {
		b.used.Add(-n)
		return false
	}
	return true
}

// add uses n more, whatever the limit is.
func (b *budget) add(n int64) { b.used.Add(n) }

func (b *budget) giveBack(n int64) { b.used.Add(-n) }

// A spool is an unlinked file of a request. What it holds counts against limits.spool,
// of which one connection has a quarter at most.
type spool struct {
	req       *request
	file      *os.File // nil before the first write
	size      int64    // of the file
	allocated int64    // up to where allocate has been
}

// writeAt writes p, and makes the file if there is none.
func (s *spool) writeAt(p []byte, at int64) error {
	if err := s.reserve(at + int64(len(p))); err != nil {
		return err
	}
	return s.writeReserved(p, at)
}

// allocateFrom is the size from which on room is allocated for a file before it is written
// to, and the step in which that is done. To find room for each page as it is written
// takes a file system longer than to write it. A small file may need no room at all: it
// is gone before it is written to the disk.
const allocateFrom = 1 << 20

// writeReserved writes p where reserve has been called for.
func (s *spool) writeReserved(p []byte, at int64) error {
	if end := at + int64(len(p)); at >= allocateFrom && end > s.allocated {
		s.allocated = max(s.allocated, at)
		s.allocate(end)
	}
	_, err := s.file.WriteAt(p, at)
	return err
}

// allocate has the file system find room up to end and some more. Of errors it tells
// nothing: not every file system can, and if there is no room the write will tell.
func (s *spool) allocate(end int64) {
	to := (end/allocateFrom + 1) * allocateFrom
	if rc, err := s.file.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) {
			unix.Fallocate(int(fd), unix.FALLOC_FL_KEEP_SIZE, s.allocated, to-s.allocated)
		})
	}
	s.allocated = to
}

// reserve has the file hold up to size bytes, and makes it if there is none.
func (s *spool) reserve(size int64) error {
	if s.file == nil {
		f, err := openSpool(s.req.settings.SpoolDir)
		if err != nil {
			return err
		}
		s.file = f
	}
	if more := size - s.size; more > 0 {
		limit := s.req.settings.Limits.Spool
		switch {
		case !s.req.conn.spooled.take(more, limit/4):
			return fmt.Errorf("%w by one connection, which may have a quarter", errSpoolFull)
		case !s.req.server.spooled.take(more, limit):
			s.req.conn.spooled.giveBack(more)
			return errSpoolFull
		}
		s.size += more
	}
	return nil
}

// close gives up the file. To free the pages of a large one takes milliseconds, which
// the end of an answer does not wait for.
func (s *spool) close() {
	if s.file == nil {
		return
	}
	if file := s.file; s.size >= allocateFrom {
		s.req.conn.wg.Go(func() { file.Close() })
	} else {
		file.Close()
	}
	s.req.conn.spooled.giveBack(s.size)
	s.req.server.spooled.giveBack(s.size)
	s.file, s.size, s.allocated = nil, 0, 0
}

// openSpool makes a file that no folder names.
func openSpool(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, 0o600)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) {
		return nil, err
	}
	if f, err = os.CreateTemp(dir, "fcgid-spool-"); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
