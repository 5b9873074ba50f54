package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindTCP listens on host:port, beside yielding ones that hold it, which are about to
// close.
func bindTCP(ctx context.Context, hostPort string, yielding []*Listener) (socketListener, error) {
	var config net.ListenConfig
	// Go would take MPTCP, on which splice and TCP_INFO are second class; no web
	// server speaks it to a FastCGI server.
	config.SetMultipathTCP(false)
	ln, err := config.Listen(ctx, tcpNetwork(hostPort), hostPort)
	if errors.Is(err, unix.EADDRINUSE) && len(yielding) > 0 {
		ln, err = bindBeside(ctx, &config, hostPort, yielding)
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("%w: another process listens on it", ErrInUse)
	}
	if err != nil {
		return nil, cause(err)
	}
	return ln.(*net.TCPListener), nil
}

// bindBeside listens on an address that sockets of our own overlap. The kernel lets
// sockets of one user do so which all have SO_REUSEPORT when they are bound. It is
// taken off again: no other process is to share the address with us.
func bindBeside(ctx context.Context, config *net.ListenConfig, hostPort string, yielding []*Listener) (net.Listener, error) {
	config.Control = func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error { return setReusePort(fd, true) })
	}
	for _, l := range yielding {
		if err := withFD(l.ln, func(fd int) error { return setReusePort(fd, true) }); err != nil {
			return nil, err
		}
		defer withFD(l.ln, func(fd int) error { return setReusePort(fd, false) })
	}
	ln, err := config.Listen(ctx, tcpNetwork(hostPort), hostPort)
	if err != nil {
		return nil, err
	}
	if err := withFD(ln.(*net.TCPListener), func(fd int) error { return setReusePort(fd, false) }); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
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

// bindAbstract listens on an abstract name, "@" before it.
func bindAbstract(ctx context.Context, name string) (socketListener, error) {
	var config net.ListenConfig
	ln, err := config.Listen(ctx, "unix", name)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, fmt.Errorf("%w: another process holds the name", ErrInUse)
	}
	if err != nil {
		return nil, cause(err)
	}
	return ln.(*net.UnixListener), nil
}

// cause takes off the net package's "listen tcp ADDRESS", which our errors say themselves.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
