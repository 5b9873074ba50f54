//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A manager is what a service tells systemd.
type manager struct {
	t      *testing.T
	conn   *net.UnixConn
	socket string
}

func newManager(t *testing.T) *manager {
	t.Helper()
	socket := folder(t) + "/notify"
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &manager{t, c, socket}
}

// start has a daemon tell it.
func (m *manager) start(more ...string) func(*exec.Cmd) {
	return func(c *exec.Cmd) { c.Env = append(append(os.Environ(), "NOTIFY_SOCKET="+m.socket), more...) }
}

// next is the next message that begins with one of those texts.
func (m *manager) next(which ...string) string {
	m.t.Helper()
	m.conn.SetReadDeadline(time.Now().Add(time.Minute))
	for b := make([]byte, 4096); ; {
		n, err := m.conn.Read(b)
		if err != nil {
			m.t.Fatal(err)
		}
		text := strings.TrimSpace(string(b[:n]))
		if slices.ContainsFunc(which, func(begin string) bool { return strings.HasPrefix(text, begin) }) {
			return text
		}
	}
}

// What systemd is told by a unit of Type=notify-reload.
func TestSystemdNotify(t *testing.T) {
	m := newManager(t)
	message := func() string {
		t.Helper()
		return m.next("READY=", "RELOADING=", "STOPPING=")
	}
	monotonic := func() int64 {
		var now unix.Timespec
		unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
		return now.Nano() / 1000
	}
	r := newRig(t, "", "", m.start())
	if got := message(); got != "READY=1" {
		t.Errorf("at the start: %q", got)
	}
	env := r.script(t, "env.sh", environScript)
	if got := r.one(t, r.unix, env); strings.Contains(got.body(), "NOTIFY_SOCKET") {
		t.Error("NOTIFY_SOCKET reached a program")
	}
	good, _ := os.ReadFile(r.file)
	for _, text := range []string{string(good), "bad"} { // a bad file is no reason to wait for ever
		write(t, r.file, text)
		before := monotonic()
		r.signal(syscall.SIGHUP)
		var usec int64
		got := message()
		if _, err := fmt.Sscanf(got, "RELOADING=1\nMONOTONIC_USEC=%d", &usec); err != nil || usec < before || usec > monotonic() {
			t.Errorf("at a reload: %q, want RELOADING=1 and MONOTONIC_USEC from %d on", got, before)
		}
		if got := message(); got != "READY=1" {
			t.Errorf("after a reload: %q", got)
		}
	}
	r.signal(syscall.SIGTERM)
	var usec int64
	got := message() // shutdown_timeout is 10s, and a program has 1s more
	if _, err := fmt.Sscanf(got, "STOPPING=1\nEXTEND_TIMEOUT_USEC=%d", &usec); err != nil || usec < 11e6 || usec > 60e6 {
		t.Errorf("at the end: %q, want STOPPING=1 and EXTEND_TIMEOUT_USEC", got)
	}
}

// s6 is told on a descriptor, also past the start anew that a blocked signal makes necessary.
func TestNotifyFD(t *testing.T) {
	for name, blocked := range map[string]bool{"plain": false, "signals blocked": true} {
		t.Run(name, func(t *testing.T) {
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer read.Close()
			r := newRig(t, "", "", func(c *exec.Cmd) {
				c.Args = append(c.Args, "--notify-fd", "3")
				if blocked {
					c.Args = append([]string{"perl", "-MPOSIX", "-e", "$^F = 3;" + blockSignals, binary}, c.Args[1:]...)
					c.Path = need(t, "perl")
				}
				c.ExtraFiles = []*os.File{write}
			})
			write.Close()
			read.SetReadDeadline(time.Now().Add(time.Minute))
			if got, err := io.ReadAll(read); string(got) != "\n" || err != nil {
				t.Errorf("told %q, %v", got, err)
			}
			r.good(t, r.unix)
		})
	}
	file := folder(t) + "/fcgid.yaml"
	write(t, file, "pools: [{name: f, listen: unix:"+file+".s, function: {}}]\nadmin: {listen: ''}\n")
	for _, fd := range []string{"1", "3", "4", "77", "x"} {
		out, err := exec.Command(binary, "serve", "-c", file, "--notify-fd", fd).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "notify-fd") {
			t.Errorf("--notify-fd %s, which is not open: %v, %s", fd, err, out)
		}
	}
}

