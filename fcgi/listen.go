package fcgi

import (
	"context"
	"io/fs"
	"net"

	"github.com/fcgid/fcgid/internal/listen"
)

// Listen listens on an address in the form that the whole module has: unix:/path,
// unix:@abstract, tcp:host:port, tcp:[v6]:port, or systemd:NAME for a socket that systemd
// has passed to this process.
//
// The file of a Unix socket gets exactly the mode, whatever the umask: 0o660 lets in its
// group, 0o666 every user of the machine. For other addresses the mode means nothing. A
// socket file is removed first if nobody listens there any more, and is an error if
// somebody does; it is removed again when the listener is closed. Owner and group are
// those of a new file: os.Chown changes them.
//
// When a [Server] stops that serves it, connections that the kernel has accepted by then
// are served, and none is reset. Whoever can connect can send requests in the name of any
// user of the web server: a TCP address should be one of the loopback, or behind a firewall.
func Listen(address string, mode fs.FileMode) (net.Listener, error) {
	l, err := listen.Open(context.Background(), listen.Options{Address: address, Mode: mode})
	if err != nil {
		return nil, err
	}
	return l, nil
}
