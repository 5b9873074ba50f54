//go:build systemd

package systemd

import (
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// The daemon divides the unit's control group, also where hardened.conf makes /sys
// read-only. Controllers are seldom to be had where this runs: see make test-vm.
func TestCgroups(t *testing.T) {
	m := installed(t)
	m.program("/usr/lib/cgi-bin/where.cgi", "cat /proc/self/cgroup\n")
	m.program("/usr/lib/cgi-bin/runs.cgi", "setsid sh -c 'setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $! >/tmp/runaway'\nsleep 600\n")
	m.sh("sed -i 's/^    silence: .*/    silence: 0/; s/^    timeout: .*/    timeout: 2s/; s/^      pids: 0/      pids: 500/; s/^      kill_grace: .*/      kill_grace: 100ms/' " + configuration)
	for _, unit := range []string{"as it comes", "hardened"} {
		if unit == "hardened" {
			m.sh(`install -D -m 0644 /usr/local/share/fcgid/hardened.conf /etc/systemd/system/fcgid.service.d/hardened.conf
systemctl daemon-reload`)
		}
		m.sh("systemctl restart fcgid")
		if where := m.ask(cgiSocket, "where.cgi"); !strings.Contains(where, "/fcgid.service/fcgid-tree-") || !strings.Contains(where, "/pool-cgi/own-") {
			t.Errorf("%s: a program is in %s\n%s", unit, where, m.journal())
		}
		m.try("fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/runs.cgi")
		harness.Await(t, "what has run away to end", func() bool {
			_, err := m.try("kill -0 $(find /tmp -name runaway -exec cat {} +)")
			return err != nil
		})
		m.sh("systemctl reload fcgid")
		m.serves(cgiSocket)
	}
	m.sh("systemctl stop fcgid")
	if left, _ := m.try("pgrep -u www-data -a"); strings.Contains(left, "sleep") {
		t.Errorf("the unit has left\n%s", left)
	}
}
