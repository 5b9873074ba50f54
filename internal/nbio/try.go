package nbio

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// TryRead reads what there is from a socket. It returns 0 without an error at the
// end, and EAGAIN when there is nothing yet, whether the socket is said to block or
// not: O_NONBLOCK belongs to all who share the socket, and one of them may take it
// away at any moment, as os.File.Fd does. It is not for a pipe: see ReadPipe.
//
// The runtime's scheduler is not told of the system call. It takes the processor
// away from a thread that is in one for 20 µs, which on a busy machine is so
// whenever the kernel lets the one run first who was woken, and another thread has
// to be woken for it; as long as that happens, a thread of the runtime's own looks
// every 20 µs.
func TryRead(fd uintptr, p []byte) (n int, err error) {
	for {
		if n, err = read(fd, p); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// TryWrite writes what there is room for, as TryRead reads.
func TryWrite(fd uintptr, p []byte) (n int, err error) {
	for {
		if n, err = write(fd, p); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// Blocks reports whether what knows no MSG_DONTWAIT, as splice(2), would wait for
// the socket at fd.
func Blocks(fd uintptr) bool {
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	return err != nil || flags&unix.O_NONBLOCK == 0
}

// TryPeek is TryRead that leaves in the socket what is read.
func TryPeek(fd uintptr, p []byte) (n int, err error) {
	for {
		if n, err = peek(fd, p); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
