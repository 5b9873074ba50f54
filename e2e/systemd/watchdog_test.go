//go:build systemd

package systemd

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// short lets a test see what comes of the watchdog.
func (m *machine) short() {
	m.t.Helper()
	m.write("/etc/systemd/system/fcgid.service.d/short.conf", "[Service]\nWatchdogSec=2s\n")
	m.sh("systemctl daemon-reload && systemctl restart fcgid")
}

// startedAgain waits until the watchdog has had another daemon started.
func (m *machine) startedAgain(pid string) {
	m.t.Helper()
	harness.Await(m.t, "another daemon", func() bool {
		now := m.property("fcgid", "MainPID")
		return now != pid && now != "0" && m.property("fcgid", "ActiveState") == "active"
	})
	if journal := m.journalOf("fcgid"); !strings.Contains(journal, "Watchdog timeout") {
		m.t.Errorf("it was not the watchdog:\n%s", journal)
	}
	m.serves(cgiSocket)
}

func (m *machine) journalOf(unit string) string {
	m.t.Helper()
	return m.sh("journalctl --no-pager --output=cat --unit=" + unit)
}

func TestWatchdog(t *testing.T) {
	m := installed(t)
	if got := m.property("fcgid", "WatchdogUSec"); got != "30s" {
		t.Errorf("WatchdogUSec=%s", got)
	}
	m.short()
	pid := m.property("fcgid", "MainPID")
	// What nobody can do at the moment is no failure: its places are taken, it is paused.
	m.program("/usr/lib/cgi-bin/busy.cgi", "sleep 6; echo done\n")
	m.sh("sed -i 's/max_reqs: 0 /max_reqs: 1 /; s/max_conns: 1024/max_conns: 2/' " + configuration + " && systemctl reload fcgid")
	m.sh("fcgid pause cgi")
	for range 4 {
		go m.try("fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/busy.cgi")
	}
	harness.Await(t, "requests to wait", func() bool {
		return strings.Contains(m.property("fcgid", "StatusText"), "2 waiting") && strings.Contains(m.property("fcgid", "StatusText"), "paused: cgi")
	})
	m.sh("fcgid resume cgi")
	harness.Await(t, "requests to have run", func() bool { return strings.Contains(m.property("fcgid", "StatusText"), "4 served") })
	if now := m.property("fcgid", "MainPID"); now != pid {
		t.Fatalf("a daemon with full and paused pools was started again:\n%s", m.journal())
	}
	m.sh("kill -STOP " + m.daemon())
	m.startedAgain(pid)
}

// A daemon whose loop that accepts connections is stuck answers on its admin server and
// has healthy threads. The one of this test waits there while a file exists.
func TestWatchdogOfAStuckLoop(t *testing.T) {
	m := installed(t)
	harness.Run(t, exec.Command("install", "-m", "0755", stuckDaemon(t), m.path("/usr/local/bin/fcgid")))
	m.short()
	pid := m.property("fcgid", "MainPID")
	m.serves(cgiSocket)
	m.write("/run/stuck", "")
	go m.try("timeout 5 fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/hello.cgi")
	harness.Await(t, "a log of what is stuck", func() bool {
		return strings.Contains(m.journalOf("fcgid"), "pool cgi: who accepts connections at "+cgiSocket)
	})
	harness.Await(t, "systemd to end it", func() bool { return m.property("fcgid", "MainPID") != pid })
	m.sh("rm /run/stuck")
	m.startedAgain(pid)
	if !strings.Contains(m.journalOf("fcgid"), "goroutine ") {
		t.Error("the journal has no stacks")
	}
}

// stuckDaemon builds a daemon with a fault in it.
func stuckDaemon(t *testing.T) string {
	t.Helper()
	dir, source := t.TempDir(), filepath.Join(harness.Root(t), "internal/server/accept.go")
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	const good = "a.start(ctx, nc)\n"
	bad := "for { if _, err := os.Stat(\"/run/stuck\"); err != nil { break }; time.Sleep(time.Millisecond) }; " + good
	if strings.Count(string(text), good) != 1 {
		t.Fatalf("%s does not have %q once", source, good)
	}
	harness.Write(t, dir+"/accept.go", strings.Replace(string(text), good, bad, 1))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: dir + "/accept.go"}})
	if err != nil {
		t.Fatal(err)
	}
	harness.Write(t, dir+"/overlay.json", string(overlay))
	cmd := exec.Command("go", "build", "-overlay", dir+"/overlay.json", "-o", dir+"/fcgid", "./cmd/fcgid")
	cmd.Dir, cmd.Env = harness.Root(t), append(os.Environ(), "CGO_ENABLED=0")
	harness.Run(t, cmd)
	return dir + "/fcgid"
}

// systemctl status says what a stop waits for.
func TestStatusOfAStop(t *testing.T) {
	m := installed(t)
	m.program("/usr/lib/cgi-bin/slow.cgi", "touch /tmp/runs; while ! test -e /tmp/go; do sleep 0.1; done\n")
	go m.try("fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/slow.cgi")
	harness.Await(t, "the program to run", func() bool { _, err := m.try("test -e /tmp/runs"); return err == nil })
	m.sh("systemctl stop --no-block fcgid")
	harness.Await(t, "what the stop waits for", func() bool {
		return strings.Contains(m.property("fcgid", "StatusText"), "stopping, waits for pool cgi: 1 request, the oldest /usr/lib/cgi-bin/slow.cgi (pid ")
	})
	m.sh("touch /tmp/go")
	harness.Await(t, "the stop", func() bool { return m.property("fcgid", "ActiveState") == "inactive" })
}
