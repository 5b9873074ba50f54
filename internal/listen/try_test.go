package listen

import (
	"os"
	"path/filepath"
	"testing"
)

// Addresses that the kernel does not let be beside each other are told before it is asked.
func TestClaims(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(dir, filepath.Join(dir, "again")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		first, second string
		clash         bool
	}{
		{"unix:" + dir + "/a", "unix:" + dir + "/b", false},
		{"unix:" + dir + "/a", "unix:" + dir + "/again/a", true},
		{"unix:" + dir + "/a", "unix:" + dir + "/again/../a", true},
		{"unix:" + dir + "/none/a", "unix:" + dir + "/none/b", false},
		{"unix:@a", "unix:@b", false},
		{"tcp:127.0.0.1:7", "tcp:127.0.0.1:8", false},
		{"tcp:127.0.0.1:7", "tcp:127.0.0.2:7", false},
		{"tcp:127.0.0.1:7", "tcp:0.0.0.0:7", true},
		{"tcp:127.0.0.1:7", "tcp:[::]:7", true},
		{"tcp:127.0.0.1:7", "tcp::7", true},
		{"tcp:0.0.0.0:7", "tcp:[::]:7", true},
		{"tcp:[::1]:7", "tcp:[::]:7", true},
		{"tcp:[::1]:7", "tcp:0.0.0.0:7", false},
		{"tcp:[::1]:7", "tcp:127.0.0.1:7", false},
		{"tcp:127.0.0.1:0", "tcp:127.0.0.1:0", false},
		{"tcp:no.such.host.invalid:7", "tcp:127.0.0.1:7", false},
		{"systemd:a", "systemd:b", false},
	} {
		for _, pair := range [][2]string{{test.first, test.second}, {test.second, test.first}} {
			var c Claims
			if taken := c.Add(pair[0]); taken != "" {
				t.Errorf("%s is in the way of itself: %s", pair[0], taken)
			}
			if taken := c.Add(pair[1]); (taken != "") != test.clash {
				t.Errorf("%s after %s: taken by %q", pair[1], pair[0], taken)
			}
		}
	}
}

// A trial says what binding says, and nobody can connect to what it makes.
func TestTry(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used, err := Open(t.Context(), Options{Address: "tcp:127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	for address, isFree := range map[string]bool{
		"unix:" + dir + "/s": true, "unix:" + dir + "/file": false, "unix:" + dir + "/none/s": false, "unix:" + dir + "/file/s": false,
		"unix:@" + dir: true, "tcp:127.0.0.1:0": true, "tcp:" + used.Addr().String(): false, "tcp:192.0.2.1:7": false, "none": false,
	} {
		o := Options{Address: address, Mode: 0o600}
		tryErr := Local{}.Try(&o, true)
		l, err := Open(t.Context(), o)
		if err == nil {
			l.Close()
		}
		if (tryErr == nil) != isFree || (err == nil) != isFree {
			t.Errorf("%s: a trial says %v, the real thing %v", address, tryErr, err)
		}
	}
	if err := (Local{}).Try(&Options{Address: "tcp:" + used.Addr().String()}, false); err != nil {
		t.Errorf("an address that need not be free: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
