//go:build systemd

package systemd

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// exposure is what systemd thinks of a unit.
func (m *machine) exposure(unit string) float64 {
	m.t.Helper()
	overall := regexp.MustCompile(`Overall exposure level for .*: ([0-9.]+)`).FindStringSubmatch(m.sh("systemd-analyze security --no-pager " + unit))
	if overall == nil {
		m.t.Fatal("systemd-analyze gives no figure")
	}
	figure, err := strconv.ParseFloat(overall[1], 64)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Logf("exposure of %s: %s", unit, overall[1])
	return figure
}

// The unit starts as root, and its daemon is somebody else without any right: with the packaged
// file, and with hardened.conf too. It restarts, reloads, and comes back when it was killed.
func TestApart(t *testing.T) {
	m := installed(t)
	m.program("/usr/lib/cgi-bin/who.cgi", "id -un\n")
	for _, unit := range []struct {
		name string
		most float64
	}{{"as it comes", 4.3}, {"hardened", 2.6}} {
		if unit.name == "hardened" {
			m.sh(harness.Named(t, "unit-hardened"))
		}
		if got := m.ask(cgiSocket, "who.cgi"); got != "www-data" {
			t.Errorf("%s: a program runs as %q", unit.name, got)
		}
		main, daemon := m.property("fcgid", "MainPID"), m.daemon()
		if user := m.sh("ps -o user= -p " + main); user != "root" {
			t.Errorf("%s: the main process is %s's", unit.name, user)
		}
		status := m.sh("cat /proc/" + daemon + "/status")
		for _, want := range []string{`CapInh:\s0+\n`, `CapPrm:\s0+\n`, `CapEff:\s0+\n`, `CapBnd:\s0+\n`, `CapAmb:\s0+\n`, `NoNewPrivs:\s1\n`, `Seccomp:\s2\n`} {
			if !regexp.MustCompile(want).MatchString(status) {
				t.Errorf("%s: the daemon has more than it needs, not %s:\n%s", unit.name, want, status)
			}
		}
		m.sh("systemctl reload fcgid && systemctl restart fcgid")
		m.serves(cgiSocket)
		main = m.property("fcgid", "MainPID")
		m.sh("kill -KILL " + m.daemon())
		harness.Await(t, "another daemon", func() bool {
			got, _ := m.try("fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/hello.cgi")
			return got == "hello" && m.property("fcgid", "MainPID") != main
		})
		if got := m.exposure("fcgid.service"); got > unit.most {
			t.Errorf("%s: exposure is %.1f, and is to be %.1f at most", unit.name, got, unit.most)
		}
	}
	if got := m.exposure("fcgid@shop.service"); got > 1.5 {
		t.Errorf("exposure of fcgid@shop is %.1f, and is to be 1.5 at most", got)
	}
}

// The daemon can write nowhere but in its folders and where everybody can.
func TestDaemonWritesNowhere(t *testing.T) {
	m := installed(t)
	writable := m.sh(`setpriv --reuid fcgid --regid fcgid --init-groups find / -xdev -writable ! -type l 2>/dev/null | grep -vE '^/(proc|sys|dev)(/|$)' || true`)
	for line := range strings.Lines(writable) {
		line = strings.TrimSpace(line)
		switch {
		case line == "/tmp", line == "/var/tmp", line == "/run/lock", strings.HasPrefix(line, "/run/fcgid"), strings.HasPrefix(line, "/var/lib/fcgid"), strings.HasPrefix(line, "/var/log/fcgid"):
		default:
			if mode := m.sh("stat -c %a " + line); mode[len(mode)-1]&2 == 0 {
				t.Errorf("the daemon can write to %s (%s)", line, mode)
			}
		}
	}
}

