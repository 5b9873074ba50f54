package listen

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sockets are made by system calls and not by package net, which would have the process poll
// them: one with rights is not to hear from clients.

// largestBacklog is cut by the kernel to its own.
const largestBacklog = 1<<31 - 1

// A manner is how a socket is bound.
type manner uint8

const (
	alone  manner = iota
	beside        // sockets that let it be there
	trial         // and does not listen: nobody can connect
)

// bindTCP listens on host:port, unless it is a trial.
func bindTCP(hostPort string, how manner) (fd int, err error) {
	a, err := net.ResolveTCPAddr(tcpNetwork(hostPort), hostPort)
	if err != nil {
		return -1, cause(err)
	}
	fd, err = listenTCP(a, how)
	if len(a.IP) == 0 && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)) {
		a.IP = net.IPv4zero // a machine without IPv6
		fd, err = listenTCP(a, how)
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return -1, fmt.Errorf("%w: another process listens on it", ErrInUse)
	}
	return fd, err
}

func listenTCP(a *net.TCPAddr, how manner) (fd int, err error) {
	family, sockaddr, err := sockaddrOf(a)
	if err != nil {
		return -1, err
	}
	fd, err = newSocket(family, unix.IPPROTO_TCP) // no MPTCP, on which splice and TCP_INFO are second class
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil && family == unix.AF_INET6 {
		isOne := 1
		if isWildcard(a.IP) {
			isOne = 0 // both families
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, isOne)
	}
	if err == nil && how == beside {
		err = setReusePort(fd, true)
	}
	if err == nil {
		err = listenAt(fd, unix.Bind(fd, sockaddr), how)
	}
	if err == nil && how == beside {
		err = setReusePort(fd, false) // no other process is to share the address with us
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func sockaddrOf(a *net.TCPAddr) (family int, s unix.Sockaddr, err error) {
	if ip := a.IP.To4(); ip != nil {
		return unix.AF_INET, &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}, nil
	}
	v6 := &unix.SockaddrInet6{Port: a.Port}
	copy(v6.Addr[:], a.IP.To16())
	if a.Zone != "" {
		zone, err := strconv.ParseUint(a.Zone, 10, 32)
		if i, ifErr := net.InterfaceByName(a.Zone); ifErr == nil {
			zone, err = uint64(i.Index), nil
		}
		if err != nil {
			return 0, nil, fmt.Errorf("there is no interface %q", a.Zone)
		}
		v6.ZoneId = uint32(zone)
	}
	return unix.AF_INET6, v6, nil
}

func newSocket(family, protocol int) (fd int, err error) {
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	return fd, nil
}

// listenAt has a socket listen that bind(2) has given an address, or not.
func listenAt(fd int, bindErr error, how manner) error {
	if bindErr != nil || how == trial {
		return os.NewSyscallError("bind", bindErr)
	}
	return os.NewSyscallError("listen", unix.Listen(fd, largestBacklog))
}

// besides calls bind while sockets of our own let it overlap them. The kernel lets sockets of
// one user do so which all have SO_REUSEPORT when they are bound. It is taken off again.
func besides(yielding []*Listener, bind func() error) error {
	for _, l := range yielding {
		if err := withFD(l.ln, func(fd int) error { return setReusePort(fd, true) }); err != nil {
			return err
		}
		defer withFD(l.ln, func(fd int) error { return setReusePort(fd, false) })
	}
	return bind()
}

func setReusePort(fd int, on bool) error {
	value := 0
	if on {
		value = 1
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, value); err != nil {
		return fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	return nil
}

// tcpNetwork keeps 0.0.0.0 to IPv4: with "tcp" Go would open it for IPv6 as well.
func tcpNetwork(hostPort string) string {
	if a, err := netip.ParseAddrPort(hostPort); err == nil && a.Addr().Is4() {
		return "tcp4"
	}
	return "tcp"
}

// bindAbstract listens at an abstract name with "@" before it, unless it is a trial.
func bindAbstract(name string, how manner) (fd int, err error) {
	fd, err = bindUnix(name, 0, how)
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("%w: another process holds the name", ErrInUse)
	}
	return fd, err
}

// bindUnix listens at a path, or at an abstract name with "@" before it. The file has that
// mode, less the umask: fchmod(2) on the socket settles it before there is one.
func bindUnix(name string, mode uint32, how manner) (fd int, err error) {
	fd, err = newSocket(unix.AF_UNIX, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Fchmod(fd, mode); err == nil {
		err = listenAt(fd, syscall.Bind(fd, &syscall.SockaddrUnix{Name: name}), how) // package unix has no abstract name of full length
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// cause takes off the net package's "listen tcp ADDRESS", which our errors say themselves.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
