//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/fcgi"
)

// An apart is a daemon that root has started to be somebody else, and its spawner, which is
// the process that was started.
type apart struct {
	*daemon
	address string
	control string
	served  int // pid of the daemon itself
}

// apartPool is a pool of functions at the address.
const apartPool = "- {name: f, listen: 'ADDRESS', function: {names: [fcgid.ping, fcgid.echo]}, timeout: 5s}\n"

// serveApart starts a daemon that becomes nobody, with a pool of functions.
func serveApart(t *testing.T, change ...func(*exec.Cmd)) *apart {
	t.Helper()
	needRoot(t)
	dir := folder(t)
	a := &apart{address: freeAddress(t), control: dir + "/runtime/control.sock"}
	if err := errors.Join(os.Mkdir(dir+"/runtime", 0o755), os.Mkdir(dir+"/state", 0o700)); err != nil { // as systemd does
		t.Fatal(err)
	}
	change = append(change, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Environ(), "RUNTIME_DIRECTORY="+dir+"/runtime", "STATE_DIRECTORY="+dir+"/state")
	})
	a.daemon = launch(t, dir, a.pools(""), change...)
	a.served = a.status(t).PID
	return a
}

// pools are the file's, with user after them.
func (a *apart) pools(more string) string {
	return strings.ReplaceAll(apartPool, "ADDRESS", "tcp:"+a.address) + more + "user: nobody\n"
}

// order runs a command for the daemon.
func (a *apart) order(t *testing.T, args ...string) output {
	t.Helper()
	code, stdout, stderr := fcgid(t, "/", nil, append(args, "-c", a.file, "--control", a.control)...)
	return output{code, stdout, stderr}
}

func (a *apart) ping(t *testing.T) {
	t.Helper()
	if res, out := ask(t, "tcp", a.address, &fcgi.Request{Close: true, Params: params("fcgid.ping")}); res.AppStatus != 0 || !strings.HasSuffix(out, "pong\n") {
		t.Errorf("%+v %q", res, out)
	}
}

func procStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	return procFields(t, strconv.Itoa(pid))
}

// procFields are those of a process, or of a thread of it, PID/task/TID.
func procFields(t *testing.T, of string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + of + "/status")
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = strings.Join(strings.Fields(value), " ")
	}
	return fields
}

// The daemon is another process and another user's, without any way to more, and does all
// that one does; the file is root's alone to read.
func TestApart(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	if err := os.Chmod(a.file, 0o600); err != nil {
		t.Fatal(err)
	}
	if a.served == a.Process.Pid || !slices.Equal(children(a.Process.Pid), []int{a.served}) {
		t.Fatalf("pid %d is served by %d, and has the children %v", a.Process.Pid, a.served, children(a.Process.Pid))
	}
	status := procStatus(t, a.served)
	for name, want := range map[string]string{
		"Name": filepath.Base(binary), "Uid": "65534 65534 65534 65534", "Gid": "65534 65534 65534 65534", "Groups": "65534", "NoNewPrivs": "1",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
	} {
		if status[name] != want {
			t.Errorf("%s of the daemon is %s, want %s", name, status[name], want)
		}
	}
	if info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", a.served)); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the daemon is dumpable: %v", err)
	}
	if uid := procStatus(t, a.Process.Pid)["Uid"]; uid != "0 0 0 0" {
		t.Errorf("the spawner is %s", uid)
	}
	// It must not die when programs fork until there is no room for a thread.
	if n, err := strconv.Atoi(procStatus(t, a.Process.Pid)["Threads"]); err != nil || n < 24 {
		t.Errorf("the spawner has %d threads, %v", n, err)
	}
	a.ping(t)
	other := freeAddress(t)
	a.configure(a.pools("- {name: more, listen: 'tcp:" + other + "', function: {}}\n"))
	a.reload(t)
	if s := a.status(t); !s.Reload.OK || len(s.Pools) != 2 || s.PID != a.served {
		t.Errorf("after HUP: %+v", s)
	}
	if res, out := ask(t, "tcp", other, &fcgi.Request{Close: true, Params: params("fcgid.ping")}); res.AppStatus != 0 {
		t.Errorf("the pool of the reload: %+v %q", res, out)
	}
	a.configure(a.pools(""))
	a.order(t, "check", "--diff").is(t, "diff", 0, "more")
	a.order(t, "reload").is(t, "reload", 0, "reloaded")
	a.ping(t)
	a.signal(syscall.SIGTERM)
	if code := a.exitCode(); code != 0 || alive(a.served) {
		t.Errorf("exit status %d", code)
	}
	if out := a.out.String(); !strings.Contains(out, `"msg":"stopped"`) {
		t.Errorf("not stopped gracefully: %s", out)
	}
}

