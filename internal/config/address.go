package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// maxUnixPath is what fits into sun_path beside its final NUL.
const maxUnixPath = 107

// An address is one that a pool or the admin server may listen on.
type address struct {
	kind     string // unix, abstract, tcp or systemd
	id       string // equal for two spellings of one address; "" if each use is another address
	loopback bool   // of tcp: only this machine can connect
}

// parseAddress reads unix:/path, unix:@name, tcp:host:port and systemd:NAME.
func parseAddress(s string) (address, error) {
	kind, rest, _ := strings.Cut(s, ":")
	if strings.ContainsRune(s, 0) {
		return address{}, fmt.Errorf("%q contains NUL", s)
	}
	var a address
	var err error
	switch kind {
	case "unix":
		a, err = parseUnix(rest)
	case "tcp":
		a, err = parseTCP(rest)
	case "systemd":
		a = address{kind: kind, id: s}
		if rest == "" || strings.Contains(rest, ":") {
			err = errors.New("needs a name without a colon")
		}
	default:
		err = errors.New("is not unix:/path, unix:@name, tcp:host:port or systemd:NAME")
	}
	if err != nil {
		return address{}, fmt.Errorf("%q %w", s, err)
	}
	return a, nil
}

func parseUnix(path string) (address, error) {
	switch {
	case len(path) > maxUnixPath:
		return address{}, fmt.Errorf("has a path of %d bytes, %d is the most", len(path), maxUnixPath)
	case strings.HasPrefix(path, "@") && len(path) > 1:
		return address{kind: "abstract", id: path}, nil
	case !filepath.IsAbs(path) || strings.HasSuffix(path, "/"):
		return address{}, errors.New("needs an absolute path of a socket, or @name")
	}
	return address{kind: "unix", id: filepath.Clean(path)}, nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func parseTCP(hostport string) (address, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return address{}, errors.New("needs a host and a port, as tcp:127.0.0.1:9000 or tcp:[::1]:9000")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return address{}, fmt.Errorf("needs a port from 0 to 65535, not %q", port)
	}
	a := address{kind: "tcp"}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		host, a.loopback = ip.String(), ip.IsLoopback()
	} else if host != "" && !hostName.MatchString(host) {
		return address{}, fmt.Errorf("has the host %q, which is neither a name nor an IP address", host)
	} else {
		host = strings.ToLower(host)
		a.loopback = host == "localhost"
	}
	if port = strings.TrimLeft(port, "0"); port != "" {
		a.id = net.JoinHostPort(host, port)
	}
	return a, nil
}
