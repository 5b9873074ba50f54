//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
)

var lastLowPort atomic.Int64

// lowPort is a free port of the loopback that only root can take. No other test gets it.
func lowPort(t *testing.T) string {
	t.Helper()
	for port := 0; port < 1023; {
		port = 200 + os.Getpid()%200 + int(lastLowPort.Add(1))
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			l.Close()
			return strconv.Itoa(port)
		}
	}
	t.Fatal("there is no free port below 1024")
	return ""
}

// functionAt is a pool of functions at addresses, which are a list in YAML's flow style.
func functionAt(name, addresses string) string {
	return fmt.Sprintf("- {name: %s, listen: [%s], function: {names: [fcgid.ping]}}\n", name, addresses)
}

func (a *apart) pong(t *testing.T, network, address string) {
	t.Helper()
	if res, out := ask(t, network, address, &fcgi.Request{Close: true, Params: params("fcgid.ping")}); res.AppStatus != 0 || !strings.HasSuffix(out, "pong\n") {
		t.Errorf("%s: %+v %q", address, res, out)
	}
}

// ordered has the daemon read a file with more pools.
func (a *apart) ordered(t *testing.T, more string, code int, want ...string) {
	t.Helper()
	a.configure(a.pools(more))
	a.order(t, "reload").is(t, more, code, want...)
}

// Root's folders and ports, and any owner: sockets are made, changed, moved and removed by who
// has the right, and no other file is touched.
func TestApartSockets(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	dir := a.dir + "/sockets"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/other", "kept")
	s, port := dir+"/s", lowPort(t)
	at := func(mode, owner, group string) string {
		return fmt.Sprintf("{address: 'unix:%s', mode: %q, owner: %q, group: %q}", s, mode, owner, group)
	}
	low := fmt.Sprintf("'tcp:127.0.0.1:%s'", port)

	a.ordered(t, functionAt("g", at("0640", "64141", "64142")+", "+low), 0, "g: added")
	runnertest.WantFile(t, s, "140640 64141:64142")
	a.pong(t, "unix", s)
	a.pong(t, "tcp", "127.0.0.1:"+port)
	a.ordered(t, functionAt("g", at("0606", "64143", "")+", "+low), 0)
	runnertest.WantFile(t, s, "140606 64143:65534") // and the group that is not named any more is the daemon's
	a.pong(t, "unix", s)
	a.ordered(t, functionAt("h", at("0606", "64143", "")+", 'unix:"+dir+"/t'"), 0) // moved to another pool
	a.pong(t, "unix", s)
	runnertest.WantFile(t, dir+"/t", "140660 65534:65534") // by default the daemon's
	if _, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
		t.Error("the port is listened on still")
	}
	os.Remove(dir + "/t")
	a.order(t, "reload").is(t, "with a socket whose file is gone", 0)
	a.pong(t, "unix", dir+"/t")
	a.ordered(t, "", 0, "h: removed")
	await(t, "the files to be gone", func() bool {
		return runnertest.DescribeFile(s) == runnertest.NoFile && runnertest.DescribeFile(dir+"/t") == runnertest.NoFile
	})

	a.ordered(t, functionAt("g", at("0640", "64141", "64142")+", "+low), 0)
	if n := countSockets(t, a.Process.Pid, port); n != 0 {
		t.Errorf("the spawner has %d descriptors of the port", n)
	}
	runnertest.WantFile(t, a.dir+"/runtime", "40755 0:0")
	runnertest.WantFile(t, a.control, "140600 65534:65534")
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	for _, path := range []string{s, a.control} {
		runnertest.WantFile(t, path, runnertest.NoFile)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}
}

// countSockets is how many descriptors of TCP sockets that listen on a port a process has.
func countSockets(t *testing.T, pid int, port string) (n int) {
	t.Helper()
	number, _ := strconv.Atoi(port)
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	inodes := make(map[string]bool)
	for line := range strings.Lines(string(table)) {
		if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", number)) {
			inodes["socket:["+f[9]+"]"] = true
		}
	}
	if len(inodes) == 0 {
		t.Fatalf("nobody listens on %s", port)
	}
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if to, _ := os.Readlink(link); inodes[to] {
			n++
		}
	}
	return n
}

// While sockets come and go, their files never have another mode, owner or group.
func TestApartSocketsAreMadeAtOnce(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	path := a.dir + "/s"
	pool := functionAt("g", fmt.Sprintf("{address: 'unix:%s', mode: '0666', owner: '64144', group: '64145'}", path))
	var stop atomic.Bool
	var watching sync.WaitGroup
	seen := make(map[string]int)
	watching.Go(func() {
		for !stop.Load() {
			seen[runnertest.DescribeFile(path)]++
		}
	})
	for range 10 {
		a.ordered(t, pool, 0)
		a.ordered(t, "", 0)
	}
	stop.Store(true)
	watching.Wait()
	delete(seen, runnertest.NoFile)
	if seen["140666 64144:64145"] == 0 || len(seen) != 1 {
		t.Errorf("the file was seen as %v", seen)
	}
}

