package listen

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// admit returns nil if c's client may connect, else why not and who it is.
func (o *Options) admit(c net.Conn) (client string, refused error) {
	switch { // checkFamily has seen to it that this is a connection to the kind of socket
	case len(o.AllowUIDs) > 0:
		return o.admitUser(c.(syscall.Conn))
	case len(o.Allow) > 0:
		return c.RemoteAddr().String(), o.admitAddr(c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
	}
	return "", nil
}

// PeerOf asks the kernel who is at the other end of a connection to a Unix socket (SO_PEERCRED).
func PeerOf(c syscall.Conn) (peer *unix.Ucred, err error) {
	err = withFD(c, func(fd int) (err error) {
		peer, err = unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		return err
	})
	return peer, err
}

// HasLeft reports whether who is at the other end of a connection sends no more: it has closed
// that, or has ended. It is true at once, whoever reads from the connection.
func HasLeft(c syscall.Conn) bool {
	var events int16
	err := withFD(c, func(fd int) error {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		_, err := unix.Poll(poll, 0)
		events = poll[0].Revents
		return err
	})
	return err != nil || events&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}

// admitUser looks who connected. What cannot be told is not let in.
func (o *Options) admitUser(c syscall.Conn) (client string, refused error) {
	peer, err := PeerOf(c)
	if err != nil {
		return "unknown", fmt.Errorf("peer credentials: %w", err)
	}
	client = fmt.Sprintf("pid %d uid %d", peer.Pid, peer.Uid)
	if !slices.Contains(o.AllowUIDs, peer.Uid) {
		return client, fmt.Errorf("uid %d is not in allow_uids", peer.Uid)
	}
	return client, nil
}

func (o *Options) admitAddr(a netip.Addr) error {
	// An IPv4 client of a dual-stack socket comes as ::ffff:a.b.c.d, and a
	// Prefix contains no address with a zone.
	a = a.Unmap().WithZone("")
	for _, p := range o.Allow {
		if unmapPrefix(p).Contains(a) {
			return nil
		}
	}
	return fmt.Errorf("%s is in no network of allow", a)
}

// unmapPrefix turns ::ffff:a.b.c.d/96+n into a.b.c.d/n.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}
