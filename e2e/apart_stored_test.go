//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/runner/runnertest"
)

// setup is a file of a daemon apart, in a folder that systemd would make, before it is started.
func setup(t *testing.T) *apart {
	t.Helper()
	needRoot(t)
	dir := folder(t)
	if err := os.Mkdir(dir+"/runtime", 0o755); err != nil {
		t.Fatal(err)
	}
	a := &apart{address: freeAddress(t), control: dir + "/runtime/control.sock"}
	a.daemon = &daemon{dir: dir, file: dir + "/fcgid.yaml", admin: freeAddress(t)}
	return a
}

// Sockets that systemd has opened go to the daemon, over reloads that drop and take them, and
// the spawner keeps none of them.
func TestApartSystemdSockets(t *testing.T) {
	t.Parallel()
	a := setup(t)
	path, tcp, own := a.dir+"/s", freeAddress(t), a.dir+"/own"
	both := functionAt("g", "'systemd:web', 'systemd:port', 'unix:"+own+"'")
	a.configure(a.pools(both))
	cmd := exec.Command(need(t, "systemd-socket-activate"), "-l", path, "-l", tcp, "--fdname=web:port",
		"-E", "GORACE=atexit_sleep_ms=10", "-E", "RUNTIME_DIRECTORY="+a.dir+"/runtime", binary, "serve", "-c", a.file)
	a.process = start(t, cmd)
	listening(t, "unix", path) // and starts the daemon
	a.awaitReady(t)
	a.served = a.status(t).PID
	_, port, err := net.SplitHostPort(tcp)
	if err != nil {
		t.Fatal(err)
	}
	for _, pools := range []string{both, functionAt("g", "'systemd:web'"), both} {
		a.ordered(t, pools, 0)
		a.pong(t, "unix", path)
		if n := countSockets(t, a.Process.Pid, port); n != 0 {
			t.Errorf("the spawner has %d descriptors of the port", n)
		}
	}
	a.pong(t, "tcp", tcp)
	a.pong(t, "unix", own)
	a.ordered(t, functionAt("g", "'unix:"+path+"'"), 1, "systemd has passed this socket, listen on systemd:web")
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	runnertest.WantFile(t, own, runnertest.NoFile)
	if _, err := os.Lstat(path); err != nil {
		t.Error("systemd's socket was removed")
	}
}

// A keeper is systemd's store.
type keeper struct {
	*manager
	names []string
	files []*os.File
}

