package listen

import (
	"errors"
	"io/fs"
	"net"

	"github.com/fcgid/fcgid/internal/address"
)

// ErrInUse is that of an address which somebody listens on.
var ErrInUse = errors.New("address in use")

// IsLost tells whether nobody can reach the socket by its name any more: the file of
// a unix:/path is gone, or another one is in its place.
func (l *Listener) IsLost() bool {
	if l.file == nil {
		return false
	}
	now, err := l.by.Find(l.file.Path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !now.IsSame(l.file)
}

// IsAt tells whether an address names the socket of l, if by another name: a folder may
// have two, and so has 127.0.0.1.
func (l *Listener) IsAt(text string) bool {
	a, err := address.Parse(text)
	if err != nil {
		return false
	}
	switch a.Kind {
	case address.Unix:
		if l.file == nil {
			return false
		}
		now, err := l.by.Find(a.Name)
		return err == nil && now.IsSame(l.file)
	case address.TCP:
		own, other := l.tcpAddr(), resolve(a.Name)
		return own != nil && other != nil && own.Port == other.Port && own.IP.Equal(other.IP)
	}
	return text == l.Options().Address
}

// IsInTheWay tells whether l is why an address is in use.
func (l *Listener) IsInTheWay(text string) bool {
	if l.IsAt(text) {
		return true
	}
	a, err := address.Parse(text)
	if err != nil || a.Kind != address.TCP {
		return false
	}
	return overlap(l.tcpAddr(), resolve(a.Name))
}

// overlap reports whether a connection may be for either of two addresses: they have the
// same port, and the same host or one that stands for all. A nil address overlaps none.
func overlap(a, b *net.TCPAddr) bool {
	return a != nil && b != nil && a.Port == b.Port && (a.IP.Equal(b.IP) || isWildcard(a.IP) || isWildcard(b.IP))
}

// IsAfter reports whether l has taken the place of another socket: whether clients that
// use that one's name may reach l now.
func (l *Listener) IsAfter(other *Listener) bool {
	if l.file != nil && other.file != nil {
		return l.file.Path == other.file.Path
	}
	return overlap(l.tcpAddr(), other.tcpAddr())
}

// Serves tells whether l is what a connection with this local address would reach.
func (l *Listener) Serves(local net.Addr) bool {
	own, other := l.tcpAddr(), tcpAddr(local)
	if own == nil || other == nil {
		return own == nil && other == nil
	}
	isFamily := own.IP.To4() == nil || other.IP.To4() != nil // 0.0.0.0 is IPv4 only
	return own.Port == other.Port && (own.IP.Equal(other.IP) || isWildcard(own.IP) && isFamily)
}

func isWildcard(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }

// tcpAddr is where l listens, nil when that is not TCP.
func (l *Listener) tcpAddr() *net.TCPAddr { return tcpAddr(l.Addr()) }

func tcpAddr(a net.Addr) *net.TCPAddr {
	tcp, _ := a.(*net.TCPAddr)
	return tcp
}

func resolve(hostPort string) *net.TCPAddr {
	a, err := net.ResolveTCPAddr(tcpNetwork(hostPort), hostPort)
	if err != nil {
		return nil
	}
	return a
}
