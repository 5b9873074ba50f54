package address

import (
	"net"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	long := strings.Repeat("x", 107)
	for s, want := range map[string]Address{
		"unix:/run/a:b":          {Unix, "/run/a:b", "/run/a:b", false},
		"unix:/run//./a":         {Unix, "/run//./a", "/run/a", false},
		"unix:/" + long[1:]:      {Unix, "/" + long[1:], "/" + long[1:], false},
		"unix:@a/b":              {Abstract, "@a/b", "@a/b", false},
		"unix:@" + long:          {Abstract, "@" + long, "@" + long, false},
		"tcp:127.0.0.1:9000":     {TCP, "127.0.0.1:9000", "127.0.0.1:9000", true},
		"tcp:[0::1]:080":         {TCP, "[0::1]:080", "[::1]:80", true},
		"tcp:[::ffff:1.2.3.4]:1": {TCP, "[::ffff:1.2.3.4]:1", "1.2.3.4:1", false},
		"tcp:LocalHost:1":        {TCP, "LocalHost:1", "localhost:1", true},
		"tcp::1":                 {TCP, ":1", ":1", false},
		"tcp:127.0.0.1:0":        {TCP, "127.0.0.1:0", "", true},
		"systemd:web":            {Systemd, "web", "systemd:web", false},
	} {
		if got, err := Parse(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for s, want := range map[string]string{
		"": "is not unix:/path", "/run/a": "is not unix:/path", "udp:1.2.3.4:1": "is not unix:/path", "UNIX:/a": "is not unix:/path",
		"unix:": "absolute path", "unix:a": "absolute path", "unix:@": "absolute path", "unix:/a/": "absolute path", "unix:/a/.": "absolute path", "unix:/..": "absolute path", "unix:/" + long: "path of 108 bytes", "unix:@" + long + "x": "name of 108 bytes",
		"tcp:": "a host and a port", "tcp:1": "a host and a port", "tcp:::1:2": "a host and a port", "tcp:a:": "a port from 0", "tcp:a:b": "a port from 0", "tcp:a:-1": "a port from 0",
		"tcp:a:65536": "a port from 0", "tcp:a b:1": "neither a name nor", "tcp:-a:1": "neither a name nor", "systemd:": "without a colon", "systemd:a:b": "without a colon", "unix:/a\x00": "contains NUL",
	} {
		if a, err := Parse(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v", s, a, err)
		}
	}
}

// Other programs write addresses in their ways.
func TestDidYouMean(t *testing.T) {
	for s, want := range map[string]string{
		"/run/a.sock": "unix:/run/a.sock", "unix:///run/a": "unix:/run/a", "UNIX:/run/a": "unix:/run/a", "fcgi:///run/a": "unix:/run/a",
		"unix:unix:/run/a": "", "unix=/run/a": "unix:/run/a", "@name": "unix:@name",
		"9000": "tcp:127.0.0.1:9000", ":9000": "tcp:127.0.0.1:9000", "http:9253": "tcp:127.0.0.1:9253", "*:9000": "tcp:0.0.0.0:9000",
		"127.0.0.1:9000": "tcp:127.0.0.1:9000", "localhost:9000": "tcp:localhost:9000", "[::1]:9000": "tcp:[::1]:9000",
		"fcgi://127.0.0.1:9000/": "tcp:127.0.0.1:9000", "tcp4:127.0.0.1:9000": "tcp:127.0.0.1:9000",
		"": "", "nonsense": "", "/": "", "/run/": "", "127.0.0.1:99999": "", "99999": "", "udp:1.2.3.4:1": "",
	} {
		_, err := Parse(s)
		switch hint := "(did you mean " + want + "?)"; {
		case err == nil && want == strings.Replace(s, "///", "/", 1): // it is ours as it stands
		case err == nil:
			t.Errorf("%q: no error", s)
		case want == "" && strings.Contains(err.Error(), "did you mean"), want != "" && !strings.Contains(err.Error(), hint):
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestParseDial(t *testing.T) {
	for s, want := range map[string][2]string{
		"unix:/run/a:b": {"unix", "/run/a:b"}, "unix:@name": {"unix", "@name"}, "tcp:127.0.0.1:9000": {"tcp", "127.0.0.1:9000"}, "tcp:[::1]:9000": {"tcp", "[::1]:9000"},
	} {
		if network, name, err := ParseDial(s); err != nil || network != want[0] || name != want[1] {
			t.Errorf("%s: %q, %q, %v", s, network, name, err)
		}
	}
	for _, s := range []string{"systemd:web", "tcp::9000", "tcp:localhost:0", "nonsense", "tcp:localhost"} {
		if network, name, err := ParseDial(s); err == nil {
			t.Errorf("%s: %q, %q", s, network, name)
		}
	}
	const forms = " is not unix:/path, unix:@name or tcp:host:port"
	for s, want := range map[string]string{
		"/run/x.sock":    `"/run/x.sock"` + forms + " (did you mean unix:/run/x.sock?)",
		"localhost:9000": `"localhost:9000"` + forms + " (did you mean tcp:localhost:9000?)",
		"9000":           `"9000"` + forms + " (did you mean tcp:127.0.0.1:9000?)",
		"nonsense":       `"nonsense"` + forms,
	} {
		if _, _, err := ParseDial(s); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", s, err, want)
		}
	}
}

// FuzzParse: what is read can be used, and its ID is that of the same address.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"unix:/a", "unix:@a", "tcp:localhost:1", "tcp:[::1%lo]:08", "systemd:a", "tcp:", "unix:/a/../b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s)
		if err != nil {
			if !strings.Contains(err.Error(), "\"") {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		prefix := map[Kind]string{Unix: "unix:", Abstract: "unix:", TCP: "tcp:", Systemd: "systemd:"}[a.Kind]
		if prefix+a.Name != s || a.IsLoopback && a.Kind != TCP {
			t.Fatalf("%q: %+v", s, a)
		}
		if a.ID != "" && a.Kind != Systemd {
			again, err := Parse(prefix + a.ID)
			if err != nil || again.ID != a.ID || again.Kind != a.Kind || again.IsLoopback != a.IsLoopback {
				t.Errorf("%q: %+v, then %+v, %v", s, a, again, err)
			}
		}
		if a.Kind == TCP {
			if _, _, err := net.SplitHostPort(a.Name); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}