// A descriptor of --notify-fd that was not passed is found before one of the process's own is
// taken for it.
func TestApartNotifiesNoOther(t *testing.T) {
	t.Parallel()
	needRoot(t)
	file := folder(t) + "/fcgid.yaml"
	write(t, file, "pools: [{name: f, listen: unix:"+file+".s, function: {}}]\nadmin: {listen: ''}\nuser: nobody\n")
	for _, fd := range []string{"1", "3", "4", "5", "6", "77"} {
		out, err := exec.Command(binary, "serve", "-c", file, "--notify-fd", fd).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "--notify-fd "+fd+":") {
			t.Errorf("--notify-fd %s, which is not open: %v, %s", fd, err, out)
		}
	}
}

// Whichever of the two is killed, the other one ends, and says why.
func TestApartKilled(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		victim func(*apart) int
		want   string
	}{
		"daemon":  {func(a *apart) int { return a.served }, "the daemon was killed"},
		"spawner": {func(a *apart) int { return a.Process.Pid }, "the process that starts programs has ended"},
	} {
		t.Run(name, func(t *testing.T) {
			a := serveApart(t)
			if err := unix.Kill(test.victim(a), unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			code := a.exitCode()
			awaitGone(t, []int{a.served})
			if code == 0 || !strings.Contains(a.out.String(), test.want) {
				t.Errorf("exit status %d, and the log lacks %q:\n%s", code, test.want, a.out)
			}
		})
	}
}

// A file that is wrong, or could be another's, changes nothing, and is told of.
func TestApartReloadRefused(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	taken := freeAddress(t)
	launch(t, folder(t), "- {name: other, listen: 'tcp:"+taken+"', function: {}}\n")
	for _, test := range []struct {
		name, pools string
		code        int
		want        string
		mode        os.FileMode
	}{
		{"unknown key", a.pools("") + "bad: 1\n", 78, "fcgid.yaml:7:1: bad: unknown key", 0o644},
		{"writable by others", a.pools(""), 78, "could be changed by others than root", 0o666},
		{"larger than it may be", a.pools("") + "#" + strings.Repeat("x", 2<<20), 78, "larger than 1MiB", 0o644},
		{"nothing", "", 78, "pools", 0o644},
		{"address in use", a.pools("- {name: g, listen: 'tcp:" + taken + "', function: {}}\n"), 1, "address in use", 0o644},
		{"another user", strings.ReplaceAll(a.pools(""), "nobody", "daemon"), 1, "user cannot change while the daemon runs", 0o644},
		{"no user", strings.ReplaceAll(a.pools(""), "nobody", `""`), 1, "user cannot change while the daemon runs", 0o644},
		{"programs of the daemon's user", a.pools("- {name: p, listen: 'tcp:" + taken + "', process: {root: [/usr]}} # for each user\n"), 78, "needs a user of its own", 0o644},
	} {
		a.configure(test.pools)
		if err := os.Chmod(a.file, test.mode); err != nil {
			t.Fatal(err)
		}
		a.order(t, "reload").is(t, test.name, test.code, test.want)
		a.ping(t)
		if s := a.status(t); s.Reload.OK || len(s.Pools) != 1 {
			t.Errorf("%s: %+v", test.name, s)
		}
		os.Remove(a.file)
	}
	a.configure(a.pools(""))
	a.order(t, "reload").is(t, "a good one", 0, "reloaded")
}

// A process that reads the file and dies costs that reload, and no more.
func TestApartReaderKilled(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	if err := os.Remove(a.file); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(a.file, 0o600); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(a.file, os.O_RDWR, 0) // so that the reader waits for more
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	a.signal(syscall.SIGHUP)
	await(t, "the reader to be killed", func() bool {
		for _, pid := range children(a.Process.Pid) {
			if pid != a.served {
				return unix.Kill(pid, unix.SIGKILL) == nil
			}
		}
		return false
	})
	await(t, "the refusal", func() bool { return !a.status(t).Reload.OK })
	if s := a.status(t); !strings.Contains(s.Reload.Error, "the process that does it has ended: signal: killed") {
		t.Errorf("%+v", s.Reload)
	}
	os.Remove(a.file)
	a.configure(a.pools(""))
	a.order(t, "reload").is(t, "reload", 0, "reloaded")
	a.ping(t)
}