// await takes what is stored until there are n.
func (k *keeper) await(n int) {
	k.t.Helper()
	k.conn.SetReadDeadline(time.Now().Add(time.Minute))
	for b, oob := make([]byte, 4096), make([]byte, 256); len(k.files) < n; {
		size, oobn, _, _, err := k.conn.ReadMsgUnix(b, oob)
		if err != nil {
			k.t.Fatalf("of %d descriptors %d were stored: %v", n, len(k.files), err)
		}
		_, name, isStored := strings.Cut(string(b[:size]), "FDSTORE=1\nFDPOLL=0\nFDNAME=")
		if !isStored {
			continue
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		for _, m := range messages {
			fds, _ := unix.ParseUnixRights(&m)
			for _, fd := range fds {
				k.names, k.files = append(k.names, strings.TrimSpace(name)), append(k.files, os.NewFile(uintptr(fd), name))
			}
		}
		if err != nil {
			k.t.Fatal(err)
		}
	}
}

// Sockets that systemd keeps, while a daemon was killed and the next one is started, are the next
// one's, with their files: it gives them other modes and owners, and removes them.
func TestApartStoredSockets(t *testing.T) {
	t.Parallel()
	a := setup(t)
	k := &keeper{manager: newManager(t)}
	if err := os.Chmod(k.socket, 0o777); err != nil {
		t.Fatal(err)
	}
	path, port := a.dir+"/s", lowPort(t)
	pool := func(mode, owner string) string {
		return functionAt("g", fmt.Sprintf("{address: 'unix:%s', mode: %q, owner: %q}, 'tcp:127.0.0.1:%s'", path, mode, owner, port))
	}
	serve := func() {
		a.process = start(t, a.command(k))
		a.awaitReady(t)
		a.served = a.status(t).PID
		a.pong(t, "unix", path)
		a.pong(t, "tcp", "127.0.0.1:"+port)
	}
	a.configure(a.pools(pool("0640", "64151")))
	serve()
	k.await(4) // the pools' and the admin server's
	before := inodeOf(t, path)
	if err := unix.Kill(a.served, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a.exitCode()
	a.configure(a.pools(pool("0606", "64152")))
	serve()
	runnertest.WantFile(t, path, "140606 64152:65534")
	if now := inodeOf(t, path); now != before {
		t.Error("it is another file")
	}
	if n := countSockets(t, a.Process.Pid, port); n != 0 {
		t.Errorf("the spawner has %d descriptors of the port", n)
	}
	a.ordered(t, pool("0640", "64151"), 0)
	runnertest.WantFile(t, path, "140640 64151:65534")
	a.ordered(t, "", 0)
	await(t, "the file to be gone", func() bool { return runnertest.DescribeFile(path) == runnertest.NoFile })
}

// command is one that starts the daemon with what the store has.
func (a *apart) command(k *keeper) *exec.Cmd {
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$; exec "$0" "$@"`, binary, "serve", "-c", a.file)
	k.start("FDSTORE=9", "RUNTIME_DIRECTORY="+a.dir+"/runtime")(cmd)
	if len(k.files) > 0 {
		cmd.ExtraFiles = k.files
		cmd.Env = append(cmd.Env, "LISTEN_FDS="+strconv.Itoa(len(k.files)), "LISTEN_FDNAMES="+strings.Join(k.names, ":"))
	}
	return cmd
}

func inodeOf(t *testing.T, path string) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// The daemon need not be able to look into the folder of its sockets.
func TestApartSocketsOutOfSight(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	dir := a.dir + "/hidden"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	pool := func(mode string) string {
		return functionAt("g", fmt.Sprintf("{address: 'unix:%s', mode: %q}", path, mode))
	}
	a.ordered(t, pool("0640"), 0)
	before := inodeOf(t, path)
	a.ordered(t, pool("0606"), 0)
	a.pong(t, "unix", path)
	runnertest.WantFile(t, path, "140606 65534:65534")
	if inodeOf(t, path) != before || strings.Contains(a.out.String(), "the file of a socket was gone") {
		t.Error("a reload has made another socket")
	}
	os.Remove(path)
	a.order(t, "reload").is(t, "without the file", 0)
	a.pong(t, "unix", path)
	a.ordered(t, functionAt("h", "'unix:"+path+"'"), 0) // moved
	a.pong(t, "unix", path)
	a.ordered(t, "", 0)
	await(t, "the file to be gone", func() bool { return runnertest.DescribeFile(path) == runnertest.NoFile })
}

// Where the spawner may do no more than become others, as under hardened.conf, sockets are made
// in folders of the daemon's, with any group.
func TestApartSocketsWithFewRights(t *testing.T) {
	t.Parallel()
	setpriv := need(t, "setpriv")
	a := setup(t)
	dir := a.dir + "/runtime"
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	pool := func(group string) string {
		return functionAt("g", fmt.Sprintf("{address: 'unix:%s/s', group: %q}", dir, group))
	}
	a.configure(a.pools(pool("64153")))
	cmd := exec.Command(setpriv, "--bounding-set", "-all,+kill,+setgid,+setuid,+setpcap", binary, "serve", "-c", a.file)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+dir)
	a.process = start(t, cmd)
	a.awaitReady(t)
	runnertest.WantFile(t, dir+"/s", "140660 65534:64153")
	a.pong(t, "unix", dir+"/s")
	a.ordered(t, pool("64154"), 0)
	runnertest.WantFile(t, dir+"/s", "140660 65534:64154")
	a.ordered(t, functionAt("g", "{address: 'unix:"+dir+"/s', owner: '64155'}"), 1, "operation not permitted")
	runnertest.WantFile(t, dir+"/s", "140660 65534:64154")
	a.ordered(t, functionAt("g", "'tcp:127.0.0.1:"+lowPort(t)+"'"), 1, "permission denied")
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	runnertest.WantFile(t, dir+"/s", runnertest.NoFile)
}
