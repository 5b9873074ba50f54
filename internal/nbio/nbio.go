// Package nbio reads from and writes to descriptors in the runtime's poller at less
// cost than package net: waiting takes no memory, and what returns at once from a
// socket is no system call to the runtime's scheduler.
package nbio

import (
	"io"
	"syscall"
)

// Read waits until rc can be read and reads into the buffer that get returns.
// When there turns out to be nothing, put is called and the waiting goes on;
// else the buffer stays the caller's, also on error. It returns io.EOF at the
// end and os.ErrDeadlineExceeded when the descriptor's deadline has passed.
func Read(rc syscall.RawConn, get func() []byte, put func()) (n int, err error) {
	var rerr error
	got := false
	err = rc.Read(func(fd uintptr) bool {
		p := get()
		got = true
		n, rerr = ReadPipe(fd, p)
		if rerr == syscall.EAGAIN {
			put()
			got = false
			return false
		}
		return true
	})
	switch {
	case err != nil:
		if !got {
			get() // the caller may rely on having one
		}
		return 0, err
	case rerr != nil:
		return 0, rerr
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// ReadPipe is TryRead of a pipe, of which the scheduler is told: it may take long,
// and for ever if the program wants that. The kernel locks a pipe for who writes to
// it until it has copied what is written, and that may first have to be fetched from
// a disk, or by a process (userfaultfd(2)).
func ReadPipe(fd uintptr, p []byte) (n int, err error) {
	for {
		if n, err = syscall.Read(int(fd), p); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
