//go:build race

package nbio

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// These tell the race detector what it cannot see: that what was done before a
// write was done before the read that gets it. Package syscall does that in Read
// and Write alone, which know no MSG_DONTWAIT.

func read(fd uintptr, p []byte) (int, error) {
	var one [1]byte
	if _, err := peek(fd, one[:]); err != nil {
		return 0, err
	}
	return syscall.Read(int(fd), p) // does not wait: there is something, or the end
}

func write(fd uintptr, p []byte) (int, error) {
	if _, err := syscall.Write(int(fd), nil); err != nil { // sends nothing
		return 0, err
	}
	return unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

func peek(fd uintptr, p []byte) (int, error) {
	n, _, err := unix.Recvfrom(int(fd), p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n, err
}