// A file of a time when the unit was not root is refused, at the start and by a reload, and what is
// to be written is said.
func TestFileWithoutUser(t *testing.T) {
	m := installed(t)
	good := m.sh("cat " + configuration)
	old := regexp.MustCompile(`(?m)^( *)user: .*$`).ReplaceAllString(good, "")
	m.write(configuration, old+"\n")
	m.fails("systemctl reload fcgid")
	if got := m.fails("fcgid reload"); !strings.Contains(got, "user: fcgid, and in each pool of programs") {
		t.Errorf("fcgid reload says %q", got)
	}
	m.serves(cgiSocket)
	m.fails("systemctl restart fcgid")
	if status, journal := m.property("fcgid", "ExecMainStatus"), m.journal(); status != "78" || !strings.Contains(journal, "user: fcgid, and in each pool of programs") {
		t.Errorf("exit status %s\n%s", status, journal)
	}
	m.write(configuration, "user: root\n"+old+"\n")
	m.sh("systemctl start fcgid")
	m.program("/usr/lib/cgi-bin/who.cgi", "id -un\n")
	if got := m.ask(cgiSocket, "who.cgi"); got != "root" {
		t.Errorf("as the file says, a program runs as %q", got)
	}
	if journal := m.journal(); !strings.Contains(journal, "running as root, and so do the programs of pools without a user") {
		t.Errorf("no warning:\n%s", journal)
	}
	m.write(configuration, good+"\n")
	m.sh("systemctl restart fcgid")
	m.serves(cgiSocket)
}

// What the unit leaves out of a sandbox, the lines of docs/users.md give.
func TestSandboxOfTheUnit(t *testing.T) {
	m := installed(t)
	m.program("/usr/lib/cgi-bin/box.cgi", "nice; test -e /tmp/outside && echo seen || echo unseen; ulimit -n\n")
	m.sh("touch /tmp/outside")
	m.sh("sed -i 's/^      nice: 0 /      nice: 5 /; s/^      no_new_privs: false/      no_new_privs: true/; s/^      private_tmp: false/      private_tmp: true/; s/^      rlimits: \\[\\]/      rlimits: [nofile=77]/' " + configuration)
	m.write("/etc/systemd/system/fcgid.service.d/sandbox.conf", harness.Documented(t, "docs/users.md", "unit-sandbox"))
	m.sh("systemctl daemon-reload && systemctl restart fcgid")
	if got := m.ask(cgiSocket, "box.cgi"); got != "5\nunseen\n77" {
		t.Errorf("in its sandbox a program says %q\n%s", got, m.journal())
	}
}

// Under hardened.conf CGI programs and workers have their limits, and are counted, though none of
// them sees those of others, or may trace one.
func TestHardenedPools(t *testing.T) {
	m := installed(t)
	m.program("/usr/lib/cgi-bin/sees.cgi", "ls -d /proc/[0-9]* | wc -l\nps -eo user= | sort -u\nulimit -n\ncat /proc/self/cgroup\n")
	m.program("/usr/lib/cgi-bin/traces.cgi", "sleep 600 & perl -e 'print syscall(101, 16, $ARGV[0], 0, 0) < 0 ? \"refused: $!\" : \"traced\"' $!; kill $!\n") // ptrace(PTRACE_ATTACH)
	m.writeMode("/srv/app/public/who.php", "<?php echo posix_getpwuid(posix_geteuid())['name'], ' ', explode(\"\\n\", shell_exec('ulimit -n'))[0];", 0o644)
	m.sh("sed -i 's/^      pids: 0/      pids: 500/; s/^      rlimits: \\[\\]/      rlimits: [nofile=77]/' " + configuration)
	m.write("/tmp/php", strings.Replace(strings.TrimPrefix(harness.Named(t, "pool-php"), "pools:\n"), "    worker:", "    sandbox: {pids: 400, rlimits: [nofile=66]}\n    worker:", 1))
	m.sh("cat /tmp/php >>" + configuration)
	m.sh(harness.Named(t, "unit-hardened"))
	got := m.ask(cgiSocket, "sees.cgi")
	if !regexp.MustCompile(`^[1-9]\nwww-data\n77\n`).MatchString(got) || !strings.Contains(got, "/pool-cgi/own-") {
		t.Errorf("a program sees %q\n%s", got, m.journal())
	}
	if got := m.ask(cgiSocket, "traces.cgi"); got != "refused: Operation not permitted" {
		t.Errorf("ptrace is %q", got)
	}
	if got := m.sh("fcgid request unix:/run/fcgid/php.sock --script /srv/app/public/who.php"); got != "www-data 66" {
		t.Errorf("a worker says %q\n%s", got, m.journal())
	}
	if got := m.sh("fcgid status php"); !regexp.MustCompile(`[1-9][0-9.]*MiB`).MatchString(got) {
		t.Errorf("nobody knows what a worker uses:\n%s", got)
	}
	m.sh("systemctl reload fcgid")
	m.serves(cgiSocket)
}

