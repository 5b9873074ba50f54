// Package address reads the addresses that stand in configurations and on command
// lines: unix:/path, unix:@name, tcp:host:port and systemd:NAME.
package address

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

// maxName is what fits into sun_path beside the NUL that ends a path or begins an
// abstract name (unix(7)).
const maxName = 107

// A Kind is what stands before an address's first colon; Abstract is unix: with @.
type Kind string

// The kinds of addresses.
const (
	Unix     Kind = "unix"
	Abstract Kind = "abstract"
	TCP      Kind = "tcp"
	Systemd  Kind = "systemd"
)

// An Address is one that somebody listens on.
type Address struct {
	Kind Kind
	// Name is what follows the first colon, as it stands: /path, @name, host:port or
	// NAME. But for Systemd it is what net.Listen and net.Dial want.
	Name string
	// ID is equal for two spellings of one address, and "" if each use of it is
	// another address, as of port 0.
	ID string
	// IsLoopback tells of TCP that only this machine can connect.
	IsLoopback bool
}

// Parse reads an address. The error quotes it.
func Parse(s string) (Address, error) {
	kind, name, _ := strings.Cut(s, ":")
	if strings.ContainsRune(s, 0) {
		return Address{}, fmt.Errorf("%q contains NUL", s)
	}
	var a Address
	var err error
	switch Kind(kind) {
	case Unix:
		a, err = parseUnix(name)
	case TCP:
		a, err = parseTCP(name)
	case Systemd:
		a = Address{Kind: Systemd, ID: s}
		if name == "" || strings.Contains(name, ":") {
			err = errors.New("needs a name without a colon")
		}
	default:
		err = fmt.Errorf("is not unix:/path, unix:@name, tcp:host:port or systemd:NAME%s", hint(Meant(s)))
	}
	if err != nil {
		return Address{}, fmt.Errorf("%q %w", s, err)
	}
	a.Name = name
	return a, nil
}

// others are how other programs write addresses, and what stands before ours.
var others = []struct {
	form *regexp.Regexp
	want string
}{
	{regexp.MustCompile(`(?i)^(?:unix|fcgi|fastcgi|local|file|socket)?[:=]?(?://|unix:)?(/[^/].*)$`), "unix:"},
	{regexp.MustCompile(`^(@.+)$`), "unix:"},
	{regexp.MustCompile(`(?i)^(?:tcp4?|http|fcgi|fastcgi|inet|port)?:?(\d+)$`), "tcp:127.0.0.1:"},
	{regexp.MustCompile(`^\*:(\d+)$`), "tcp:0.0.0.0:"},
	{regexp.MustCompile(`(?i)^(?:(?:tcp[46]?|http|fcgi|fastcgi|inet)(?::|://))?([\w.-]+:\d+|\[[0-9a-f:.]+\]:\d+)/?$`), "tcp:"},
}

// Meant is ours for an address that another program would take, and "" for anything else.
func Meant(s string) string {
	for _, o := range others {
		m := o.form.FindStringSubmatch(s)
		if m == nil {
			continue
		}
		meant := o.want + m[1]
		if _, err := Parse(meant); err == nil {
			return meant
		}
	}
	return ""
}

// hint is the end of an error's text.
func hint(meant string) string {
	if meant == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", meant)
}

func parseUnix(name string) (Address, error) {
	switch abstract, ok := strings.CutPrefix(name, "@"); {
	case ok && len(abstract) > maxName:
		return Address{}, fmt.Errorf("has an abstract name of %d bytes, %d is the most", len(abstract), maxName)
	case ok && abstract != "":
		return Address{Kind: Abstract, ID: name}, nil
	case len(name) > maxName:
		return Address{}, fmt.Errorf("has a path of %d bytes, %d is the most", len(name), maxName)
	case !filepath.IsAbs(name) || isFolder[name[strings.LastIndexByte(name, '/')+1:]]:
		return Address{}, errors.New("needs an absolute path of a socket, or @name")
	}
	return Address{Kind: Unix, ID: filepath.Clean(name)}, nil
}

// isFolder are the last parts of names that are no file's.
var isFolder = map[string]bool{"": true, ".": true, "..": true}

var hostName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// IsHostName reports whether s may name a host.
func IsHostName(s string) bool { return hostName.MatchString(s) }

func parseTCP(hostport string) (Address, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return Address{}, errors.New("needs a host and a port, as tcp:127.0.0.1:9000 or tcp:[::1]:9000")
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return Address{}, fmt.Errorf("needs a port from 0 to 65535, not %q", port)
	}
	a := Address{Kind: TCP}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		host, a.IsLoopback = ip.String(), ip.IsLoopback()
	} else if host != "" && !IsHostName(host) {
		return Address{}, fmt.Errorf("has the host %q, which is neither a name nor an IP address", host)
	} else {
		host = strings.ToLower(host)
		a.IsLoopback = host == "localhost"
	}
	if port = strings.TrimLeft(port, "0"); port != "" {
		a.ID = net.JoinHostPort(host, port)
	}
	return a, nil
}

// ParseDial reads the address of somebody who listens already: not of Systemd, and
// of TCP with a host and a port. The error quotes it, and says what may be meant.
func ParseDial(s string) (network, name string, err error) {
	network, name, err = parseDial(s)
	switch kind, _, _ := strings.Cut(s, ":"); {
	case err == nil:
		return network, name, nil
	case Kind(kind) == Unix, Kind(kind) == TCP, Kind(kind) == Systemd, strings.ContainsRune(s, 0):
		return "", "", err
	}
	text := ""
	for _, form := range [...]string{Meant(s), "unix:" + s, "tcp:" + s} {
		if _, _, missed := parseDial(form); missed == nil {
			text = hint(form)
			break
		}
	}
	return "", "", fmt.Errorf("%q is not unix:/path, unix:@name or tcp:host:port%s", s, text)
}

func parseDial(s string) (network, name string, err error) {
	a, err := Parse(s)
	switch {
	case err != nil:
		return "", "", err
	case a.Kind == Systemd:
		return "", "", fmt.Errorf("%q is a socket that systemd passes to who listens", s)
	case a.Kind == TCP && (a.ID == "" || strings.HasPrefix(a.Name, ":")):
		return "", "", fmt.Errorf("%q needs a host and a port, as tcp:127.0.0.1:9000 or tcp:[::1]:9000", s)
	case a.Kind == TCP:
		return "tcp", a.Name, nil
	}
	return "unix", a.Name, nil
}
