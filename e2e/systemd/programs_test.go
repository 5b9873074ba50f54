//go:build systemd

package systemd

import (
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// mails writes programs that send a mail: with sendmail, and with PHP's mail().
func (m *machine) mails() {
	m.t.Helper()
	m.program("/usr/lib/cgi-bin/sendmail.cgi", `printf 'Subject: one\n\nfrom sendmail\n' | /usr/sbin/sendmail root@localhost 2>&1 && echo sent`+"\n")
	m.writeMode("/usr/lib/cgi-bin/mail.php", "#!/usr/bin/php-cgi\n<?php echo mail('root@localhost', 'two', 'from PHP') ? 'sent' : 'not sent';\n", 0o755)
	m.sh("sed -i 's/^ *timeout: .*/    timeout: 5s/; s/^ *silence: .*/    silence: 0/' " + configuration + " && systemctl restart fcgid")
}

// mailed is how many of those mails root has.
func (m *machine) mailed() string {
	m.t.Helper()
	return m.sh(`cat /var/mail/* 2>/dev/null | grep -cxE 'from (sendmail|PHP)' || true`)
}

// Exim's sendmail is set-user-ID, Postfix's postdrop is set-group-ID.
func TestMail(t *testing.T) {
	for name, layers := range map[string][]string{"exim": nil, "postfix": {"postfix"}} {
		t.Run(name, func(t *testing.T) {
			m := installed(t, layers...)
			m.mails()
			if got := m.ask(cgiSocket, "sendmail.cgi"); got != "sent" {
				t.Errorf("sendmail: %q", got)
			}
			if got := m.ask(cgiSocket, "mail.php"); got != "sent" {
				t.Errorf("PHP's mail: %q", got)
			}
			harness.Await(t, "two mails", func() bool { return m.mailed() == "2" })
		})
	}
}

// A push into a repository made with git init --shared: git sets the set-group-ID bit. Each
// push is one of its own, to a branch of its own: such a repository takes no other history.
const push = `set -e
cd /srv/git && rm -rf work && git init -q -b main work && cd work
git -c user.name=n -c user.email=e@example.org commit -q --allow-empty -m $$
git push -q /srv/git/shared.git main:refs/heads/push-$$ 2>&1 && echo pushed
`

// What fcgiwrap's unit lets programs do, Debian's, fcgid's lets them do.
func TestProgramsMayDoAsUnderFcgiwrap(t *testing.T) {
	m := installed(t)
	m.program("/usr/lib/cgi-bin/push.cgi", push)
	m.program("/usr/lib/cgi-bin/write.cgi", "for f in /etc/app/settings /usr/local/app/list /home/app/upload /tmp/map.png; do echo x >$f || exit 1; done; echo written\n")
	m.sh(`install -d -o www-data /srv/git /etc/app /usr/local/app /home/app
setpriv --reuid www-data --regid www-data --clear-groups git init -q --bare --shared=group /srv/git/shared.git`)
	for _, address := range []string{"unix:/run/fcgiwrap.socket", cgiSocket} {
		if got := m.ask(address, "push.cgi"); got != "pushed" {
			t.Errorf("%s: a push says %q", address, got)
		}
		if got := m.ask(address, "write.cgi"); got != "written" {
			t.Errorf("%s: writing says %q", address, got)
		}
		m.sh("rm /tmp/map.png") // seen by others
	}
}

// hardened.conf breaks what its head says, and nothing but that: PHP and CGI programs
// are served, also by workers.
func TestHardened(t *testing.T) {
	m := installed(t)
	m.mails()
	m.program("/usr/lib/cgi-bin/push.cgi", push)
	m.sh(`install -d -o www-data /srv/git /etc/app
setpriv --reuid www-data --regid www-data --clear-groups git init -q --bare --shared=group /srv/git/shared.git`)
	m.program("/usr/lib/cgi-bin/etc.cgi", "echo x 2>&1 >/etc/app/settings || exit 1\n")
	m.program("/usr/lib/cgi-bin/tmp.cgi", "echo x >/tmp/own && echo written\n")
	m.writeMode("/srv/www/hello.php", "<?php echo 'hello from PHP';", 0o644)
	m.sh(`cat >>` + configuration + ` <<'EOF'
  - name: php
    listen: unix:/run/fcgid/php.sock
    user: www-data
    worker: {command: [/usr/bin/php-cgi], max: 2}
EOF`)
	m.sh(harness.Named(t, "unit-hardened"))
	m.serves(cgiSocket)
	if got := m.sh("fcgid request unix:/run/fcgid/php.sock --script /srv/www/hello.php"); got != "hello from PHP" {
		t.Errorf("a worker says %q", got)
	}
	if got := m.ask(cgiSocket, "tmp.cgi"); got != "written" {
		t.Errorf("writing to /tmp says %q", got)
	}
	m.sh("test ! -e /tmp/own")
	m.fails("fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/etc.cgi")
	m.fails("fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/push.cgi")
	m.try("fcgid request " + cgiSocket + " --script /usr/lib/cgi-bin/sendmail.cgi")
	if n := m.mailed(); n != "0" {
		t.Error("mail works, against what the file's head says")
	}
	m.sh("systemctl reload fcgid && fcgid status")
	m.serves(cgiSocket)
}
