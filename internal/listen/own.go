package listen

import (
	"errors"
	"net"
	"os"

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
	now, err := os.Lstat(l.file.path)
	return err != nil || !os.SameFile(now, l.file.info)
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
		info, err := os.Lstat(a.Name)
		return err == nil && l.file != nil && os.SameFile(info, l.file.info)
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
	own, other := l.tcpAddr(), resolve(a.Name)
	return own != nil && other != nil && own.Port == other.Port && (isWildcard(own.IP) || isWildcard(other.IP))
}

func isWildcard(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }

// tcpAddr is where l listens, nil when that is not TCP.
func (l *Listener) tcpAddr() *net.TCPAddr {
	a, _ := l.Addr().(*net.TCPAddr)
	return a
}

func resolve(hostPort string) *net.TCPAddr {
	a, err := net.ResolveTCPAddr(tcpNetwork(hostPort), hostPort)
	if err != nil {
		return nil
	}
	return a
}
