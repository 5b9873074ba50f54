//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/fcgi"
)

// An upgradable is a daemon whose program is a link, in place of which a test puts another.
type upgradable struct {
	*daemon
	t       testing.TB
	isApart bool   // it is two processes
	etc     string // folder of the program and of the configuration, which has to be root's then
}

// inBoth runs a test of a daemon that is one process, and of one that is two.
func inBoth(t *testing.T, test func(t *testing.T, isApart bool)) {
	t.Parallel()
	t.Run("one process", func(t *testing.T) { t.Parallel(); test(t, false) })
	t.Run("two processes", func(t *testing.T) { t.Parallel(); needRoot(t); test(t, true) })
}

// upgradable starts a daemon that logs to a file: its output is closed when the first
// process has ended. DIR in its pools is its folder.
func newUpgradable(t testing.TB, isApart bool, pools string, change ...func(*exec.Cmd)) *upgradable {
	t.Helper()
	dir := folder(t)
	u := &upgradable{t: t, isApart: isApart, etc: dir}
	if isApart {
		u.etc = folder(t)
		if err := errors.Join(os.Chown(dir, 65534, 65534), os.Chmod(dir, 0o777)); err != nil { // programs write there too
			t.Fatal(err)
		}
	}
	u.link(binary)
	if err := os.MkdirAll(dir+"/cgi", 0o755); err != nil {
		t.Fatal(err)
	}
	script(t, dir+"/cgi/hello.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nhello'\n")
	change = append(change, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args[0] = u.etc+"/bin", u.etc+"/bin"
		if cmd.Env == nil {
			cmd.Env = os.Environ()
		}
		cmd.Env = append(cmd.Env, "FCGID_LOG_OUTPUT="+dir+"/log", "FCGID_ACCESS_LOG_OUTPUT="+dir+"/access", "FCGID_ADMIN_CONTROL=unix:"+dir+"/control")
		if isApart {
			cmd.Env = append(cmd.Env, "TMPDIR="+dir) // that of the tests is root's
		}
	})
	u.daemon = launch(t, u.etc, u.adapt(strings.ReplaceAll(pools, "DIR", dir)), change...)
	u.dir = dir
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log:\n%s", tail(u.log(), 8000))
		}
		if strings.Contains(u.log(), "DATA RACE") {
			t.Error("a data race")
		}
		if running := u.running(); running != 0 {
			syscall.Kill(u.main(), syscall.SIGTERM)
			await(t, "the last daemon to end", func() bool { return !alive(running) })
		}
	})
	return u
}

// upgradeUser is who programs run as where the daemon is two processes.
const upgradeUser = 64151

// adapt makes pools those of a daemon that is two processes: each has a user of its own.
func (u *upgradable) adapt(pools string) string {
	if !u.isApart {
		return pools
	}
	n := upgradeUser
	lines := strings.SplitAfter(pools, "\n")
	for i, line := range lines {
		for _, key := range []string{"process: {", "worker: {"} {
			if strings.Contains(line, key) {
				lines[i] = strings.Replace(line, key, asUser(n)+", "+key, 1)
				n++
			}
		}
	}
	return strings.Join(lines, "") + "user: nobody\n"
}

// configure is that of the daemon.
func (u *upgradable) configure(pools string) { u.daemon.configure(u.adapt(pools)) }

// main is the pid of what stands for the daemon that answers: its spawner's, if it has one.
func (u *upgradable) main() int {
	pid := u.running()
	if u.isApart && pid != 0 {
		_, pid = procState(pid)
	}
	return pid
}

// link makes the daemon's program lead to another one.
func (u *upgradable) link(to string) {
	u.t.Helper()
	os.Remove(u.etc + "/bin.new")
	if err := os.Symlink(to, u.etc+"/bin.new"); err != nil {
		u.t.Fatal(err)
	}
	if err := os.Rename(u.etc+"/bin.new", u.etc+"/bin"); err != nil {
		u.t.Fatal(err)
	}
}

// program makes the daemon's program a script.
func (u *upgradable) program(text string) {
	u.t.Helper()
	script(u.t, u.etc+"/script", "#!/bin/sh\n"+text+"\n")
	u.link(u.etc + "/script")
}

