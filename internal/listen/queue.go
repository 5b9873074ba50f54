package listen

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// AcceptQueue returns how many connections wait in the kernel for Accept. For a
// Unix socket it needs the kernel's unix_diag and may use a netlink socket; where
// it has not or may not, that is an error and says nothing about the Listener.
func (l *Listener) AcceptQueue() (n uint32, err error) {
	err = withFD(l.ln, func(fd int) error {
		if _, isUnix := l.Addr().(*net.UnixAddr); isUnix {
			n, err = unixAcceptQueue(fd)
		} else {
			n, err = tcpAcceptQueue(fd)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("accept queue of %s: %w", l.Options().Address, err)
	}
	return n, nil
}

// tcpAcceptQueue: in TCP_INFO of a listening socket tcpi_unacked is
// sk_ack_backlog (tcp_get_info in net/ipv4/tcp.c).
func tcpAcceptQueue(fd int) (uint32, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, err
	}
	return info.Unacked, nil
}

// From linux/unix_diag.h.
const (
	udiagShowRQLen = 0x10
	unixDiagRQLen  = 4
	unixDiagMsgLen = 16
)

// unixAcceptQueue asks sock_diag for the one socket with fd's inode number: a dump
// would cost a walk over all Unix sockets of the host.
func unixAcceptQueue(fd int) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("fstat: %w", err)
	}
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return 0, fmt.Errorf("dial sock_diag: %w", err)
	}
	defer conn.Close()
	replies, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request},
		Data:   unixDiagRequest(uint32(st.Ino)),
	})
	if err != nil {
		return 0, fmt.Errorf("ask sock_diag for inode %d: %w", st.Ino, err)
	}
	if len(replies) != 1 {
		return 0, fmt.Errorf("sock_diag gave %d answers for inode %d", len(replies), st.Ino)
	}
	return parseUnixDiagQueue(replies[0].Data)
}

// unixDiagRequest is a struct unix_diag_req.
func unixDiagRequest(inode uint32) []byte {
	const noCookie = 1<<32 - 1
	b := []byte{unix.AF_UNIX, 0, 0, 0}         // sdiag_family, sdiag_protocol, pad
	b = binary.NativeEndian.AppendUint32(b, 0) // udiag_states: for dumps
	b = binary.NativeEndian.AppendUint32(b, inode)
	b = binary.NativeEndian.AppendUint32(b, udiagShowRQLen)
	b = binary.NativeEndian.AppendUint32(b, noCookie)
	return binary.NativeEndian.AppendUint32(b, noCookie)
}

// parseUnixDiagQueue returns udiag_rqueue, which on a listening socket is the length
// of its accept queue, from a struct unix_diag_msg and its attributes.
func parseUnixDiagQueue(b []byte) (uint32, error) {
	if len(b) < unixDiagMsgLen {
		return 0, fmt.Errorf("sock_diag answer of %d bytes", len(b))
	}
	attributes, err := netlink.NewAttributeDecoder(b[unixDiagMsgLen:])
	if err != nil {
		return 0, fmt.Errorf("sock_diag answer: %w", err)
	}
	for attributes.Next() {
		if length := attributes.Bytes(); attributes.Type() == unixDiagRQLen && len(length) >= 4 {
			return binary.NativeEndian.Uint32(length), nil
		}
	}
	return 0, errors.Join(errors.New("sock_diag answer without a queue length"), attributes.Err())
}
