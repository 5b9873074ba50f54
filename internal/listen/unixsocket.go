package listen

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/nbio"
)

// A unixSocket is a Unix socket that returns an *nbio.Conn for each connection. Package net
// puts each into the runtime's poller, and asks the kernel for its own address.
type unixSocket struct {
	file  *os.File
	raw   syscall.RawConn // of file
	local *net.UnixAddr
}

var _ socketListener = (*unixSocket)(nil)

// listenerAt returns a listener of its own on the socket of a file.
func listenerAt(f *os.File) (socketListener, error) {
	ln, err := net.FileListener(f) // which does not block
	if err != nil {
		return nil, err
	}
	switch ln := ln.(type) {
	case *net.TCPListener:
		return ln, nil
	case *net.UnixListener:
		defer ln.Close()
		fd, err := duplicate(ln)
		if err != nil {
			return nil, err
		}
		return newUnixSocket(fd, ln.Addr().(*net.UnixAddr))
	}
	_ = ln.Close()
	return nil, fmt.Errorf("it is of type %s", ln.Addr().Network())
}

// newUnixSocket takes over the descriptor of a socket that listens, and does not block.
func newUnixSocket(fd int, local *net.UnixAddr) (*unixSocket, error) {
	file := os.NewFile(uintptr(fd), local.String())
	raw, err := file.SyscallConn()
	if err != nil {
		file.Close()
		return nil, err
	}
	return &unixSocket{file, raw, local}, nil
}

// Accept waits for a client.
func (u *unixSocket) Accept() (net.Conn, error) {
	var conn net.Conn
	var err error
	waitErr := u.raw.Read(func(fd uintptr) bool {
		conn, err = u.accept(int(fd))
		return err != unix.EAGAIN
	})
	switch {
	case waitErr == os.ErrDeadlineExceeded:
		return nil, waitErr
	case waitErr != nil:
		return nil, net.ErrClosed
	case err != nil:
		return nil, os.NewSyscallError("accept4", err)
	}
	return conn, nil
}

// acceptNow is Accept of a connection that waits already; net.ErrClosed tells that there is none.
func (u *unixSocket) acceptNow() (conn net.Conn, err error) {
	if closed := (rawSocket{u.raw}).Control(func(fd uintptr) { conn, err = u.accept(int(fd)) }); closed != nil {
		return nil, closed
	}
	switch err {
	case nil:
		return conn, nil
	case unix.EAGAIN, unix.EINVAL: // the latter is of a socket that was shut down
		return nil, net.ErrClosed
	}
	return nil, os.NewSyscallError("accept4", err)
}

// accept takes a connection that waits, if there is one.
func (u *unixSocket) accept(listening int) (net.Conn, error) {
	var peer unix.RawSockaddrUnix
	for {
		size := uint32(unsafe.Sizeof(peer))
		fd, _, errno := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(listening), uintptr(unsafe.Pointer(&peer)), uintptr(unsafe.Pointer(&size)),
			unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0)
		switch errno {
		case 0:
			return nbio.NewConn(int(fd), u.local, unixAddr(&peer, size)), nil
		case unix.EINTR, unix.ECONNABORTED:
		default:
			return nil, errno
		}
	}
}

var noName = &net.UnixAddr{Name: "@", Net: "unix"} // as package net has it

// unixAddr is what a peer is bound to: as a rule nothing.
func unixAddr(a *unix.RawSockaddrUnix, size uint32) *net.UnixAddr {
	n := min(int(size)-int(unsafe.Offsetof(a.Path)), len(a.Path))
	if n <= 0 {
		return noName
	}
	path := (*[len(a.Path)]byte)(unsafe.Pointer(&a.Path))[:n]
	if path[0] == 0 {
		return &net.UnixAddr{Name: "@" + string(path[1:]), Net: "unix"}
	}
	return &net.UnixAddr{Name: unix.ByteSliceToString(path), Net: "unix"}
}

func (u *unixSocket) Close() error {
	if u.file.Close() != nil {
		return net.ErrClosed
	}
	return nil
}

func (u *unixSocket) Addr() net.Addr                        { return u.local }
func (u *unixSocket) SyscallConn() (syscall.RawConn, error) { return rawSocket{u.raw}, nil }
func (u *unixSocket) SetDeadline(t time.Time) error {
	err := u.file.SetReadDeadline(t)
	if err != nil && err != os.ErrNoDeadline {
		return net.ErrClosed
	}
	return err
}

// A rawSocket has the error of package net when it is closed: a file has one of its own.
type rawSocket struct{ syscall.RawConn }

// Control is of syscall.RawConn.
func (r rawSocket) Control(f func(fd uintptr)) error {
	if r.RawConn.Control(f) != nil {
		return net.ErrClosed
	}
	return nil
}