func (u *upgradable) log() string {
	text, _ := os.ReadFile(u.dir + "/log")
	return string(text)
}

// running is the pid of the daemon that answers, or 0.
func (u *upgradable) running() int {
	code, body := get(u.t, "http://"+u.admin+"/status")
	var s status
	if code != 200 || json.Unmarshal([]byte(body), &s) != nil {
		return 0
	}
	return s.PID
}

// upgrade runs the command.
func (u *upgradable) upgrade(args ...string) output {
	u.t.Helper()
	code, stdout, stderr := fcgid(u.t, "/", nil, append([]string{"upgrade", "--control", u.dir + "/control"}, args...)...)
	return output{code, stdout, stderr}
}

// upgradeLater is upgrade in the background.
func (u *upgradable) upgradeLater(args ...string) <-chan output {
	done := make(chan output, 1)
	go func() { done <- u.upgrade(args...) }()
	return done
}

// good asks the pool at an address for a script of the folder.
func (u *upgradable) good(network, address, script string) {
	u.t.Helper()
	if res, out := ask(u.t, network, address, &fcgi.Request{Params: params(script)}); res != (fcgi.Result{}) || !strings.Contains(out, "\r\n\r\n") {
		u.t.Errorf("%s: %+v %q", script, res, out)
	}
}

// busy has the daemon run a program until a file go is made: its client waits for the answer "long".
func (u *upgradable) busy() (client *peer, pid int) {
	u.t.Helper()
	long := script(u.t, u.dir+"/cgi/long.sh", "#!/bin/sh\necho $$ >"+u.dir+"/pid\nwhile [ ! -e "+u.dir+"/go ]; do sleep 0.02; done\n"+plainHeader+"printf long\n")
	client = connect(u.t, u.dir+"/s")
	client.send(request(1, params(long), ""))
	return client, awaitPID(u.t, u.dir+"/pid")
}

// configureHanging adds a pool whose worker never is ready, and so is no daemon that starts with it.
func (u *upgradable) configureHanging() {
	u.t.Helper()
	u.configure(fmt.Sprintf("- {name: cgi, listen: 'unix:%s/s', process: {root: [%[1]s/cgi]}}\n- {name: w, listen: 'unix:%[1]s/w', worker: {command: [/bin/sleep, 1h], scale: static, max: 1, start_timeout: 1h}}\n", u.dir))
}

// cgiPools is one of each way to listen.
const cgiPools = "- {name: cgi, listen: ['unix:DIR/s', 'unix:@DIR/abstract', 'tcp:TCP'], process: {root: [DIR/cgi]}}\n"

// An upgrade replaces the process, and nothing else that anybody sees: sockets stay the
// same, what runs ends under the old daemon, and its exit status is 0.
func TestUpgrade(t *testing.T) { inBoth(t, testUpgrade) }