// systemctl status shows what the daemon does, and what a stop waits for.
func TestSystemdStatus(t *testing.T) {
	m := newManager(t)
	r := newRig(t, "", "", m.start())
	if got, want := m.next("STATUS="), "STATUS=1 pool; requests: 0 running, 0 waiting, 0 served"; got != want {
		t.Errorf("at the start: %q, want %q", got, want)
	}
	g := newGate(t, r.dir)
	path := r.script(t, "wait.sh", strings.ReplaceAll(waitScript, "DIR", r.dir))
	p := connect(t, r.unix)
	p.send(request(1, params(path), ""))
	g.arrived()
	for !strings.Contains(m.next("STATUS="), "1 running, 0 waiting, 0 served") {
	}
	r.signal(syscall.SIGTERM)
	for got := ""; !strings.Contains(got, "1 request, the oldest "+path+" (pid ") || !strings.Contains(got, ", running for "); {
		got = m.next("STATUS=stopping")
	}
	g.release(1)
	if code := r.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// The watchdog is told that the daemon moves, also while its pool is full, and not while
// it does not.
func TestSystemdWatchdog(t *testing.T) {
	const limit = 300 * time.Millisecond
	m := newManager(t)
	r := newRig(t, "limits: {max_conns: 1, max_reqs: 1}", "", m.start(fmt.Sprintf("WATCHDOG_USEC=%d", limit.Microseconds()), "WATCHDOG_PID=1"))
	g := newGate(t, r.dir)
	path := r.script(t, "wait.sh", strings.ReplaceAll(waitScript, "DIR", r.dir))
	pings := func() {
		t.Helper()
		for range 5 {
			m.next("WATCHDOG=1")
		}
	}
	pings()
	busy := connect(t, r.unix)
	busy.send(request(1, params(path), ""))
	g.arrived()
	connect(t, r.unix) // waits for room
	pings()
	if err := syscall.Kill(r.Process.Pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stopped := time.Now().Add(3 * limit)
	for b := make([]byte, 4096); ; {
		m.conn.SetReadDeadline(stopped)
		if _, err := m.conn.Read(b); err != nil {
			break // what was told before it was stopped has been read
		}
	}
	m.conn.SetReadDeadline(time.Now().Add(2 * limit))
	if n, err := m.conn.Read(make([]byte, 4096)); err == nil {
		t.Errorf("%d bytes from a daemon that is stopped", n)
	}
	if err := syscall.Kill(r.Process.Pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	pings()
	g.release(1)
}

// Sockets that systemd has opened: they stay through reloads, and through the
// start anew that a blocked signal makes necessary.
func TestSystemdSockets(t *testing.T) {
	for name, blocked := range map[string]bool{"plain": false, "signals blocked": true} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t)
			hello := script(t, dir+"/cgi/hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello %s' \"$QUERY_STRING\"\n")
			env := script(t, dir+"/cgi/env.sh", environScript)
			unixSocket, tcp := dir+"/s", freeAddress(t)
			d := &daemon{dir: dir, file: dir + "/fcgid.yaml", admin: freeAddress(t)}
			pool := "- {name: cgi, listen: [\"systemd:web\", \"systemd:port\"], process: {root: [" + dir + "/cgi]}}\n"
			d.configure(pool)
			args := []string{need(t, "systemd-socket-activate"), "-l", unixSocket, "-l", tcp, "--fdname=web:port",
				"-E", "GORACE=atexit_sleep_ms=10", binary, "serve", "-c", d.file}
			if blocked {
				args = append([]string{need(t, "perl"), "-MPOSIX", "-e", blockSignals}, args...)
			}
			d.process = start(t, exec.Command(args[0], args[1:]...))
			listening(t, "unix", unixSocket) // and starts the daemon
			d.awaitReady(t)
			r := &rig{daemon: d, unix: unixSocket, tcp: tcp}
			for range 2 {
				r.both(t, func(t *testing.T, address string) {
					if got := r.one(t, address, hello); got.body() != "hello " {
						t.Errorf("got %v", got)
					}
					if got := r.one(t, address, env); strings.Contains(got.body(), "LISTEN_") {
						t.Errorf("systemd's variables reached a program: %s", got.body())
					}
				})
				d.configure(strings.Replace(pool, "process:", "timeout: 9s, process:", 1))
				d.reload(t)
			}
			d.configure(strings.Replace(pool, ", \"systemd:port\"", "", 1))
			d.reload(t)
			d.configure(pool)
			d.reload(t)
			r.good(t, r.tcp)
			d.signal(syscall.SIGTERM)
			if code := d.exitCode(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			if _, err := os.Lstat(unixSocket); err != nil {
				t.Error("the daemon removed systemd's socket")
			}
		})
	}
}

// blockSignals runs a program with signals blocked and ignored, and with two
// descriptors more than there should be.
const blockSignals = `
sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM, SIGUSR1, SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGURG));
$SIG{$_} = "IGNORE" for qw(PIPE HUP INT QUIT USR1 USR2 CHLD TTOU);
POSIX::dup2(1, 60); POSIX::dup2(1, 91);
exec { $ARGV[0] } @ARGV or die;
`

// worldScript prints a program's signal masks, group, folder and descriptors.
const worldScript = `#!/bin/sh
printf 'Content-Type: text/plain\n\n'
while read -r name value; do
	case "$name" in Sig[BI]*) printf '%s %s\n' "$name" "$value" ;; esac
done </proc/$$/status
set -- $(cat /proc/$$/stat)
[ "$5" = $$ ] && echo 'own group'
pwd
exec ls -l /proc/self/fd
`

var descriptor = regexp.MustCompile(`(\d+) -> (/dev/null|pipe:|socket:|/tmp/|/home/)`)

// What the daemon was started with does not reach its programs.
func TestProgramsWorld(t *testing.T) {
	for name, change := range map[string]func(*exec.Cmd){
		"plain": func(*exec.Cmd) {},
		"inherited": func(c *exec.Cmd) {
			c.Args = append([]string{"perl", "-MPOSIX", "-e", blockSignals, binary}, c.Args[1:]...)
			c.Path = need(t, "perl")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, "", "", change)
			world := r.script(t, "world.sh", worldScript)
			const none = "0000000000000000"
			want := "SigBlk: " + none + "\nSigIgn: " + none + "\nown group\n" + r.dir + "/cgi\n"
			for range 3 {
				got, list, _ := strings.Cut(r.one(t, r.unix, world).body(), "total ")
				if got != want {
					t.Errorf("a program's world:\n%s\nwant:\n%s", got, want)
				}
				var fds []string
				for _, m := range descriptor.FindAllStringSubmatch(list, -1) {
					fds = append(fds, m[1]+" "+m[2])
				}
				if !slices.Equal(fds, []string{"0 /dev/null", "1 pipe:", "2 pipe:"}) {
					t.Errorf("descriptors of a program: %q\n%s", fds, list)
				}
			}
			// The daemon's own signals work all the same.
			r.reload(t)
			r.signal(syscall.SIGTERM)
			if code := r.exitCode(); code != 0 {
				t.Errorf("exit status %d", code)
			}
		})
	}
}