// What a program says to systemd is not heard: it is not the process that the unit has started.
func TestProgramsSpeakForNobody(t *testing.T) {
	m := installed(t)
	m.program("/usr/lib/cgi-bin/tell.cgi", "export NOTIFY_SOCKET=/run/systemd/notify\n"+
		"for word in STATUS=taken WATCHDOG=trigger STOPPING=1 MAINPID=$$ FDSTOREREMOVE=1; do systemd-notify $word; done; echo told\n")
	main := m.property("fcgid", "MainPID")
	if got := m.ask(cgiSocket, "tell.cgi"); !strings.Contains(got, "told") {
		t.Fatalf("the program says %q", got)
	}
	m.sh("systemctl reload fcgid") // systemd has read the words by then
	if state, pid, text := m.property("fcgid", "ActiveState"), m.property("fcgid", "MainPID"), m.property("fcgid", "StatusText"); state != "active" || pid != main || !strings.Contains(text, "1 pool") {
		t.Errorf("%s, main process %s, was %s, %q\n%s", state, pid, main, text, m.journal())
	}
	m.serves(cgiSocket)
}

// README's pools serve what README says they do, on a machine as README makes it; the web server is www-data.
func TestReadmesPools(t *testing.T) {
	m := installed(t)
	m.writeMode("/srv/app/public/who.php", "<?php echo posix_getpwuid(posix_geteuid())['name'];", 0o644)
	m.program("/usr/lib/cgit/cgit.cgi", "echo cgit\n") // which this machine has not
	m.sh("install -d -o www-data /srv/git && setpriv --reuid www-data --regid www-data --clear-groups git init -q --bare /srv/git/it.git")
	for _, name := range []string{"pool-git", "pool-php"} {
		m.write("/tmp/"+name, strings.TrimPrefix(harness.Named(t, name), "pools:\n"))
	}
	m.sh("cat /tmp/pool-git /tmp/pool-php >>" + configuration)
	m.sh("fcgid check && systemctl reload fcgid")
	ask := "setpriv --reuid www-data --regid www-data --clear-groups fcgid request unix:/run/fcgid/"
	for script, want := range map[string]string{
		"cgi.sock --script /usr/lib/cgi-bin/hello.cgi": "hello",
		"php.sock --script /srv/app/public/who.php":    "www-data",
		"git.sock --script /usr/lib/cgit/cgit.cgi":     "cgit",
		"git.sock --script /usr/lib/git-core/git-http-backend -p GIT_PROJECT_ROOT=/srv/git -p GIT_HTTP_EXPORT_ALL= -p PATH_INFO=/it.git/info/refs --query service=git-upload-pack": "001e# service=git-upload-pack",
	} {
		if got := m.sh(ask + script); !strings.HasPrefix(got, want) {
			t.Errorf("%s says %q, want %q", script, got, want)
		}
	}
	m.fails("setpriv --reuid nobody --regid nogroup --clear-groups fcgid request unix:/run/fcgid/cgi.sock --script /usr/lib/cgi-bin/hello.cgi")
}
