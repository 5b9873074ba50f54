//go:build systemd

package systemd

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// The unit of docs/users.md starts as root, and its daemon is somebody else without any right:
// it restarts, reloads, comes back when it was killed, and programs can mail.
func TestApart(t *testing.T) {
	m := installed(t)
	m.program("/usr/lib/cgi-bin/who.cgi", "id -un\n")
	m.mails()
	m.apart()
	if got := m.ask(cgiSocket, "who.cgi"); got != "www-data" {
		t.Errorf("a program runs as %q", got)
	}
	main := m.property("fcgid", "MainPID")
	processes := strings.Fields(m.sh("ps -o pid=,user= --pid " + main + " --ppid " + main))
	if len(processes) != 4 || processes[0] != main || processes[1] != "root" || processes[3] != "fcgid" {
		t.Fatalf("processes: %q", processes)
	}
	daemon := processes[2]
	if status := m.sh("cat /proc/" + daemon + "/status"); !regexp.MustCompile(`(?s)CapEff:\s0+\n.*CapBnd:\s0+\n.*NoNewPrivs:\s1\n.*Seccomp:\s2`).MatchString(status) {
		t.Errorf("the daemon has more than it needs:\n%s", status)
	}
	m.sh("systemctl reload fcgid && systemctl restart fcgid")
	m.serves(cgiSocket)
	main = m.property("fcgid", "MainPID")
	m.sh("pkill -KILL -P " + main + " -u fcgid") // in the machine that was booted for this test
	harness.Await(t, "another daemon", func() bool {
		got, _ := m.try("fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/hello.cgi")
		return got == "hello" && m.property("fcgid", "MainPID") != main
	})
	if got := m.ask(cgiSocket, "sendmail.cgi"); got != "sent" {
		t.Errorf("sendmail: %q", got)
	}
	if got := m.ask(cgiSocket, "mail.php"); got != "sent" {
		t.Errorf("PHP's mail: %q", got)
	}
	harness.Await(t, "two mails", func() bool { return m.mailed() == "2" })
	overall := regexp.MustCompile(`Overall exposure level for fcgid.service: ([0-9.]+)`).FindStringSubmatch(m.sh("systemd-analyze security --no-pager fcgid.service"))
	if overall == nil {
		t.Fatal("systemd-analyze gives no figure")
	}
	t.Logf("exposure: %s", overall[1])
	if figure, err := strconv.ParseFloat(overall[1], 64); err != nil || figure > 4.5 {
		t.Errorf("exposure is %s, and is to be 4.5 at most", overall[1])
	}
}

// apart makes the unit the one of docs/users.md.
func (m *machine) apart() {
	m.t.Helper()
	m.sh("systemctl stop fcgid")
	m.sh(harness.Documented(m.t, "docs/users.md", "apart-unit"))
	m.sh(`sed -i 's/^user: .*/user: fcgid/; s/^    user: .*/    user: www-data/' ` + configuration + ` && systemctl start fcgid`)
	m.serves(cgiSocket)
}

// systemd follows the upgrade of two processes to the new spawner, and no client notices.
func TestApartUpgrade(t *testing.T) {
	m := installed(t)
	m.apart()
	harness.Await(t, "systemd to keep the sockets", func() bool { return m.property("fcgid", "NFileDescriptorStore") == "2" })
	stop := m.asked("/run/fcgid/cgi.sock")
	for i := range 4 {
		old := m.property("fcgid", "MainPID")
		if i%2 == 0 {
			m.sh("fcgid upgrade")
		} else {
			m.sh("systemctl kill --kill-who=main --signal=USR2 fcgid")
		}
		harness.Await(t, "systemd to know of the new spawner", func() bool {
			now := m.property("fcgid", "MainPID")
			return now != old && now != "0"
		})
		m.sh("systemctl reload fcgid")
		harness.Await(t, "the old one to end", func() bool { _, err := m.try("kill -0 " + old); return err != nil })
	}
	stop()
	main := m.property("fcgid", "MainPID")
	processes := strings.Fields(m.sh("ps -o pid=,user= --pid " + main + " --ppid " + main))
	if len(processes) != 4 || processes[0] != main || processes[1] != "root" || processes[3] != "fcgid" {
		t.Fatalf("processes: %q", processes)
	}
	if state, stored := m.property("fcgid", "SubState"), m.property("fcgid", "NFileDescriptorStore"); state != "running" || stored != "2" {
		t.Errorf("%s, %s sockets are kept", state, stored)
	}

	// One that does not start changes nothing.
	m.sh("cp " + configuration + " /tmp/good && echo 'bad: true' >>" + configuration)
	if out := m.fails("fcgid upgrade"); !strings.Contains(out, "unknown key") {
		t.Errorf("with a wrong file: %s", out)
	}
	m.sh("cp /tmp/good " + configuration)
	if now := m.property("fcgid", "MainPID"); now != main {
		t.Errorf("the main process is %s, and it was %s", now, main)
	}
	m.serves(cgiSocket)

	m.sh("kill -KILL " + main) // the new one is watched over
	harness.Await(t, "systemd to start another one", func() bool {
		now := m.property("fcgid", "MainPID")
		return now != main && now != "0" && m.property("fcgid", "ActiveState") == "active"
	})
	m.serves(cgiSocket)
	m.sh("fcgid upgrade && systemctl stop fcgid")
	if state := m.property("fcgid", "ActiveState"); state != "inactive" {
		t.Errorf("after the stop it is %s (%s)\n%s", state, m.property("fcgid", "Result"), m.journal())
	}
}