func testUpgrade(t *testing.T, isApart bool) {
	tcp := freeAddress(t)
	u := newUpgradable(t, isApart, strings.ReplaceAll(cgiPools, "TCP", tcp))
	before := u.inodes("s", "control")
	running, _ := u.busy()
	old, oldMain := u.running(), u.main()
	upgraded := u.upgrade()
	now := u.running()
	want := fmt.Sprintf("upgraded: process %d serves, and %d ends with its last request\n", now, old)
	if isApart {
		want = fmt.Sprintf("upgraded: daemon %d serves, started by main process %d; daemon %d, started by %d, ends with its last request\n", now, u.main(), old, oldMain)
	}
	if upgraded.code != 0 || upgraded.stdout != want {
		t.Errorf("upgrade: %+v, want %q", upgraded, want)
	}
	if now == old || now == 0 {
		t.Fatalf("process %d answers after %d", now, old)
	}
	if after := u.inodes("s", "control"); after != before {
		t.Errorf("sockets %s are now %s", before, after)
	}
	for _, a := range []string{"unix:" + u.dir + "/s", "unix:@" + u.dir + "/abstract", "tcp:" + tcp} {
		network, address, _ := strings.Cut(a, ":")
		u.good(network, address, u.dir+"/cgi/hello.sh")
	}
	if u.Exited() {
		t.Fatal("the old daemon has ended before its request")
	}
	leaving := fmt.Sprintf("pid %d, which it has replaced, still ends its requests", old)
	if _, out, _ := fcgid(t, "/", nil, "status", "--control", u.dir+"/control"); !strings.Contains(out, leaving) {
		t.Errorf("status:\n%s", out)
	}
	write(t, u.dir+"/go", "")
	if r := running.reply(1); r.body() != "long" {
		t.Errorf("the request that was running: %v", r)
	}
	if code := u.exitCode(); code != 0 {
		t.Errorf("the old daemon: exit status %d", code)
	}
	await(t, "status to forget it", func() bool {
		_, out, _ := fcgid(t, "/", nil, "status", "--control", u.dir+"/control")
		return !strings.Contains(out, leaving)
	})
	if after := u.inodes("s", "control"); after != before {
		t.Errorf("the end of the old one has changed sockets %s to %s", before, after)
	}
	u.good("unix", u.dir+"/s", u.dir+"/cgi/hello.sh")
	awaitLines(t, u.dir+"/access", 5)

	second := u.main()
	syscall.Kill(second, syscall.SIGUSR2) // and again, by the signal
	await(t, "the next upgrade", func() bool { p := u.running(); return p != 0 && p != now })
	awaitGone(t, []int{now, second})
	u.good("unix", u.dir+"/s", u.dir+"/cgi/hello.sh")
	syscall.Kill(u.main(), syscall.SIGTERM)
	await(t, "the last one to remove its sockets", func() bool { return !exists(u.dir+"/s") && !exists(u.dir+"/control") })
}

// inodes tell which files these are.
func (u *upgradable) inodes(names ...string) (text string) {
	for _, name := range names {
		info, err := os.Stat(u.dir + "/" + name)
		if err != nil {
			return err.Error()
		}
		text += fmt.Sprintf("%s:%d:%v ", name, info.Sys().(*syscall.Stat_t).Ino, info.Mode())
	}
	return text
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}

func awaitLines(t testing.TB, file string, n int) {
	t.Helper()
	await(t, fmt.Sprintf("%d lines in %s", n, file), func() bool {
		text, _ := os.ReadFile(file)
		return strings.Count(string(text), "\n") == n
	})
}

// A new daemon that does not start changes nothing, and the command and the log say why.
func TestUpgradeFails(t *testing.T) { inBoth(t, testUpgradeFails) }

