//go:build systemd

package systemd

import (
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// Whatever the daemon refuses a reload for, systemctl reload fails, the reason is where
// the operator looks, and the service serves on. A good file is taken afterwards.
func TestReloadRefused(t *testing.T) {
	m := installed(t)
	m.sh("ip link set lo up")
	pid := m.property("fcgid", "MainPID")
	good := m.sh("cat "+configuration) + "\n"
	second := func(listen string) string {
		return good + "  - name: second\n    listen: " + listen + "\n    user: www-data\n    process: {root: [/usr/lib/cgi-bin]}\n"
	}
	m.sh("install -d -o nobody -m 0755 /run/closed; systemd-run --quiet --unit=holder php-cgi -b 127.0.0.1:9999")
	harness.Await(t, "somebody to have the port", func() bool {
		_, err := m.try("ss -Htln 'sport = 9999' | grep -q .")
		return err == nil
	})
	for name, test := range map[string]struct{ file, reason string }{
		"a missing folder":             {second("unix:/run/none/s"), "/run/none: no such file or directory"},
		"a folder of somebody else's":  {second("unix:/run/closed/s"), "/run/closed: permission denied"},
		"a port in use":                {second("tcp:127.0.0.1:9999"), "127.0.0.1:9999: address in use"},
		"a log that may not be opened": {strings.Replace(good, "output: stderr", "output: /run/closed/log", 1), "/run/closed/log"},
		"an unknown key":               {good + "bad: true\n", "bad: unknown key"},
		"no YAML":                      {"pools: [\n", "fcgid.yaml:"},
	} {
		m.write(configuration, test.file)
		m.fails("systemctl reload fcgid")
		if got := m.fails("fcgid reload"); !strings.Contains(got, test.reason) {
			t.Errorf("%s: fcgid reload says %q, want %q", name, got, test.reason)
		}
		// systemctl status exits with 0 while the service runs.
		if got := m.sh("systemctl status --full --no-pager --lines=20 fcgid"); !strings.Contains(got, test.reason) {
			t.Errorf("%s: systemctl status says\n%s", name, got)
		}
		if got := m.property("fcgid", "MainPID"); got != pid {
			t.Errorf("%s: the daemon is %s, was %s", name, got, pid)
		}
		m.serves(cgiSocket)
		m.sh("fcgid status && fcgid pause cgi && fcgid resume cgi")
	}
	m.write(configuration, good)
	m.sh("systemctl reload fcgid")
	if got := m.sh("fcgid reload"); !strings.Contains(got, "pool unchanged") {
		t.Errorf("fcgid reload says %q", got)
	}
	if got := m.sh("stat -c '%a %U' /run/fcgid/control.sock"); got != "600 fcgid" {
		t.Errorf("the control socket is %s", got)
	}
	m.sh("setpriv --reuid fcgid --regid fcgid --clear-groups fcgid reload")
	m.fails("setpriv --reuid www-data --regid www-data --clear-groups fcgid reload") // as programs may try
	if got := m.fails("setpriv --reuid nobody --regid nogroup --clear-groups fcgid reload"); !strings.Contains(got, "only root and the daemon's user may") {
		t.Errorf("nobody is told %q", got)
	}
	m.sh("systemctl stop fcgid")
	m.fails("test -e /run/fcgid/control.sock")
}
