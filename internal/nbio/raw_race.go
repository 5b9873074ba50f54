//go:build race

package nbio

import "golang.org/x/sys/unix"

// These tell the race detector what it cannot see: that what was done before a
// write was done before the read that gets it.

func read(fd uintptr, p []byte) (int, error) { return unix.Read(int(fd), p) }

func write(fd uintptr, p []byte) (int, error) { return unix.Write(int(fd), p) }

func peek(fd uintptr, p []byte) (int, error) {
	n, _, err := unix.Recvfrom(int(fd), p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return n, err
}