// What is in the way of a socket is left alone, unless nobody listens there any more; and in a
// folder of somebody else's the rights of the socket's owner count.
func TestApartSocketsInTheWay(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	dir, theirs := a.dir+"/sockets", a.dir+"/theirs"
	for _, path := range []string{dir, theirs} {
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(theirs, 64146, 64146); err != nil {
		t.Fatal(err)
	}
	live, err := net.Listen("unix", dir+"/live")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/stale"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	write(t, dir+"/file", "kept")
	os.Symlink(dir+"/stale", dir+"/link")
	os.Symlink(dir, theirs+"/led")
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, test := range []struct{ address, owner, want string }{
		{"unix:" + dir + "/live", "", "address in use: another process answers on it"},
		{"unix:" + dir + "/file", "", "/file exists and is no socket"},
		{"unix:" + dir + "/link", "", "/link exists and is no socket"},
		{"unix:" + dir + "/none/s", "", "folder " + dir + "/none: no such file or directory"},
		{"tcp:" + busy.Addr().String(), "", "address in use: another process listens on it"},
		{"unix:" + theirs + "/s", "", "others than root can change this folder"},
		{"unix:" + theirs + "/led/s", "64146", "permission denied"},
	} {
		listen := fmt.Sprintf("{address: '%s'", test.address)
		if test.owner != "" {
			listen += ", owner: '" + test.owner + "'"
		}
		a.ordered(t, functionAt("g", listen+"}"), 1, test.want)
		a.ping(t)
	}
	runnertest.WantFile(t, theirs+"/led/s", runnertest.NoFile)
	a.ordered(t, functionAt("g", "'unix:"+dir+"/stale', {address: 'unix:"+theirs+"/s', owner: '64146'}"), 0)
	a.pong(t, "unix", dir+"/stale")
	runnertest.WantFile(t, theirs+"/s", "140660 64146:65534")
	a.ordered(t, "", 0)
	await(t, "the files to be gone", func() bool {
		return runnertest.DescribeFile(theirs+"/s") == runnertest.NoFile && runnertest.DescribeFile(dir+"/stale") == runnertest.NoFile
	})
}

// Behind nginx, which asks all the time, sockets change mode, owner, pool and address without
// a request that is lost.
func TestApartSocketsBehindNginx(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	path, port := a.dir+"/s", lowPort(t)
	socket := func(mode, owner string) string {
		return fmt.Sprintf("{address: 'unix:%s', mode: %q, owner: %q}", path, mode, owner)
	}
	one, wild := "'tcp:127.0.0.1:"+port+"'", "{address: 'tcp:0.0.0.0:"+port+"', allow: [127.0.0.0/8]}"
	rounds := []string{
		functionAt("g", socket("0660", "")+", "+one),
		functionAt("g", socket("0606", "64147")+", "+wild),
		functionAt("g", one) + functionAt("h", socket("0606", "64147")),
		functionAt("h", socket("0660", "64148")+", "+wild),
	}
	a.ordered(t, rounds[0], 0)
	location := "location /%s { include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME fcgid.ping; fastcgi_pass %s; fastcgi_keep_conn %s; fastcgi_next_upstream off; }\n"
	url := nginxWith(t, a.dir, fmt.Sprintf("upstream u { server unix:%s max_fails=0; keepalive 8; }\nupstream t { server 127.0.0.1:%s max_fails=0; keepalive 8; }\n", path, port),
		fmt.Sprintf(location, "unix", "u", "on")+fmt.Sprintf(location, "tcp", "t", "on")+
			fmt.Sprintf(location, "fresh/unix", "unix:"+path, "off")+fmt.Sprintf(location, "fresh/tcp", "127.0.0.1:"+port, "off"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var asking sync.WaitGroup
	var answers atomic.Int64
	for _, where := range []string{"/unix", "/tcp", "/fresh/unix", "/fresh/tcp"} {
		asking.Go(func() {
			for ctx.Err() == nil {
				if status, body := get(t, url+where); status != 200 || !strings.HasSuffix(body, "pong\n") {
					t.Errorf("%s: %d %q", where, status, body)
					return
				}
				answers.Add(1)
			}
		})
	}
	for range 3 {
		for _, pools := range rounds {
			a.ordered(t, pools, 0)
		}
		// What was made and changed for a reload that is refused then is as it was.
		before := runnertest.DescribeFile(path)
		a.ordered(t, functionAt("h", socket("0600", "64149")+", "+wild)+functionAt("i", "'unix:"+a.dir+"/none/s'"), 1, "/none")
		runnertest.WantFile(t, path, before)
	}
	stop()
	asking.Wait()
	if strings.Contains(a.out.String(), "attach filter") {
		t.Error("connections may have been lost: a filter was refused")
	}
	t.Logf("%d answers", answers.Load())
}

// Whichever of the two is killed, the next daemon can listen; and where the spawner is there to
// do it, nothing is left.
func TestApartSocketsOfKilled(t *testing.T) {
	t.Parallel()
	for _, victim := range []string{"daemon", "spawner"} {
		t.Run(victim, func(t *testing.T) {
			a := serveApart(t)
			path := a.dir + "/s"
			a.ordered(t, functionAt("g", "'unix:"+path+"'"), 0)
			pid := a.served
			if victim == "spawner" {
				pid = a.Process.Pid
			}
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			a.exitCode()
			awaitGone(t, []int{a.served})
			if victim == "daemon" {
				runnertest.WantFile(t, path, runnertest.NoFile)
				runnertest.WantFile(t, a.control, runnertest.NoFile)
			}
			again := exec.Command(a.Path, a.Args[1:]...)
			again.Env = a.Env
			next := start(t, again)
			await(t, "the next daemon to serve", func() bool { return strings.Contains(next.out.String(), `"msg":"serving"`) })
			a.pong(t, "unix", path)
		})
	}
}
