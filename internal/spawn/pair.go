package spawn

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// NewPair is two connected Unix sockets of a type, such as unix.SOCK_STREAM: ours, and a
// descriptor for a process that is to be started.
func NewPair(socketType int) (ours *net.UnixConn, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, socketType|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("make a pair of sockets: %w", err)
	}
	if ours, err = ConnOf(fds[0]); err != nil {
		unix.Close(fds[1])
		return nil, -1, err
	}
	return ours, fds[1], nil
}

// ConnOf takes over a descriptor of a Unix socket. Also after an error it is closed.
func ConnOf(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("descriptor %d is no Unix socket", fd)
	}
	return unixConn, nil
}
