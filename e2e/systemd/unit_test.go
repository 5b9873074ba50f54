//go:build systemd

package systemd

import (
	"fmt"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

const (
	configuration = "/etc/fcgid/fcgid.yaml"
	cgiSocket     = "unix:/run/fcgid/cgi.sock"
)

// installed is a machine on which README's way to install has been gone to its end. The
// configuration is the one that comes with it.
func installed(t *testing.T, layers ...string) *machine {
	t.Helper()
	m := newMachine(t, layers...)
	m.program("/usr/lib/cgi-bin/hello.cgi", "echo hello")
	m.boot()
	if failed := m.sh("systemctl list-units --failed --plain --no-legend"); failed != "" {
		m.t.Fatalf("units have failed at boot:\n%s", failed)
	}
	m.sh("systemd-sysusers && systemd-tmpfiles --create fcgid.conf") // as make install does without DESTDIR
	m.sh(harness.Named(t, "unit-start"))
	m.serves(cgiSocket)
	return m
}

// ask runs a program of /usr/lib/cgi-bin, and returns what it prints.
func (m *machine) ask(address, script string) string {
	m.t.Helper()
	return m.sh("fcgid request " + address + " --script /usr/lib/cgi-bin/" + script)
}

// serves checks that the daemon behind an address answers.
func (m *machine) serves(address string) {
	m.t.Helper()
	if got := m.ask(address, "hello.cgi"); got != "hello" {
		m.t.Fatalf("got %q from %s\n%s", got, address, m.journal())
	}
}

func TestInstall(t *testing.T) {
	m := installed(t)
	m.program("/usr/lib/cgi-bin/limits.cgi", "id -un; ulimit -Sn; grep NoNewPrivs /proc/self/status | tr -d '[:space:]'")
	if got := m.ask(cgiSocket, "limits.cgi"); got != "www-data\n1024\nNoNewPrivs:0" {
		t.Errorf("a program is %q", got)
	}
	for name, want := range map[string]string{
		"TasksMax": "8192", "OOMPolicy": "continue", "LimitNOFILE": "524288", "ActiveState": "active", "UnitFileState": "enabled",
	} {
		if got := m.property("fcgid", name); got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
	pid := m.daemon()
	var soft, hard int
	if _, err := fmt.Sscanf(m.sh("grep 'open files' /proc/"+pid+"/limits"), "Max open files %d %d", &soft, &hard); err != nil || soft < hard-1 || hard <= 1024 {
		t.Errorf("the daemon may open %d files, its hard limit is %d: %v", soft, hard, err)
	}

	folders := "755 root /run/fcgid\n700 fcgid /run/fcgid/daemon\n700 fcgid /var/lib/fcgid\n750 fcgid /var/log/fcgid"
	if got := m.sh("stat -c '%a %U %n' /run/fcgid /run/fcgid/daemon /var/lib/fcgid /var/log/fcgid"); got != folders {
		t.Errorf("folders of the daemon:\n%s\nwant:\n%s", got, folders)
	}

	good := m.sh("cat " + configuration)
	m.write(configuration, good+"\nbad: true\n")
	m.fails("systemctl reload fcgid")
	m.serves(cgiSocket)
	m.write(configuration, good)
	m.sh("systemctl reload fcgid")

	m.reboot()
	m.serves(cgiSocket)
}
