//go:build systemd

package systemd

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// asked has clients ask the daemon, each request on a connection of its own, until what it
// returns is called. None may fail.
func (m *machine) asked(path string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if answer, err := hello(m.path(path)); err != nil || !strings.HasSuffix(answer, "\r\n\r\nhello\n") {
					m.t.Errorf("a request: %q, %v", answer, err)
					return
				}
			}
		})
	}
	return func() { cancel(); clients.Wait() }
}

// systemd follows an upgrade to the new daemon, which it ends, reloads and starts again like
// the one that it has started; no client notices.
func TestUpgrade(t *testing.T) {
	m := installed(t)
	// The sockets of the pool and of the admin server.
	harness.Await(t, "systemd to keep the sockets", func() bool { return m.property("fcgid", "NFileDescriptorStore") == "2" })
	stop := m.asked("/run/fcgid/cgi.sock")
	for i := range 4 {
		old := m.property("fcgid", "MainPID")
		if i%2 == 0 {
			m.sh("fcgid upgrade")
		} else {
			m.sh("systemctl kill --kill-who=main --signal=USR2 fcgid")
		}
		harness.Await(t, "systemd to know of the new daemon", func() bool {
			now := m.property("fcgid", "MainPID")
			return now != old && now != "0"
		})
		m.sh("systemctl reload fcgid")
		harness.Await(t, "the old one to end", func() bool { _, err := m.try("kill -0 " + old); return err != nil })
	}
	stop()
	if state, stored := m.property("fcgid", "SubState"), m.property("fcgid", "NFileDescriptorStore"); state != "running" || stored != "2" {
		t.Errorf("%s, %s sockets are kept", state, stored)
	}

	if processes := strings.Fields(m.sh("ps -o user= --ppid " + m.property("fcgid", "MainPID"))); len(processes) != 1 || processes[0] != "fcgid" {
		t.Errorf("the new main process has the children of %q", processes)
	}

	// One that does not start changes nothing.
	pid := m.property("fcgid", "MainPID")
	m.sh("cp " + configuration + " /tmp/good && echo 'bad: true' >>" + configuration)
	if out := m.fails("fcgid upgrade"); !strings.Contains(out, "unknown key") {
		t.Errorf("with a wrong file: %s", out)
	}
	m.sh("cp /tmp/good " + configuration)
	if now := m.property("fcgid", "MainPID"); now != pid {
		t.Errorf("the main process is %s, and it was %s", now, pid)
	}
	m.serves(cgiSocket)

	// And the new one is watched over.
	m.sh("kill -KILL " + pid)
	harness.Await(t, "systemd to start another one", func() bool {
		now := m.property("fcgid", "MainPID")
		return now != pid && now != "0" && m.property("fcgid", "ActiveState") == "active"
	})
	m.serves(cgiSocket)

	// A stop waits for what the old one still has.
	m.program("/usr/lib/cgi-bin/slow.cgi", "sleep 3; echo done")
	slow := make(chan string, 1)
	go func() {
		out, _ := m.try("fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/slow.cgi")
		slow <- out
	}()
	harness.Await(t, "the request to run", func() bool { return strings.Contains(m.sh("fcgid requests"), "slow.cgi") })
	m.sh("fcgid upgrade && systemctl stop fcgid")
	if out := <-slow; out != "done" {
		t.Errorf("the request that was running: %q\n%s", out, m.journal())
	}
	if state := m.property("fcgid", "ActiveState"); state != "inactive" {
		t.Errorf("after the stop it is %s (%s)\n%s", state, m.property("fcgid", "Result"), m.journal())
	}
}

// Without a socket unit, too, no client notices a restart: systemd keeps the sockets
// meanwhile. Those that the configuration does not have any more are gone afterwards.
func TestRestartKeepsSockets(t *testing.T) {
	m := installed(t)
	inode := m.inode("/run/fcgid/cgi.sock")
	stop := m.asked("/run/fcgid/cgi.sock")
	for range 5 {
		m.sh("systemctl restart fcgid")
	}
	stop()
	if now := m.inode("/run/fcgid/cgi.sock"); now != inode {
		t.Error("the socket is another one")
	}

	// A client that connects while there is none waits, also after a crash.
	m.write("/etc/systemd/system/fcgid.service.d/slow.conf", "[Service]\nRestartSec=2s\n")
	m.sh("systemctl daemon-reload && systemctl kill --kill-who=main --signal=KILL fcgid")
	harness.Await(t, "the daemon to be gone", func() bool { return m.property("fcgid", "SubState") == "auto-restart" })
	m.serves(cgiSocket)

	m.sh("sed -i 's|/run/fcgid/cgi.sock|/run/fcgid/other.sock|' " + configuration + " && systemctl restart fcgid")
	m.serves("unix:/run/fcgid/other.sock")
	m.sh("test ! -e /run/fcgid/cgi.sock")
	if stored := m.property("fcgid", "NFileDescriptorStore"); stored != "2" {
		t.Errorf("%s sockets are kept", stored)
	}
	m.sh("sed -i 's|/run/fcgid/other.sock|/run/fcgid/cgi.sock|' " + configuration + " && systemctl reload fcgid")
	harness.Await(t, "systemd to drop the other one", func() bool { return m.property("fcgid", "NFileDescriptorStore") == "2" })
	m.sh("test ! -e /run/fcgid/other.sock")
	m.sh("systemctl stop fcgid && systemctl start fcgid") // in place of the file that a stop leaves
	m.serves(cgiSocket)
}
