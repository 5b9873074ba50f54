//go:build systemd

package systemd

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// activated is a configuration whose pool has the socket of fcgid.socket.
const activated = `
user: fcgid
pools:
  - name: cgi
    listen: systemd:cgi
    user: www-data
    process: {root: [/usr/lib/cgi-bin]}
`

// inode tells one socket from the next that has its path.
func (m *machine) inode(path string) uint64 {
	m.t.Helper()
	info, err := os.Lstat(m.path(path))
	if err != nil {
		m.t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// hello has one request answered by hello.cgi, on a connection of its own.
func hello(path string) (string, error) { return ask(path, "/usr/lib/cgi-bin/hello.cgi") }

func ask(path, script string) (string, error) {
	ctx := context.Background()
	client, err := fcgi.Dial(ctx, "unix:"+path)
	if err != nil {
		return "", err
	}
	defer client.Close()
	var out strings.Builder
	_, err = client.Do(ctx, &fcgi.Request{Close: true,
		Params: fcgi.Params{
			{Name: "REQUEST_METHOD", Value: "GET"},
			{Name: "SCRIPT_FILENAME", Value: script},
		},
		Stdout: &out,
		Stderr: io.Discard,
	})
	return out.String(), err
}

// With fcgid.socket, as README says to set it up on a machine where README's fcgid runs,
// no client notices a restart. So it is with a socket in the daemon's own folder.
func TestSocketActivation(t *testing.T) {
	for path, dropIn := range map[string]string{
		"/run/fcgid.sock":     "[Socket]\nSocketGroup=mail\n",
		"/run/fcgid/cgi.sock": "[Socket]\nListenStream=\nListenStream=/run/fcgid/cgi.sock\nSocketGroup=mail\n",
	} {
		t.Run(path, func(t *testing.T) {
			m := installed(t)
			m.write("/etc/systemd/system/fcgid.socket.d/test.conf", dropIn)
			m.write(configuration, activated)
			m.sh("systemctl daemon-reload")
			m.sh(harness.Named(t, "unit-socket"))
			testActivated(t, m, path)
		})
	}
}

func testActivated(t *testing.T, m *machine, path string) {
	m.serves("unix:" + path)
	inode, mode := m.inode(path), m.sh("stat -c %U:%G:%a "+path)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if answer, err := hello(m.path(path)); err != nil || !strings.HasSuffix(answer, "\r\n\r\nhello\n") {
					t.Errorf("a request during a restart: %q, %v", answer, err)
					return
				}
			}
		})
	}
	for range 5 {
		m.sh("systemctl restart fcgid")
	}
	stop()
	clients.Wait()

	m.sh("systemctl stop fcgid")
	if now := m.inode(path); now != inode {
		t.Error("the socket is another one")
	}
	m.serves("unix:" + path) // by starting the daemon
	m.reboot()
	m.serves("unix:" + path)
	if now := m.sh("stat -c %U:%G:%a " + path); now != mode {
		t.Errorf("after a reboot the socket is %s, and it was %s", now, mode)
	}
}

// Of six thousand requests that come while the daemon is restarted all the time none
// fails, with a socket unit and without.
func TestRestartsUnderLoad(t *testing.T) {
	const requests, restarts = 6000, 10
	for path, listen := range map[string]string{"/run/fcgid.sock": "systemd:cgi", "/run/fcgid/own.sock": "unix:/run/fcgid/own.sock"} {
		t.Run(listen, func(t *testing.T) {
			m := installed(t)
			m.write(configuration, "user: fcgid\npools: [{name: functions, listen: '"+listen+"', function: {}}]\n")
			if listen == "systemd:cgi" {
				m.sh(harness.Named(t, "unit-socket"))
			} else {
				m.sh("systemctl restart fcgid")
			}
			var answered atomic.Int64
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			var clients sync.WaitGroup
			for range 4 {
				clients.Go(func() {
					for ctx.Err() == nil {
						if answer, err := ask(m.path(path), "fcgid.ping"); err != nil || !strings.HasSuffix(answer, "\r\n\r\npong\n") {
							t.Errorf("request %d: %q, %v", answered.Load(), answer, err)
							return
						}
						answered.Add(1)
					}
				})
			}
			for n := 0; (n < restarts || answered.Load() < requests) && !t.Failed(); n++ {
				m.sh("systemctl restart fcgid")
			}
			stop()
			clients.Wait()
		})
	}
}

// A client waits on systemd's socket while the file is wrong. systemd gives up on the
// socket at some point; starting the daemon brings both back.
func TestSocketAndWrongFile(t *testing.T) {
	const address = "unix:/run/fcgid.sock"
	m := installed(t)
	m.write(configuration, activated)
	// By default it is 20 starts in two seconds, which a busy machine has no time for.
	m.write("/etc/systemd/system/fcgid.socket.d/limit.conf", "[Socket]\nTriggerLimitIntervalSec=10min\n")
	m.sh("systemctl daemon-reload")
	m.sh(harness.Named(t, "unit-socket"))
	m.write(configuration, "bad: true\n")
	m.fails("systemctl restart fcgid")
	m.fails("fcgid request " + address + " --script /usr/lib/cgi-bin/hello.cgi")
	m.write(configuration, activated)
	m.sh("systemctl start fcgid")
	m.serves(address)
	m.sh("systemctl is-active fcgid.socket")
}

// README's way from fcgiwrap to fcgid, on the machine's fcgiwrap.
func TestTakeOverFcgiwrap(t *testing.T) {
	const address = "unix:/run/fcgiwrap.socket"
	m := installed(t)
	m.program("/usr/lib/cgi-bin/who.cgi", "tr '\\0' '\\n' </proc/$PPID/cmdline | head -n 1")
	if got := m.ask(address, "who.cgi"); got != "/usr/sbin/fcgiwrap" {
		t.Fatalf("before: %q", got)
	}
	m.write(configuration, activated)
	m.sh(harness.Named(t, "unit-fcgiwrap"))
	for range 2 {
		if got := m.ask(address, "who.cgi"); got != "/usr/local/bin/fcgid" {
			t.Errorf("after: %q", got)
		}
		m.reboot()
	}
}

// README's way from php-fpm to fcgid, on the machine's php-fpm, with README's pool: the
// web server's file stays as it is.
func TestTakeOverPHPFPM(t *testing.T) {
	m := installed(t)
	version := m.sh("ls /etc/php")
	// README names Debian 12's.
	documented := func(name string) string {
		return strings.ReplaceAll(harness.Named(t, name), "8.2", version)
	}
	m.writeMode("/srv/www/who.php", "<?php echo PHP_SAPI, ' ', ini_get('memory_limit'), ' ', extension_loaded('mysqli') ? 'mysqli' : 'nothing';", 0o644)
	ask := "setpriv --reuid www-data --regid www-data --clear-groups fcgid request unix:/run/php/php" + version + "-fpm.sock --script /srv/www/who.php"
	if got := m.sh(ask); got != "fpm-fcgi 128M mysqli" {
		t.Fatalf("before: %q", got)
	}
	m.sh("phpdismod -v " + version + " -s cgi mysqli")
	m.write(configuration, "user: fcgid\n"+documented("pool-php-fpm"))
	m.sh(documented("unit-php-fpm"))
	for range 2 {
		if got := m.sh(ask); got != "cgi-fcgi 256M mysqli" {
			t.Errorf("after: %q", got)
		}
		m.reboot()
	}
}