func testUpgradeFails(t *testing.T, isApart bool) {
	u := newUpgradable(t, isApart, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
	pool := fmt.Sprintf("- {name: cgi, listen: {address: 'unix:%s/s', mode: '0666', backlog: 7}, process: {root: [%[1]s/cgi]}}\n", u.dir)
	before, old := u.inodes("s", "control"), u.running()
	wait := "while [ ! -e " + u.dir + "/go ]; do sleep 0.02; done; exec " + binary + ` "$@"`
	for _, test := range []struct {
		name    string
		prepare func()
		args    []string
		code    int
		says    []string
	}{
		{"it crashes", func() { u.program("exit 3") }, nil, 1, []string{"the new daemon has ended before it was ready: exit status 3", "the old daemon goes on"}},
		{"it is killed", func() { u.program("kill -KILL $$") }, nil, 1, []string{"signal: killed"}},
		{"it is no program", func() { write(t, u.etc+"/text", "text"); u.link(u.etc + "/text") }, nil, 1, []string{"permission denied"}},
		{"it is missing", func() { u.link(u.etc + "/nowhere") }, nil, 1, []string{"no such file"}},
		{"it takes too long", func() { u.program(wait) }, []string{"--timeout", "200ms"}, 1, []string{"the new daemon was not ready within 200ms"}},
		{"the file is wrong", func() { u.link(binary); u.configure(strings.Replace(pool, "{name", "{timeout: soon, name", 1)) }, nil, 78, []string{"pools[0].timeout", "the old daemon goes on"}},
		{"an address is in use", func() {
			l, err := net.Listen("unix", u.dir+"/used")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			u.configure(pool + fmt.Sprintf("- {name: two, listen: 'unix:%s/used', function: {}}\n", u.dir))
		}, nil, 1, []string{"address in use"}},
		{"its workers do not start", func() {
			u.configure(pool + fmt.Sprintf("- {name: w, listen: 'unix:%s/w', worker: {command: [/bin/false], scale: static, max: 1}}\n", u.dir))
		}, nil, 1, []string{"pool w", "workers cannot be started"}},
	} {
		test.prepare()
		u.upgrade(test.args...).is(t, test.name, test.code, test.says...)
		if now := u.running(); now != old {
			t.Fatalf("%s: process %d answers, not %d", test.name, now, old)
		}
		if after := u.inodes("s", "control"); after != before {
			t.Errorf("%s: sockets %s are now %s", test.name, before, after)
		}
		u.good("unix", u.dir+"/s", u.dir+"/cgi/hello.sh")
		await(t, test.name+": its processes to end", func() bool {
			return !slices.ContainsFunc(children(u.Process.Pid), func(pid int) bool { return pid != old && alive(pid) })
		})
	}
	if n := strings.Count(u.log(), "upgrade failed: this daemon goes on"); n != 8 {
		t.Errorf("%d upgrades are told of as failed", n)
	}
	if exists(u.dir + "/w") {
		t.Error("a socket of the new daemon is left")
	}
	if n := u.metric(t, `fcgid_upgrades_total{result="failure"}`); n != "8" {
		t.Errorf("%s upgrades are counted as failed", n)
	}
	u.configure(pool) // and once all is well
	u.upgrade().is(t, "a good one", 0)
}

// Whoever may not reload may not upgrade either.
func TestUpgradeByOthers(t *testing.T) { inBoth(t, testUpgradeByOthers) }

func testUpgradeByOthers(t *testing.T, isApart bool) {
	needRoot(t)
	u := newUpgradable(t, isApart, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
	if err := os.Chmod(u.dir+"/control", 0o666); err != nil {
		t.Fatal(err)
	}
	old := u.running()
	cmd := exec.Command(binary, "upgrade", "--control", u.dir+"/control")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64199, Gid: 64199}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "uid 64199 may not: only root ") {
		t.Errorf("%v: %s", err, out)
	}
	if now := u.running(); now != old {
		t.Errorf("process %d answers", now)
	}
}

// held has upgrades wait, until go is made, before the new daemon has begun to start.
func (u *upgradable) held() (release func()) {
	u.t.Helper()
	os.Remove(u.dir + "/go")
	u.program("echo $$ >" + u.dir + "/new\nwhile [ ! -e " + u.dir + "/go ]; do sleep 0.02; done\nexec " + u.etc + `/real "$@"`)
	os.Remove(u.dir + "/new")
	os.Symlink(binary, u.etc+"/real")
	return func() { write(u.t, u.dir+"/go", "") }
}

// next is the process that an upgrade has started, which held keeps from starting.
func (u *upgradable) next() int {
	u.t.Helper()
	return awaitPID(u.t, u.dir+"/new")
}

// While an upgrade is tried another one is refused, and a reload waits: it is the new
// daemon's.
func TestUpgradeAtOnce(t *testing.T) { inBoth(t, testUpgradeAtOnce) }

