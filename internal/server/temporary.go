package server

import (
	"errors"

	"golang.org/x/sys/unix"
)

// isTemporary reports whether accept may succeed later: the process or the
// machine has run out of something, or the connection was gone before we came.
func isTemporary(err error) bool {
	for _, e := range []error{
		unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED,
		unix.EPROTO, unix.EINTR, unix.EPERM, unix.ENETDOWN, unix.EHOSTDOWN,
		unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENONET, unix.ENOPROTOOPT,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
