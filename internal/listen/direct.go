package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrOtherMode is that of a socket which others accept connections of, or of one which we do,
// where the opposite is to be. O_NONBLOCK belongs to all who have the socket: programs would
// exit on EAGAIN, and we would hang.
var ErrOtherMode = errors.New("the socket cannot go from the daemon to direct workers or back while both have it: restart the daemon, or give the pool another address")

// A direct is the socket of a Listener whose connections others accept. It blocks, as
// programs expect of descriptor 0, and the runtime's poller does not know it: it would wake
// us for each connection.
type direct struct {
	file    *os.File // which blocks
	address net.Addr
}

var _ socketListener = (*direct)(nil)

// newDirect takes over a listener, which is closed.
func newDirect(ln socketListener) (*direct, error) {
	fd, err := duplicate(ln)
	if err != nil {
		return nil, fmt.Errorf("duplicate: %w", err)
	}
	address := ln.Addr()
	if err := ln.Close(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("have the socket block: %w", err)
	}
	return &direct{os.NewFile(uintptr(fd), address.String()), address}, nil
}

// Accept is never called: who has the socket as descriptor 0 accepts.
func (d *direct) Accept() (net.Conn, error) { return nil, net.ErrClosed }

func (d *direct) Close() error                          { return d.file.Close() }
func (d *direct) Addr() net.Addr                        { return d.address }
func (d *direct) SyscallConn() (syscall.RawConn, error) { return d.file.SyscallConn() }
func (d *direct) SetDeadline(time.Time) error           { return nil } // nobody waits

// IsDirect reports whether others accept the connections: Accept returns none.
func (l *Listener) IsDirect() bool {
	_, is := l.ln.(*direct)
	return is
}

// setMode has who is to accept the connections of a socket that was just opened be so.
func (l *Listener) setMode(o *Options) (err error) {
	switch {
	case o.Direct == l.IsDirect():
		return nil
	case l.handed > 0 || !o.Direct: // who has handed it over accepts, or its workers do
		return ErrOtherMode
	}
	ln, err := newDirect(l.ln)
	if err != nil {
		return err
	}
	l.ln = ln
	return nil
}

// Socket returns a descriptor of the socket of a Listener that IsDirect, for a program's
// descriptor 0. It is the caller's. It blocks, whatever programs have made of it before.
func (l *Listener) Socket() (fd int, err error) {
	if fd, err = duplicate(l.ln); err != nil {
		return -1, fmt.Errorf("duplicate %s: %w", l.Options().Address, err)
	}
	if err = unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("have %s block: %w", l.Options().Address, err)
	}
	return fd, nil
}

// listener is what was handed over. The file is the caller's.
func (h *Handed) listener(f *os.File) (socketListener, error) {
	if !h.Direct {
		return fileListener(f)
	}
	address, err := localAddr(f)
	if err != nil {
		return nil, err
	}
	fd, err := duplicate(f)
	if err != nil {
		return nil, err
	}
	return &direct{os.NewFile(uintptr(fd), f.Name()), address}, nil
}

// localAddr is where a listening socket listens, as package net has it.
func localAddr(f *os.File) (net.Addr, error) {
	var local unix.Sockaddr
	err := withFD(f, func(fd int) (err error) {
		local, err = unix.Getsockname(fd)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("getsockname: %w", err)
	}
	switch a := local.(type) {
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: a.Name, Net: "unix"}, nil
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}, nil
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}, nil
	}
	return nil, errors.New("it is neither unix nor tcp")
}

// StopDirect lets nothing new come to a Listener that IsDirect, as Drain does; what waits
// stays for who accepts, until it is closed. For a socket that somebody else has as well, or
// will have, it does nothing, and returns false.
func (l *Listener) StopDirect() (stopped bool, err error) {
	if l.passed || l.disowned.Load() || l.isBorrowed() || l.left.Load() {
		return false, nil
	}
	err = l.removeFile()
	if _, isTCP := l.Addr().(*net.TCPAddr); isTCP {
		return true, errors.Join(err, l.dropIncoming(false))
	}
	return true, errors.Join(err, withFD(l.ln, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) }))
}