// Reloads leave no descriptor and no process behind, in neither of the two.
func TestApartReloadsLeaveNothing(t *testing.T) {
	t.Parallel()
	a := serveApart(t)
	round := func() {
		for _, pools := range []string{a.pools(""), a.pools("- {name: g, listen: 'unix:@" + a.address + "', timeout: 5s, user: '64105', group: '64105', worker: {command: [" + need(t, "php-cgi") + "], max: 1}}\n"), a.pools("bad\n")} {
			a.configure(pools)
			a.reload(t)
		}
	}
	round() // what the first ones leave for good is there
	count := func() [3]int {
		return [3]int{countFDs(t, a.Process.Pid), countFDs(t, a.served), len(children(a.Process.Pid))}
	}
	a.configure(a.pools(""))
	a.reload(t)
	await(t, "the pool to end", func() bool { return len(children(a.Process.Pid)) == 1 })
	before := count()
	for range 34 {
		round()
	}
	a.configure(a.pools(""))
	a.reload(t)
	var now [3]int
	defer func() { t.Logf("descriptors of the spawner, of the daemon, and children: %v, now %v", before, now) }()
	await(t, "all to be as it was", func() bool {
		now = count()
		return now[0] <= before[0] && now[1] <= before[1] && now[2] == before[2]
	})
	a.ping(t)
}

// countFDs is how many descriptors a process has.
func countFDs(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// While one of the two stands still the other one does what it can, and can be ended.
func TestApartStopped(t *testing.T) {
	t.Parallel()
	t.Run("spawner", func(t *testing.T) {
		a := serveApart(t)
		a.signal(syscall.SIGSTOP)
		await(t, "the spawner to stand still", func() bool { return isStopped(a.Process.Pid) })
		a.ping(t)
		if err := unix.Kill(a.served, unix.SIGHUP); err != nil { // a reload that waits
			t.Fatal(err)
		}
		a.ping(t)
		before := a.status(t).Reload.Time
		a.signal(syscall.SIGCONT)
		await(t, "the reload", func() bool { return a.status(t).Reload.Time != before })
		a.signal(syscall.SIGTERM)
		if code := a.exitCode(); code != 0 {
			t.Errorf("exit status %d", code)
		}
	})
	t.Run("daemon", func(t *testing.T) {
		a := serveApart(t)
		if err := unix.Kill(a.served, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		await(t, "the daemon to stand still", func() bool { return isStopped(a.served) })
		a.signal(syscall.SIGTERM)
		if code := a.exitCode(); code != 0 || alive(a.served) {
			t.Errorf("exit status %d", code)
		}
	})
	t.Run("daemon that hears no signal", func(t *testing.T) {
		a := serveApart(t)
		if err := unix.Kill(a.served, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		a.signal(syscall.SIGABRT) // as of systemd's watchdog
		if code := a.exitCode(); code == 0 || alive(a.served) {
			t.Errorf("exit status %d", code)
		}
	})
}

func isStopped(pid int) bool {
	state, _ := procState(pid)
	return state == "T"
}

// What is wrong at the start is told as in one process.
func TestApartStartRefused(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := folder(t)
	for _, test := range []struct {
		text string
		mode os.FileMode
		code int
		want string
	}{
		{"user: nobody\npools: [{name: p, listen: 'unix:/x', process: {root: [/usr]}}]\n", 0o644, 78, "needs a user of its own"},
		{"user: no_such_user\npools: [{name: p, listen: 'unix:/x', function: {}}]\n", 0o644, 78, "unknown user"},
		{"user: nobody\npools: [{name: p, listen: 'unix:/x', function: {}}]\n", 0o666, 78, "could be changed by others than root"},
		{"user: nobody\npools: [{name: p, listen: 'unix:/x', function: {}}]\nbad: 1\n", 0o644, 78, "bad: unknown key"},
		{"user: nobody\nadmin: {listen: ''}\npools: [{name: p, listen: 'unix:/no/folder/x', function: {}}]\n", 0o644, 1, "/no/folder"},
	} {
		file := dir + "/f.yaml"
		write(t, file, test.text)
		if err := os.Chmod(file, test.mode); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := fcgid(t, "/", nil, "serve", "-c", file)
		output{code, stdout, stderr}.is(t, test.text, test.code, test.want)
	}
}

// Root's daemon whose file could have had a user, and is one process, has its garbage collected as
// any other.
func TestAloneCollectsGarbage(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := folder(t)
	d := launch(t, dir, "- {name: p, listen: 'unix:"+dir+"/s', process: {root: [/usr]}} # for each user\n")
	if percent := d.metric(t, "go_gc_gogc_percent"); len(percent) == 0 || len(percent) > 4 { // else it is off
		t.Errorf("GOGC is %s", percent)
	}
}