func testUpgradeAtOnce(t *testing.T, isApart bool) {
	u := newUpgradable(t, isApart, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
	release, old := u.held(), u.running()
	first := u.upgradeLater()
	next := u.next()
	u.upgrade().is(t, "a second one", 1, "another upgrade is being carried out")
	u.signal(syscall.SIGUSR2)
	u.signal(syscall.SIGHUP)
	release()
	(<-first).is(t, "the first one", 0)
	if now := u.main(); now != next || u.running() == old {
		t.Errorf("process %d stands for what answers, not %d", now, next)
	}
	await(t, "the reload", func() bool { return strings.Contains(u.log(), `"msg":"reloaded"`) })
	if code := u.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	u.good("unix", u.dir+"/s", u.dir+"/cgi/hello.sh")
}

// Who knows the old daemon only is heard while that ends: a reload is the new one's, and
// an upgrade is refused.
func TestSignalsAfterUpgrade(t *testing.T) { inBoth(t, testSignalsAfterUpgrade) }

func testSignalsAfterUpgrade(t *testing.T, isApart bool) {
	u := newUpgradable(t, isApart, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
	running, _ := u.busy()
	u.upgrade().is(t, "upgrade", 0)
	now := u.running()
	for _, test := range []struct {
		signal syscall.Signal
		says   string
	}{
		{syscall.SIGUSR2, `"msg":"upgrade refused: another daemon has taken this one's place"`},
		{syscall.SIGHUP, `"msg":"reloaded"`},
	} {
		u.signal(test.signal)
		await(t, test.says, func() bool { return strings.Contains(u.log(), test.says) })
	}
	if after := u.running(); after != now {
		t.Errorf("process %d answers, not %d", after, now)
	}
	write(t, u.dir+"/go", "")
	if r := running.reply(1); r.status() != 200 {
		t.Errorf("the request that was running: %v", r)
	}
	if code := u.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// The end of a new daemon that is not ready is not that of the old one, by whichever signal.
func TestUpgradeIsEnded(t *testing.T) { inBoth(t, testUpgradeIsEnded) }

func testUpgradeIsEnded(t *testing.T, isApart bool) {
	u := newUpgradable(t, isApart, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
	old := u.running()
	for _, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		u.held()
		done := u.upgradeLater()
		syscall.Kill(u.next(), s)
		(<-done).is(t, s.String(), 1, "the new daemon has ended before it was ready: signal: "+s.String())
		if now := u.running(); now != old {
			t.Fatalf("%v: process %d answers", s, now)
		}
	}
	// A new one that starts its workers.
	u.link(binary)
	u.configureHanging()
	for _, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		for _, isSpawner := range []bool{false, true} {
			done := u.upgradeLater()
			next := u.starting()
			victim := next[len(next)-1]
			if isSpawner {
				victim = next[0]
			}
			syscall.Kill(victim, s)
			(<-done).is(t, s.String(), 1)
			awaitGone(t, next)
			if now := u.running(); now != old {
				t.Fatalf("%v: process %d answers", s, now)
			}
			u.good("unix", u.dir+"/s", u.dir+"/cgi/hello.sh")
			os.Remove(u.dir + "/w") // a killed one leaves it
		}
	}
}

// starting are the processes of a new daemon, when that has started a worker and waits for it.
func (u *upgradable) starting() (next []int) {
	u.t.Helper()
	old := u.running()
	await(u.t, "the new daemon's worker", func() bool {
		for _, pid := range children(u.Process.Pid) {
			switch started := children(pid); {
			case pid == old || len(started) == 0:
			case !u.isApart:
				next = []int{pid}
			default:
				i := slices.IndexFunc(started, func(pid int) bool { return userOf(pid) == "65534" })
				if i >= 0 && len(started) == 2 {
					next = []int{pid, started[i]}
				}
			}
		}
		return next != nil
	})
	return next
}

// userOf is whose a process is, "" if there is none. Its files in /proc do not tell: those of one
// that is not dumpable are root's.
func userOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, after, _ := strings.Cut(string(text), "\nUid:\t")
	uid, _, _ := strings.Cut(after, "\t")
	return uid
}

// Whoever stops the old daemon while it tries an upgrade stops both.
func TestStopDuringUpgrade(t *testing.T) { inBoth(t, testStopDuringUpgrade) }

func testStopDuringUpgrade(t *testing.T, isApart bool) {
	u := newUpgradable(t, isApart, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
	u.held()
	done := u.upgradeLater()
	next := u.next()
	u.signal(syscall.SIGTERM)
	(<-done).is(t, "the upgrade", 1, "the daemon is stopping")
	if code := u.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	await(t, "the new daemon to end", func() bool { return !alive(next) })
	if exists(u.dir + "/s") {
		t.Error("the socket is left")
	}
}

// A daemon can be replaced while it has not got rid of the one before. To stop the last one
// is to stop all.
func TestUpgradeWhileDraining(t *testing.T) { inBoth(t, testUpgradeWhileDraining) }

func testUpgradeWhileDraining(t *testing.T, isApart bool) {
	u := newUpgradable(t, isApart, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
	sleeps := script(t, u.dir+"/cgi/sleep.sh", "#!/bin/sh\necho x >>"+u.dir+"/runs\nwhile [ ! -e "+u.dir+"/go ]; do sleep 0.02; done\nprintf 'Content-Type: text/plain\\n\\nlong'\n")
	var asked []*peer
	var pids []int
	for i := range 3 {
		p := connect(t, u.dir+"/s")
		p.send(request(1, params(sleeps), ""))
		asked, pids = append(asked, p), append(pids, u.running())
		await(t, "the program to run", func() bool {
			text, _ := os.ReadFile(u.dir + "/runs")
			return len(text) == 2*(i+1)
		})
		u.upgrade().is(t, "upgrade", 0)
	}
	for _, pid := range pids {
		if !alive(pid) {
			t.Errorf("process %d has not waited for its request", pid)
		}
	}
	last := u.main()
	syscall.Kill(last, syscall.SIGTERM)
	await(t, "the last one to begin to stop", func() bool { return strings.Contains(u.log(), `"msg":"stopping"`) })
	write(t, u.dir+"/go", "")
	for i, p := range asked {
		if r := p.reply(1); r.body() != "long" {
			t.Errorf("request %d: %v", i, r)
		}
	}
	awaitGone(t, append(pids, last))
}

// As the first process of a container it is the daemon below it that is replaced.
func TestUpgradeOfFirstProcess(t *testing.T) { inBoth(t, testUpgradeOfFirstProcess) }

func testUpgradeOfFirstProcess(t *testing.T, isApart bool) {
	needRoot(t)
	dir := folder(t)
	if err := errors.Join(os.Mkdir(dir+"/run", 0o755), os.Chown(dir+"/run", 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	d := &daemon{dir: dir, file: dir + "/fcgid.yaml", admin: freeAddress(t)}
	u := &upgradable{isApart: isApart, daemon: d}
	u.configure(fmt.Sprintf("- {name: fn, listen: 'unix:%s/run/s', function: {}}\n", dir))
	d.process = start(t, exec.Command(need(t, "unshare"), "--pid", "--fork", "--mount-proc", "--kill-child=TERM", binary, "serve", "-c", d.file))
	d.awaitReady(t)
	first := children(d.Process.Pid)[0]
	for range 2 {
		old := children(first)
		if len(old) != 1 {
			t.Fatalf("the first process has the children %v", old)
		}
		syscall.Kill(first, syscall.SIGUSR2)
		await(t, "another daemon", func() bool { now := children(first); return len(now) == 1 && now[0] != old[0] })
		if res, out := ask(t, "unix", dir+"/run/s", &fcgi.Request{Params: params("fcgid.ping")}); res != (fcgi.Result{}) {
			t.Errorf("%+v %q", res, out)
		}
	}
	syscall.Kill(first, syscall.SIGTERM)
	if code := d.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// A connection that is kept, and has no request, goes over: it is the new daemon that answers
// the next one on it, and neither closes it.
func TestUpgradeKeepsConnections(t *testing.T) { inBoth(t, testUpgradeKeepsConnections) }

func testUpgradeKeepsConnections(t *testing.T, isApart bool) {
	tcp := freeAddress(t)
	u := newUpgradable(t, isApart, strings.ReplaceAll(cgiPools, "TCP", tcp))
	pid := script(t, u.dir+"/cgi/parent.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s' $PPID\n")
	var kept []*peer
	for _, address := range []string{u.dir + "/s", tcp} {
		kept = append(kept, connect(t, address))
	}
	before := ""
	for range 3 {
		now := ""
		await(t, "the next daemon to tell of itself", func() bool {
			now = strconv.Itoa(u.main())
			return now != "0" && now != before
		})
		before = now
		for _, p := range kept {
			p.send(request(1, params(pid), ""))
			if r := p.reply(1); r.body() != now {
				t.Errorf("answered by %q, not %s", r.body(), now)
			}
		}
		u.upgrade().is(t, "upgrade", 0)
	}
	if n := u.metric(t, `fcgid_connections_total{pool="cgi"}`); n != "2" {
		t.Errorf("%s connections are counted, want 2", n)
	}
	if n := u.metric(t, `fcgid_upgrades_total{result="success"}`); n != "3" {
		t.Errorf("%s upgrades are counted, want 3", n)
	}
	if n := u.metric(t, `fcgid_requests_total{outcome="ok",pool="cgi"}`); n != "6" {
		t.Errorf("%s requests are counted, want 6", n)
	}
}

// A connection whose request outlasts two upgrades goes to the last daemon, by way of the one
// in between, which has nothing else to wait for.
func TestUpgradeTwiceKeepsConnections(t *testing.T) { inBoth(t, testUpgradeTwiceKeepsConnections) }

func testUpgradeTwiceKeepsConnections(t *testing.T, isApart bool) {
	tcp := freeAddress(t)
	u := newUpgradable(t, isApart, strings.ReplaceAll(cgiPools, "TCP", tcp))
	sleeps := script(t, u.dir+"/cgi/sleep.sh", "#!/bin/sh\necho x >>"+u.dir+"/runs\nwhile [ ! -e "+u.dir+"/go ]; do sleep 0.02; done\nprintf 'Content-Type: text/plain\\n\\n%s' $PPID\n")
	var pids []int
	first := u.main() // whose children programs are
	var kept []*peer
	for _, address := range []string{u.dir + "/s", tcp} {
		p := connect(t, address)
		p.send(request(1, params(sleeps), ""))
		kept = append(kept, p)
	}
	await(t, "the programs to run", func() bool {
		text, _ := os.ReadFile(u.dir + "/runs")
		return len(text) == 4
	})
	for range 2 {
		pids = append(pids, u.running())
		u.upgrade().is(t, "upgrade", 0)
	}
	await(t, "the one in between to have no pool", func() bool { return strings.Contains(u.log(), `"msg":"pool stopped"`) })
	write(t, u.dir+"/go", "")
	for _, p := range kept {
		if r := p.reply(1); r.body() != strconv.Itoa(first) {
			t.Errorf("answered by %q, not the first", r.body())
		}
	}
	awaitGone(t, pids)
	for _, p := range kept {
		p.send(request(1, params(sleeps), ""))
		if r := p.reply(1); r.body() != strconv.Itoa(u.main()) {
			t.Errorf("answered by %q, not the last", r.body())
		}
	}
	if strings.Contains(u.log(), "were closed") {
		t.Error("connections were lost")
	}
}

// systemd is told of the new daemon by the old one, and then of everything by the new one.
// It keeps the sockets: a stop leaves their files to the next daemon.
func TestUpgradeTellsSystemd(t *testing.T) { inBoth(t, testUpgradeTellsSystemd) }

func testUpgradeTellsSystemd(t *testing.T, isApart bool) {
	m := newManager(t)
	if err := os.Chmod(m.socket, 0o777); err != nil { // as systemd's is
		t.Fatal(err)
	}
	u := newUpgradable(t, isApart, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n", m.start("FDSTORE=9"))
	stored := map[string]bool{}
	for range 2 {
		stored[m.next("FDSTORE=1\n")] = true
	}
	if len(stored) != 2 {
		t.Errorf("stored: %v", stored)
	}
	u.upgrade().is(t, "upgrade", 0)
	if got, want := m.next("MAINPID=", "READY=", "STOPPING=", "STATUS=stop"), fmt.Sprintf("MAINPID=%d", u.main()); got != want {
		t.Errorf("it is told %q, want %q", got, want)
	}
	if got := m.next("READY=", "STOPPING=", "FDSTOREREMOVE="); got != "READY=1" {
		t.Errorf("after it: %q", got)
	}
	if code := u.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	last := u.main()
	syscall.Kill(last, syscall.SIGTERM)
	if got := m.next("FDSTORE=1", "FDSTOREREMOVE=", "STOPPING="); !strings.HasPrefix(got, "STOPPING=1") {
		t.Errorf("at the end: %q", got)
	}
	await(t, "the daemon to end", func() bool { return !alive(last) })
	if !exists(u.dir+"/s") || exists(u.dir+"/control") {
		t.Error("only the file of a socket that systemd keeps is to be left")
	}
}
