package listen

import (
	"errors"
	"net"
	"os"
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

// IsAt tells whether address names the socket of l, if by another name: a folder may
// have two, and so has 127.0.0.1.
func (l *Listener) IsAt(address string) bool {
	kind, name, err := parseAddress(address)
	if err != nil {
		return false
	}
	switch kind {
	case unixPath:
		info, err := os.Lstat(name)
		return err == nil && l.file != nil && os.SameFile(info, l.file.info)
	case tcpHostPort:
		own, other := l.tcpAddr(), resolve(name)
		return own != nil && other != nil && own.Port == other.Port && own.IP.Equal(other.IP)
	}
	return address == l.Options().Address
}

// IsInTheWay tells whether l is why address is in use.
func (l *Listener) IsInTheWay(address string) bool {
	if l.IsAt(address) {
		return true
	}
	kind, name, err := parseAddress(address)
	if err != nil || kind != tcpHostPort {
		return false
	}
	own, other := l.tcpAddr(), resolve(name)
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
