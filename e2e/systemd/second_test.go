//go:build systemd

package systemd

import (
	"strings"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
)

// The second daemon of docs/php-fpm.md has a user and folders of its own, and neither of
// the two knows of the other.
func TestSecondDaemon(t *testing.T) {
	m := installed(t)
	m.writeMode("/srv/shop/who.php", "<?php system('id -un');", 0o644)
	m.write("/etc/fcgid/shop.yaml", harness.Documented(t, "docs/php-fpm.md", "second-daemon"))
	m.sh(harness.Documented(t, "docs/php-fpm.md", "unit-second-daemon"))
	ask := "fcgid request unix:/run/fcgid-shop/php.sock --script /srv/shop/who.php"
	asWebServer := "setpriv --reuid www-data --regid www-data --clear-groups " + ask
	both := func() {
		t.Helper()
		m.serves(cgiSocket)
		if got := m.sh(asWebServer); got != "shop" {
			t.Errorf("the second daemon's program runs as %q", got)
		}
	}
	both()
	m.fails(ask) // as root, who is not the web server
	if got := m.sh("fcgid status -c /etc/fcgid/shop.yaml"); !strings.Contains(got, "shop") {
		t.Errorf("fcgid status says %q", got)
	}
	m.sh("systemctl restart fcgid")
	both()
	m.sh("systemctl restart fcgid@shop && systemctl reload fcgid@shop")
	both()
	m.sh("systemctl stop fcgid")
	if got := m.sh(asWebServer); got != "shop" {
		t.Errorf("without the first: %q", got)
	}
	m.reboot()
	both()
}

// What logrotate does, forced, with logs of the daemon and its access log in /var/log/fcgid.
const rotate = "logrotate --force /etc/logrotate.d/fcgid"

// logged waits until there is something in a log.
func (m *machine) logged(file string) {
	m.t.Helper()
	harness.Await(m.t, "something in "+file, func() bool { _, err := m.try("test -s " + file); return err == nil })
}

func TestLogrotate(t *testing.T) {
	m := installed(t)
	m.sh(`sed -i 's|output: stderr|output: /var/log/fcgid/fcgid.log|; s|output: ""|output: /var/log/fcgid/access.log|' ` + configuration)
	m.sh("systemctl restart fcgid")
	const access = "/var/log/fcgid/access.log"
	for range 2 {
		m.serves(cgiSocket)
		m.logged(access) // maybe after the answer
		m.sh(rotate)
		harness.Await(t, "a new log", func() bool { _, err := m.try("test -e " + access); return err == nil })
		m.sh("test ! -s " + access)
	}
	m.serves(cgiSocket)
	m.logged(access)
	if got := m.sh("stat -c %U:%a /var/log/fcgid/access.log /var/log/fcgid/access.log.1"); got != "fcgid:640\nfcgid:640" {
		t.Errorf("the logs are %q", got)
	}

	m.sh("systemctl stop fcgid")
	m.sh(rotate)
	m.sh("test ! -e " + access)
	m.sh("systemctl start fcgid")
	m.serves(cgiSocket)
}

// The head of logrotate's file says what to write for another daemon.
func TestLogrotateOfSecondDaemon(t *testing.T) {
	m := installed(t)
	m.write("/etc/fcgid/shop.yaml", "access_log: {output: /var/log/fcgid-shop/access.log}\n"+harness.Documented(t, "docs/php-fpm.md", "second-daemon"))
	m.writeMode("/srv/shop/who.php", "<?php system('id -un');", 0o644)
	m.sh(harness.Documented(t, "docs/php-fpm.md", "unit-second-daemon"))
	m.sh(`sed 's|/fcgid/|/fcgid-shop/|; s/fcgid;/fcgid@shop;/; s/fcgid$/fcgid@shop/; s/su .*/su shop shop/' /etc/logrotate.d/fcgid >/etc/logrotate.d/fcgid-shop`)
	for range 2 {
		m.sh("setpriv --reuid www-data --regid www-data --clear-groups fcgid request unix:/run/fcgid-shop/php.sock --script /srv/shop/who.php")
		m.logged("/var/log/fcgid-shop/access.log")
		m.sh("logrotate --force /etc/logrotate.d/fcgid-shop")
		harness.Await(t, "a new log", func() bool { _, err := m.try("test -e /var/log/fcgid-shop/access.log"); return err == nil })
		m.sh("test ! -s /var/log/fcgid-shop/access.log")
	}
	m.sh("systemctl stop fcgid@shop && logrotate --force /etc/logrotate.d/fcgid-shop")
}
