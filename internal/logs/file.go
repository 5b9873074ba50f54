package logs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// logPatience is how long a record waits for a log that takes nothing, such as
	// a FIFO whose reader has stopped.
	logPatience = time.Second
	// stuckLogPatience is how long further records wait, until one has gone through.
	stuckLogPatience = time.Millisecond
	// pipeSize is what a pipe that can be written to takes without blocking
	// (PIPE_BUF, pipe(7)).
	pipeSize = 4096
)

// A file is where a log goes: a file, which can be opened anew, one of the
// standard streams, or the journal's socket. With no output it drops what is written. It drops records too
// while what it writes to takes nothing: a log must not hold up the daemon.
type file struct {
	stuck     func(output string)            // called when records begin to be dropped; nil is none
	recovered func(output string, drops int) // called when they are not any more; nil is none
	lost      *atomic.Int64                  // counts records that were not written; nil is none

	mu     sync.Mutex // guards the fields below
	output string
	file   *os.File
	drops  int  // records dropped since the last one that was written
	cut    bool // the last one was written in part
}

// set makes f, which open has opened for output, the place.
func (l *file) set(output string, f *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	closeFile(l.file)
	l.output, l.file, l.cut = output, f, false
}

// open opens where a log goes; "" is nowhere.
func open(output string) (*os.File, error) {
	switch output {
	case "":
		return nil, nil
	case "stderr":
		return os.Stderr, nil
	case "stdout":
		return os.Stdout, nil
	case journalOutput:
		return openJournal()
	}
	// Not blocking: a FIFO that nobody reads is an error, not a wait, and a write
	// to one has a deadline.
	f, err := os.OpenFile(output, os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}

// Try is why a log could not be opened here and now, with the rights to files that the calling
// thread has; nil if nothing is known against it. It makes no file. Whether somebody reads a FIFO it
// does not ask: that one would take us for a writer who has left.
func Try(output string) error {
	if output == "" || output == "stderr" || output == "stdout" {
		return nil
	}
	info, err := os.Stat(output)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = unix.Faccessat(unix.AT_FDCWD, filepath.Dir(target(output))+"/.", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	case err == nil && info.Mode()&fs.ModeNamedPipe != 0:
		err = unix.Faccessat(unix.AT_FDCWD, output, unix.W_OK, unix.AT_EACCESS)
	case err == nil: // it is there, so none is made
		f, err := open(output)
		closeFile(f)
		return err
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	if err != nil {
		return fmt.Errorf("open log: %w", &fs.PathError{Op: "open", Path: output, Err: err})
	}
	return nil
}

// target is where a file is made that is not there: a link may lead to nothing.
func target(path string) string {
	for range 40 { // as many as the kernel follows
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return path
}

func closeFile(f *os.File) {
	if f != nil && f != os.Stderr && f != os.Stdout {
		f.Close()
	}
}

// reopen opens the file anew, after a rotation has moved the old one away, and returns
// its name.
func (l *file) reopen() (output string, err error) {
	l.mu.Lock()
	output = l.output
	l.mu.Unlock()
	f, err := open(output)
	if err == nil {
		l.set(output, f)
	}
	return output, err
}

// Write appends a record, or drops it when it cannot within logPatience, which is
// no error. It satisfies zapcore.WriteSyncer with Sync.
func (l *file) Write(p []byte) (int, error) {
	output, drops, err := l.write(p)
	if err != nil && l.lost != nil {
		l.lost.Add(1)
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		if drops == 1 && l.stuck != nil {
			l.stuck(output)
		}
	case err != nil:
		return 0, err
	case drops > 0 && l.recovered != nil:
		l.recovered(output, drops)
	}
	return len(p), nil
}

// write returns also how many records in a row were dropped, up to this one.
func (l *file) write(p []byte) (output string, drops int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return "", 0, nil
	}
	patience := logPatience
	if l.drops > 0 {
		patience = stuckLogPatience
	}
	if l.cut {
		p = append([]byte{'\n'}, p...)
	}
	n, err := writeWithin(l.file, p, patience)
	if l.output == journalOutput && isGone(err) {
		if f, openErr := openJournal(); openErr == nil {
			closeFile(l.file)
			l.file = f
			n, err = writeWithin(l.file, p, patience)
		}
	}
	if n > 0 {
		l.cut = n < len(p)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.drops++
		return l.output, l.drops, err
	}
	if err == nil {
		drops, l.drops = l.drops, 0
	}
	return l.output, drops, err
}

// isGone tells whether nobody is at the other end of a socket any more.
func isGone(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ENOTCONN)
}

// Sync does nothing: each line is written at once.
func (l *file) Sync() error { return nil }

// writeWithin writes p, or returns os.ErrDeadlineExceeded when f does not take it
// within patience; n bytes of it were written then.
func writeWithin(f *os.File, p []byte, patience time.Duration) (n int, err error) {
	deadline := time.Now().Add(patience)
	if f != os.Stderr && f != os.Stdout {
		_ = f.SetWriteDeadline(deadline) // a file has none, and does not block
		n, err = f.Write(p)
		if errors.Is(err, unix.EMSGSIZE) { // of the journal's socket
			return len(p), sendLarge(f, p)
		}
		return n, err
	}
	// Others hold the standard streams too, so they are not to be non-blocking.
	for n < len(p) {
		if err := awaitWritable(f, deadline); err != nil {
			return n, err
		}
		written, err := f.Write(p[n:min(n+pipeSize, len(p))])
		n += written
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// awaitWritable waits until f takes pipeSize bytes, or is broken.
func awaitWritable(f *os.File, deadline time.Time) (err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var ready int
	var pollErr error
	err = conn.Control(func(fd uintptr) {
		for {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
			left := max(0, time.Until(deadline).Milliseconds())
			if ready, pollErr = unix.Poll(fds, int(left)); pollErr != unix.EINTR {
				return
			}
		}
	})
	if err := errors.Join(err, pollErr); err != nil {
		return err
	}
	if ready == 0 {
		return os.ErrDeadlineExceeded
	}
	return nil
}
