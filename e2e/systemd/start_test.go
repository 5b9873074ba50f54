//go:build systemd

package systemd

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// A wrong file is tried once and said in the journal; once corrected it starts, however
// often it was refused.
func TestWrongFile(t *testing.T) {
	m := installed(t)
	good := m.sh("cat " + configuration)
	m.write(configuration, good+"\nbad: true\n")
	for range 8 {
		m.fails("systemctl restart fcgid")
		for name, want := range map[string]string{"ActiveState": "failed", "ExecMainStatus": "78", "NRestarts": "0", "Result": "exit-code"} {
			if got := m.property("fcgid", name); got != want {
				t.Fatalf("%s=%s, want %s\n%s", name, got, want, m.journal())
			}
		}
	}
	if journal := m.journal(); !strings.Contains(journal, configuration+":") || !strings.Contains(journal, "bad: unknown key") {
		t.Errorf("the fault is not in the journal:\n%s", journal)
	}

	m.reboot()
	if state, restarts := m.property("fcgid", "ActiveState"), m.property("fcgid", "NRestarts"); state != "failed" || restarts != "0" {
		t.Errorf("at boot with a wrong file: %s, started again %s times", state, restarts)
	}
	m.write(configuration, good)
	m.sh("systemctl start fcgid")
	m.serves(cgiSocket)
}

// An address that is not there yet when the daemon starts.
func TestLateAddress(t *testing.T) {
	m := installed(t)
	m.sh(`cat >>` + configuration + ` <<'EOF'
  - name: tcp
    listen: [{address: "tcp:192.0.2.1:9000", allow: [192.0.2.0/24]}]
    user: www-data
    process: {root: [/usr/lib/cgi-bin]}
EOF`)
	m.fails("systemctl restart fcgid")
	// More often than systemd's own limit allows, five times in ten seconds.
	harness.Await(t, "six more starts", func() bool {
		restarts, err := strconv.Atoi(m.property("fcgid", "NRestarts"))
		return err == nil && restarts >= 6
	})
	m.sh("ip link set lo up && ip address add 192.0.2.1/24 dev lo")
	harness.Await(t, "the daemon to start", func() bool { return m.property("fcgid", "ActiveState") == "active" })
	m.serves("tcp:192.0.2.1:9000")
	m.serves(cgiSocket)
}

func TestKilled(t *testing.T) {
	m := installed(t)
	pid := m.property("fcgid", "MainPID")
	m.sh("kill -KILL " + pid)
	harness.Await(t, "another daemon", func() bool {
		now := m.property("fcgid", "MainPID")
		return now != pid && now != "0" && m.property("fcgid", "ActiveState") == "active"
	})
	m.serves(cgiSocket)
}

// A shutdown_timeout that is longer than what the unit gives is not cut off by it.
func TestStopTakesItsTime(t *testing.T) {
	m := installed(t)
	m.write("/etc/systemd/system/fcgid.service.d/short.conf", "[Service]\nTimeoutStopSec=1s\n")
	m.program("/usr/lib/cgi-bin/slow.cgi", "touch /tmp/runs; sleep 4; echo done\n")
	m.sh("systemctl daemon-reload")
	answer := make(chan string)
	go func() {
		got, err := m.try("fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/slow.cgi")
		answer <- fmt.Sprint(got, " ", err)
	}()
	harness.Await(t, "the program to run", func() bool { _, err := m.try("test -e /tmp/runs"); return err == nil })
	m.sh("systemctl stop fcgid")
	if got := <-answer; got != "done <nil>" {
		t.Errorf("a request that ran at the stop: %s", got)
	}
	if got := m.property("fcgid", "Result"); got != "success" {
		t.Errorf("the result of the stop: %s\n%s", got, m.journal())
	}
}
