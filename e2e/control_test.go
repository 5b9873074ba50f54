//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// An output is what a command has come to.
type output struct {
	code           int
	stdout, stderr string
}

// order runs a command for the site's daemon.
func (s *site) order(args ...string) output {
	s.t.Helper()
	code, stdout, stderr := fcgid(s.t, "/", nil, append(args, "-c", s.file)...)
	return output{code, stdout, stderr}
}

// orderLater is order in the background.
func (s *site) orderLater(args ...string) <-chan output {
	done := make(chan output, 1)
	go func() { done <- s.order(args...) }()
	return done
}

// is checks what a command has come to: its status, and what it has printed.
func (o output) is(t testing.TB, what string, code int, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(o.stdout+o.stderr, part) {
			t.Errorf("%s: lacks %q: %+v", what, part, o)
		}
	}
	if o.code != code {
		t.Errorf("%s: exit status %d, want %d: %+v", what, o.code, code, o)
	}
}

// control is the path of the daemon's control socket, as its log says.
func (s *site) control() (path string) {
	s.t.Helper()
	for line := range strings.Lines(s.out.String()) {
		var l struct{ Msg, Control string }
		if json.Unmarshal([]byte(line), &l) == nil && l.Control != "" {
			return l.Control
		}
	}
	s.t.Fatal("the log does not say where the control socket is")
	return ""
}

// ordered reports whether the log has an order of this user's, with these parts.
func (s *site) ordered(uid int, parts ...string) bool {
	for line := range strings.Lines(s.out.String()) {
		isOrder := strings.Contains(line, `"msg":"order`) && strings.Contains(line, fmt.Sprintf(`"uid":%d,`, uid))
		if isOrder && !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
			return true
		}
	}
	return false
}

// A reload says what has changed, and returns when that is so.
func TestReloadAnswers(t *testing.T) {
	t.Parallel()
	s := newWorkerSite(t, cPool(t, "scale: static, max: 2"))
	s.awaitWorkers("2 workers", func(w workersStatus) bool { return w.in("idle") == 2 })
	s.order("reload").is(t, "the same file", 0, "reloaded "+s.file+"\n1 pool unchanged\n")

	other := fmt.Sprintf("- {name: other, listen: 'unix:%s/other', process: {root: [%s]}}\n", s.dir, s.dir)
	s.configure(s.cPoolOf("b", "scale: static, max: 2") + other)
	s.order("check", "--diff").is(t, "what it would do", 0, "cgi: env GEN changed\nother: added\n")
	if got := s.asked("").gen; got != "a" {
		t.Errorf("check --diff has done it: %q", got)
	}
	s.order("reload").is(t, "other workers, another pool", 0, "cgi: env GEN changed; workers replaced: 2 of 2\nother: added\n")
	if want := `"pools":2,"changes":"cgi: env GEN changed; other: added"`; !strings.Contains(s.out.String(), want) {
		t.Errorf("the log does not have %s: %s", want, s.out)
	}
	for range 3 {
		if got := s.asked("").gen; got != "b" {
			t.Errorf("after the reload a worker of %q has answered", got)
		}
	}
	s.configure(s.cPoolOf("b", "scale: static, max: 2"))
	s.order("reload").is(t, "one pool less", 0, "other: removed\n1 pool unchanged\n")
	s.order("check", "--diff").is(t, "nothing to do", 0, "1 pool unchanged\n")
	if uid := os.Geteuid(); !s.ordered(uid, `"verb":"reload"`) || s.ordered(uid, `"verb":"diff"`) {
		t.Error("the log does not have who has ordered it")
	}
}

// A reload whose program cannot be started says so; what serves goes on serving.
func TestReloadToBrokenProgram(t *testing.T) {
	t.Parallel()
	s := newWorkerSite(t, cPool(t, "scale: static, max: 2"))
	s.asked("")
	s.configure(s.pool("cgi", "worker: {command: [/bin/false], scale: static, max: 2}"))
	s.order("reload").is(t, "a broken program", 1, "pool cgi: 2 workers not replaced yet", "cannot be started: exit status 1", "workers replaced: 0 of 2")
	s.asked("")
	s.order("reload").is(t, "the same again", 1, "not replaced yet")
	s.configure(s.cPoolOf("b", "scale: static, max: 2"))
	s.order("reload").is(t, "a good one", 0, "workers replaced: ")
	if got := s.asked("").gen; got != "b" {
		t.Errorf("a worker of %q has answered", got)
	}
}

// asNobody has a program run as a user who has no rights, if this one has any.
func asNobody(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
}

// unprivilegedPort is the first port that everybody may listen on.
func unprivilegedPort(t *testing.T) int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		t.Fatal(err)
	}
	var port int
	fmt.Sscan(string(text), &port)
	return port
}

// Whatever is wrong with a reload, the command fails and says it, and the daemon serves
// on as before. These were told as success by systemctl reload.
func TestReloadRefused(t *testing.T) {
	t.Parallel()
	s := &site{t: t, dir: folder(t), network: "unix"}
	s.address = s.dir + "/run/s"
	for _, dir := range []string{"/cgi", "/run", "/closed"} {
		if err := os.Mkdir(s.dir+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(s.dir+"/run", 0o777)
	os.Chmod(s.dir+"/closed", 0o555)
	os.Chmod(s.dir, 0o755)
	hello := s.hello()
	control := s.dir + "/run/control.sock"
	s.daemon = launch(t, s.dir, s.pool("cgi", simple), asNobody, func(c *exec.Cmd) { c.Args = append(c.Args, "--admin.control", "unix:"+control) })
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	reload := func(args ...string) output {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), binary, append([]string{"reload", "--control", control, "-c", s.file}, args...)...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		asNobody(cmd) // the daemon's own user may
		cmd.Run()
		return output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	}
	good := s.pool("cgi", simple)
	second := func(listen string) string {
		return good + "- {name: second, listen: '" + listen + "', " + s.here(simple) + "}\n"
	}
	goodFile, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	whole := func(text string) func() {
		return func() { write(t, s.file, strings.Replace(string(goodFile), "log: {level: debug}", text, 1)) }
	}
	pools := func(text string) func() { return func() { s.configure(text) } }
	for _, test := range []struct {
		name string
		make func()
		code int
		want string
	}{
		{"a missing socket folder", pools(second("unix:" + s.dir + "/none/s")), 1, s.dir + "/none"},
		{"a folder of another user's", pools(second("unix:" + s.dir + "/closed/s")), 1, s.dir + "/closed: permission denied"},
		{"a port in use", pools(second("tcp:" + other.Addr().String())), 1, "in use"},
		{"a port below 1024", pools(second("tcp:127.0.0.1:7")), 1, "127.0.0.1:7"},
		{"a log that may not be opened", whole("log: {level: debug, output: " + s.dir + "/closed/log}"), 1, s.dir + "/closed/log"},
		{"an access log that may not be opened", whole("log: {level: debug}\naccess_log: {output: " + s.dir + "/closed/log}"), 1, s.dir + "/closed/log"},
		{"an unknown key", pools(good + "- {nam: x}\n"), 78, "fcgid.yaml:6:"},
		{"no YAML", whole("log: {"), 78, "fcgid.yaml:"},
		{"no file", func() { os.Rename(s.file, s.file+".away") }, 78, "no such file"},
	} {
		if strings.Contains(test.name, "below 1024") && unprivilegedPort(t) <= 7 {
			continue // everybody may here
		}
		test.make()
		got := reload()
		got.is(t, test.name, test.code, test.want)
		got.is(t, test.name, test.code, "the old configuration stays")
		if _, out := s.ask(hello, nil); !strings.Contains(out, "hello") {
			t.Errorf("%s: the daemon does not serve any more: %q", test.name, out)
		}
		if now := s.status(t); now.Reload.OK || len(now.Pools) != 1 || now.PID != s.Process.Pid {
			t.Errorf("%s: status %+v", test.name, now)
		}
	}
	s.configure(good)
	reload().is(t, "the good file at last", 0, "1 pool unchanged")
}

// orderAs runs a command as a user who has no name.
func orderAs(t *testing.T, uid uint32, args ...string) output {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Run()
	return output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// Root and the daemon's user may, and nobody else, whatever the mode of the socket; and
// nobody at all by TCP.
func TestOrdersOfOthers(t *testing.T) {
	t.Parallel()
	needRoot(t)
	s := newWorkerSite(t, cPool(t, "scale: static, max: 1"))
	g := newGate(t, s.dir)
	running := s.later("gate")
	g.arrive(1)
	request := s.status(t).Pools[0].Requests[0].ID
	control := s.control()
	before := s.awaitWorkers("a worker", func(w workersStatus) bool { return len(w.List) == 1 })
	for _, v := range verbs {
		orderAs(t, 1234, v.of(control, s.file, request)...).is(t, v.args[0], 1, "permission denied", "You are 1234, and its folder", " is of root with mode 0700: run this as root (sudo)")
	}
	// Without the path, which for a daemon that was started by hand is another for each user.
	orderAs(t, 1234, "requests", "-c", s.file).is(t, "another user's daemon", 1, "it is another user's: there are daemons of root here, who can ask")
	// Somebody has opened the way to it.
	for dir := control; dir != "/tmp" && dir != "/"; dir = dir[:strings.LastIndexByte(dir, '/')] {
		if dir != control {
			os.Chmod(dir, 0o755)
		}
	}
	for _, v := range verbs {
		orderAs(t, 1234, v.of(control, s.file, request)...).is(t, v.args[0], 1, "permission denied", "You are 1234, and the socket is of root with mode 0600: run this as root (sudo)")
	}
	os.Chmod(control, 0o666)
	for _, v := range verbs {
		orderAs(t, 1234, v.of(control, s.file, request)...).is(t, v.args[0], 1, "uid 1234 may not: only root may, whose daemon it is")
	}
	res, err := http.Post("http://"+s.admin+"/orders", "application/json", strings.NewReader(`{"verb":"scale","pool":"cgi","n":7}`))
	if err != nil || res.StatusCode/100 != 4 {
		t.Errorf("by TCP: %v, %v", res, err)
	}
	if err == nil {
		res.Body.Close()
	}
	now := s.workers()
	if now.Max != 1 || !slices.Equal(now.pids(), before.pids()) || s.status(t).Pools[0].State != "serving" {
		t.Errorf("somebody has done something: %+v", now)
	}
	g.finish(running)
	orderAs(t, 0, "scale", "cgi", "2", "--control", control).is(t, "root", 0, "worker.max is 2")
	if !s.ordered(1234, "only root") || !s.ordered(0, `"verb":"scale"`, `"now":2`) {
		t.Error("the log does not have who has ordered it")
	}
}

// Who is not told by a daemon of another user's learns whose it is, and how to ask it.
func TestDaemonOfAnotherUser(t *testing.T) {
	needRoot(t)
	s := &site{t: t, dir: folder(t), network: "unix"}
	s.address = s.dir + "/s"
	os.Chmod(s.dir, 0o777)
	s.daemon = launch(t, s.dir, s.pool("cgi", "process: {root: [/usr/bin]}"), asNobody, func(c *exec.Cmd) { c.Env = append(os.Environ(), "TMPDIR="+s.dir) })
	t.Setenv("TMPDIR", s.dir)
	control := s.control()
	s.order("requests").is(t, "root", 1, "no daemon of "+s.file+" runs; -c FILE asks that of another file", "--control PATH", "a daemon of nobody has it at "+control)
	s.order("status").is(t, "root by the admin server", 0, "serving")
	s.order("requests", "--control", control).is(t, "root, told where", 0, "REQUEST")
	orderAs(t, 1234, "requests", "-c", s.file).is(t, "another user", 1, "there are daemons of nobody here, who can ask, as root can")
	orderAs(t, 1234, "requests", "--control", control).is(t, "another user, told where", 1,
		"You are 1234, and its folder "+s.dir+"/fcgid-65534 is of nobody with mode 0700: run this as root, or as nobody (sudo -u nobody)")

	good, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"no YAML": "pools: [{\n", "nothing": "", "a fault": "pols: []\n", "another user": string(good) + "user: games\n"} {
		write(t, s.file, text)
		note := "fcgid: asked the daemon of nobody at " + control
		s.order("requests").is(t, name+": requests", 0, "REQUEST", note)
		want := 78
		if name == "another user" { // which is of no matter to a daemon that nobody has started
			want = 0
		}
		s.order("reload").is(t, name+": reload", want, note)
	}
	write(t, s.file, string(good))

	os.Chmod(s.file, 0o600)
	t.Setenv("FCGID_ADMIN_CONTROL", "unix:"+control)
	orderAs(t, 1234, "status", "-c", s.file).is(t, "neither way", 1, "You are 1234, and its folder", "; nor can the admin server be asked: ", "permission denied")
}

// A request that is killed has 503 for an answer, and nothing is left of its tree.
func TestKillRequest(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", "process: {root: [DIR/cgi], kill_grace: 1s}")
	g := newGate(t, s.dir)
	path := s.script("tree.sh", "#!/bin/sh\ntrap '' TERM\nsetsid sh -c 'trap \"\" TERM; sleep 1000' &\necho $$ $! >DIR/in\nwait\n")
	killed := s.askLater(t.Context(), path, "REQUEST_URI", "/export?x", "REQUEST_ID", "of-the-web")
	pids := g.pids()
	left := s.askLater(t.Context(), s.script("gate.sh", genScript))
	g.arrived()
	list := s.order("requests", "--uri", "/export", "--stage", "running", "--json")
	var found []struct {
		ID   uint64 `json:"request"`
		Name string `json:"id"`
		Pool string
		PID  int
		Age  float64 `json:"age_seconds"`
	}
	if err := json.Unmarshal([]byte(list.stdout), &found); err != nil || len(found) != 1 || found[0].Pool != "cgi" || found[0].Name != "of-the-web" || !slices.Contains(pids, found[0].PID) {
		t.Fatalf("requests: %+v, %v", list, err)
	}
	id := fmt.Sprint(found[0].ID)
	s.order("requests").is(t, "all requests", 0, id, "of-the-web", "/export?x", path, "gate.sh")
	s.order("requests", "--older", "1h").is(t, "old requests", 0, "REQUEST")
	s.order("requests", "nopool").is(t, "no pool", 1, `no pool "nopool"`)
	s.order("requests", "--stage", "walking").is(t, "no stage", 1, "walking")
	s.order("kill", "x").is(t, "no number", 2, "not the number")
	s.order("kill", "999999", id).is(t, "one of two", 1, "request 999999: no such request", "request "+id+" of pool cgi ended")
	if a := wait(t, "the killed request", killed); a.err != nil || a.AppStatus != 503 || !strings.HasPrefix(a.body, "Status: 503") {
		t.Errorf("the killed one: %+v", a)
	}
	awaitGone(t, pids)
	s.order("kill", id).is(t, "again", 1, "no such request")
	if !s.ordered(os.Geteuid(), `"verb":"kill"`, `"request":`+id, `"pool":"cgi"`, path) {
		t.Error("the log does not have who has killed it")
	}
	g.release(1)
	if a := wait(t, "the other request", left); a.err != nil || a.AppStatus != 0 {
		t.Errorf("the other one: %+v", a)
	}
}

// What was ordered while the daemon could not hear, and was told to have failed, is not carried
// out when it can again.
func TestOrderGivenUp(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple)
	pid := s.status(t).PID
	s.configure(s.pool("cgi", simple) + fmt.Sprintf("- {name: other, listen: 'unix:%s/other', process: {root: [%s]}}\n", s.dir, s.dir))
	syscall.Kill(pid, syscall.SIGSTOP)
	late := map[string]<-chan output{}
	for _, verb := range []string{"drain cgi", "reload", "upgrade"} {
		late[verb] = s.orderLater(append(strings.Fields(verb), "--timeout", "10ms")...)
	}
	for verb, done := range late {
		wait(t, verb, done).is(t, verb, 1, "it has not answered within 5.01s: the order is dropped, unless it has begun by now")
	}
	syscall.Kill(pid, syscall.SIGCONT)
	for verb := range late {
		await(t, verb+" to be refused", func() bool {
			return s.ordered(os.Geteuid(), `"msg":"order refused"`, `"verb":"`+strings.Fields(verb)[0]+`"`, "waits for it no more")
		})
	}
	s.order("check", "--diff").is(t, "diff", 0, "other: added")
	if now := s.status(t); now.PID != pid || now.Pools[0].State != "serving" {
		t.Errorf("process %d, before it %d; %+v", now.PID, pid, now.Pools[0])
	}
	s.order("reload", "--timeout", "1m").is(t, "one that is waited for", 0, "other: added")
}

// Root, who has started a daemon that became somebody else, is told what is wrong with its file:
// that does not say any more where the socket is.
func TestReloadOfBrokenFileApart(t *testing.T) {
	needRoot(t)
	dir := folder(t)
	t.Setenv("TMPDIR", dir)
	t.Setenv("RUNTIME_DIRECTORY", "")
	os.Chmod(dir, 0o777|os.ModeSticky)
	a := &apart{address: freeAddress(t)}
	a.daemon = launch(t, dir, a.pools(""))
	good, err := os.ReadFile(a.file)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(what, text string, code int, parts ...string) {
		t.Helper()
		write(t, a.file, text)
		got, stdout, stderr := fcgid(t, "/", nil, "reload", "-c", a.file)
		output{got, stdout, stderr}.is(t, what, code, parts...)
	}
	const note = "fcgid: asked the daemon of nobody at "
	reload("no YAML", string(good)+"pools: [{\n", 78, note, "refused, the old configuration stays")
	reload("a fault", strings.ReplaceAll(string(good), "user: ", "usr: "), 78, note, "usr: unknown key")
	reload("another user", strings.ReplaceAll(string(good), "user: nobody", "user: daemon"), 1, note, "user")
	reload("the good file", string(good), 0, "1 pool unchanged")
}

// A drained pool serves what it has and refuses what comes; with --queue that waits.
func TestDrainAndResume(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple+", limits: {max_reqs: 1, queue_timeout: 60s}")
	g := newGate(t, s.dir)
	slow, hello := s.script("gen.sh", genScript), s.hello()
	running := s.askLater(t.Context(), slow)
	g.arrived()
	waiting := s.askLater(t.Context(), hello)
	await(t, "one to wait", func() bool { return s.status(t).Pools[0].Queued == 1 })

	s.order("drain", "cgi", "--timeout", "100ms").is(t, "requests are left", 1, "pool cgi: requests running 1, waiting 1", "not done within 100ms")
	if res, _ := s.ask(hello, nil); res.AppStatus != 503 {
		t.Errorf("a new one: %+v", res)
	}
	drained := s.orderLater("drain", "cgi", "--timeout", "0")
	s.order("reload").is(t, "a reload", 0, "it is drained (fcgid resume cgi)")
	g.release(1)
	wait(t, "the drain", drained).is(t, "drained", 0, "pool cgi takes no requests")
	for name, c := range map[string]<-chan answer{"running": running, "waiting": waiting} {
		if a := wait(t, name, c); a.err != nil || a.AppStatus != 0 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	s.order("status").is(t, "status", 0, "drained")
	if got := s.metric(t, `fcgid_pool_serving{pool="cgi"}`); got != "0" {
		t.Errorf("drained: fcgid_pool_serving is %s", got)
	}
	s.order("resume", "cgi").is(t, "resume", 0, "takes requests")
	if got := s.metric(t, `fcgid_pool_serving{pool="cgi"}`); got != "1" {
		t.Errorf("resumed: fcgid_pool_serving is %s", got)
	}
	if res, out := s.ask(hello, nil); res.AppStatus != 0 || !strings.Contains(out, "hello") {
		t.Errorf("resumed: %+v", res)
	}

	running = s.askLater(t.Context(), slow)
	g.arrived()
	drained = s.orderLater("drain", "cgi", "--queue")
	await(t, "the pause", func() bool { return s.status(t).Pools[0].State == "paused" })
	waiting = s.askLater(t.Context(), hello)
	await(t, "one to wait", func() bool { return s.status(t).Pools[0].Queued == 1 })
	g.release(1)
	wait(t, "the drain", drained).is(t, "drained with a queue", 0, "wait in its queue")
	if now := s.status(t).Pools[0]; now.Queued != 1 || now.Running != 0 {
		t.Errorf("status %+v", now)
	}
	s.order("resume", "cgi").is(t, "resume", 0)
	for name, c := range map[string]<-chan answer{"running": running, "waiting": waiting} {
		if a := wait(t, name, c); a.err != nil || a.AppStatus != 0 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	s.order("pause", "cgi").is(t, "pause", 0, "wait in its queue")
	waiting = s.askLater(t.Context(), hello)
	await(t, "one to wait", func() bool { return s.status(t).Pools[0].Queued == 1 })
	s.order("resume", "cgi").is(t, "resume", 0)
	if a := wait(t, "the one that waited", waiting); a.err != nil || a.AppStatus != 0 {
		t.Errorf("%+v", a)
	}
	s.order("drain", "cgi", "--timeout", "-1s").is(t, "a negative time", 2, "--timeout")
	for _, verb := range []string{"drain", "pause", "resume", "recycle"} {
		s.order(verb, "none").is(t, verb, 1, `no pool "none"; there is cgi`)
		s.order(verb).is(t, verb, 2)
	}
}

// Workers are replaced by new ones of the same program under load, and no request is lost;
// what is told as done is done.
func TestRecycle(t *testing.T) {
	t.Parallel()
	s := newWorkerSite(t, cPool(t, "scale: static, max: 3"))
	first := s.awaitWorkers("3 workers", func(w workersStatus) bool { return w.in("idle") == 3 }).pids()
	var stop atomic.Bool
	var clients sync.WaitGroup
	var answers atomic.Int64
	for range 3 {
		clients.Go(func() {
			for !stop.Load() && !t.Failed() {
				if res, out := s.ask(s.dir+"/cgi"+appScript, nil); res.AppStatus != 0 || strings.HasPrefix(out, "Status: 5") {
					t.Errorf("a request: %+v %q", res, out)
				}
				answers.Add(1)
			}
		})
	}
	await(t, "answers", func() bool { return answers.Load() > 10 })
	// Several at once, and reloads of the same file in between: all are carried out.
	orders := []<-chan output{s.orderLater("recycle", "cgi"), s.orderLater("recycle", "cgi"), s.orderLater("reload"), s.orderLater("reload")}
	for i, c := range orders {
		// One more than there are to be may be there while they are being replaced.
		want := []string{"workers replaced", "workers replaced", "unchanged", "unchanged"}[i]
		wait(t, "the order", c).is(t, "order", 0, want)
	}
	for pid := range slices.Values(s.workers().pids()) {
		if slices.Contains(first, pid) && s.workers().Exits["reload"] < 3 {
			t.Errorf("worker %d is still there", pid)
		}
	}
	stop.Store(true)
	clients.Wait()
	await(t, "the old ones to leave", func() bool { return len(common(s.workers().pids(), first)) == 0 })
	s.order("recycle", "cgi").is(t, "once more", 0, "pool cgi: workers replaced: 3 of 3")

	s.configure(s.pool("cgi", simple))
	s.order("reload").is(t, "no workers any more", 0, "cgi: ", "process added, worker removed")
	s.order("recycle", "cgi").is(t, "a pool without workers", 1, "has no workers: each request has a process of its own")
}

// scale holds until the next reload.
func TestScale(t *testing.T) {
	t.Parallel()
	s := newWorkerSite(t, cPool(t, "scale: static, max: 1"))
	s.order("scale", "cgi", "3").is(t, "scale", 0, "pool cgi: worker.max is 3", "before: 1")
	s.awaitWorkers("3 workers", func(w workersStatus) bool { return w.Max == 3 && w.in("idle") == 3 })
	if got := s.metric(t, `fcgid_limit{name="max_reqs",pool="cgi"}`); got != "3" {
		t.Errorf("max_reqs is %s", got)
	}
	s.order("scale", "cgi", "2").is(t, "scale", 0, "before: 3")
	s.awaitWorkers("2 workers", func(w workersStatus) bool { return w.Max == 2 && w.in("idle") == 2 && len(w.List) == 2 })
	for n, code := range map[string]int{"0": 1, "-1": 2, "1000000000": 1, "many": 2, "99999999999999999999": 2} {
		s.order("scale", "cgi", n).is(t, "scale to "+n, code)
	}
	if w := s.workers(); w.Max != 2 {
		t.Errorf("%+v", w)
	}
	s.order("check", "--diff").is(t, "diff", 0, "cgi: worker.max 2→1\n")
	s.order("reload").is(t, "reload", 0, "cgi: worker.max 2→1\n")
	s.awaitWorkers("1 worker", func(w workersStatus) bool { return w.Max == 1 && w.in("idle") == 1 && len(w.List) == 1 })

	s.configure(s.pool("cgi", simple))
	s.order("reload").is(t, "a pool of processes", 0)
	s.order("scale", "cgi", "5").is(t, "scale", 0, "limits.max_reqs is 5")
	if got := s.metric(t, `fcgid_limit{name="max_reqs",pool="cgi"}`); got != "5" {
		t.Errorf("max_reqs is %s", got)
	}
}

// An order that waits when the daemon stops says so, and holds up nothing; the daemon
// answers who asks what it waits for, and ends what is killed.
func TestStopWhileReloadWaits(t *testing.T) {
	t.Parallel()
	s := newWorkerSite(t, cPool(t, "scale: static, max: 1"))
	g := newGate(t, s.dir)
	running := s.later("gate")
	g.arrive(1)
	// A warm-up that is never answered: the old worker is not replaced.
	s.configure(s.pool("cgi", "worker: {command: "+workerCommand(t, "c")+", scale: static, max: 1, start_timeout: 1h, warm_up: [QUERY_STRING=gate]}"+workerEnv("b")))
	reload := s.orderLater("reload", "--timeout", "0")
	await(t, "the reload to be in force", func() bool { return strings.Contains(s.out.String(), `"msg":"reloaded"`) })
	s.signal(syscall.SIGTERM)
	wait(t, "the reload", reload).is(t, "the reload", 1, "not replaced yet", "the daemon is stopping")
	s.order("reload").is(t, "another one", 1, "the daemon is stopping")
	list := s.order("requests", "--json")
	var found []struct {
		ID uint64 `json:"request"`
	}
	if err := json.Unmarshal([]byte(list.stdout), &found); err != nil || len(found) != 1 {
		t.Fatalf("requests: %+v, %v", list, err)
	}
	s.order("kill", fmt.Sprint(found[0].ID)).is(t, "kill", 0)
	if a := wait(t, "the killed request", running.c); a.AppStatus != 503 {
		t.Errorf("%+v", a)
	}
	if code := s.exitCode(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	s.order("reload").is(t, "no daemon", 1, "no daemon of "+s.file+" runs")
}

// Two daemons do not take each other's orders; what a killed one leaves is replaced, and
// what somebody has removed comes back with a reload.
func TestControlSocketIsOne(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple)
	control := s.control()
	other := write(t, s.dir+"/other.yaml", "admin: {listen: '', control: 'unix:"+control+"'}\npools:\n- {name: x, listen: 'unix:"+s.dir+"/x', "+s.here(simple)+"}\n")
	code, _, stderr := fcgid(t, "/", nil, "serve", "-c", other)
	output{code, "", stderr}.is(t, "a second daemon", 1, "admin.control", control, "in use")
	if _, err := os.Lstat(s.dir + "/x"); err == nil {
		t.Error("it has left a socket")
	}
	s.order("reload").is(t, "the first", 0)
	code, _, stderr = fcgid(t, "/", nil, "check", "--diff", "-c", other)
	output{code, "", stderr}.is(t, "the other's diff", 1, "no daemon of "+other+" runs (at "+control+" is that of "+s.file+")")

	s.configure(s.pool("cgi", simple))
	text, _ := os.ReadFile(s.file)
	write(t, s.file, strings.Replace(string(text), "admin: {", "admin: {control: 'unix:"+s.dir+"/elsewhere', ", 1))
	code, _, stderr = fcgid(t, "/", nil, "reload", "--control", control)
	output{code, "", stderr}.is(t, "another place", 1, "admin.control cannot change")
	write(t, s.file, string(text))

	os.Remove(control)
	s.order("reload").is(t, "without its file", 1, "no daemon of "+s.file+" runs; -c FILE asks that of another file (there is no "+control)
	s.order("status").is(t, "status by the admin server", 0, "cgi")
	s.reload(t)
	await(t, "the control socket to be back", func() bool { return s.order("reload").code == 0 })

	s.signal(syscall.SIGKILL)
	<-s.done
	s.order("reload").is(t, "a killed one", 1, "no daemon of "+s.file+" runs any more", control)
	again := start(t, exec.Command(binary, "serve", "-c", s.file))
	s.process = again
	s.awaitReady(t)
	s.order("reload").is(t, "its successor", 0)
	again.signal(syscall.SIGTERM)
	again.exitCode()
	if _, err := os.Lstat(control); err == nil {
		t.Error("the control socket is left")
	}
}

// Orders work while the file is broken in any way, and without a control socket the
// daemon serves.
func TestControlWithBrokenFile(t *testing.T) {
	t.Parallel()
	s := newSite(t, "unix", simple)
	for name, text := range map[string]string{"a fault": "pols: []\n", "no YAML": "pools: [{\n", "nothing": "", "a wrong place": "admin: {control: 7}\n", "another kind": "admin: {control: 'tcp:127.0.0.1:1'}\n"} {
		write(t, s.file, text)
		s.order("status").is(t, name+": status", 0, "cgi")
		s.order("requests").is(t, name+": requests", 0, "REQUEST")
		s.order("pause", "cgi").is(t, name+": pause", 0)
		s.order("resume", "cgi").is(t, name+": resume", 0)
		s.order("reload").is(t, name+": reload", 78)
		s.order("check", "--diff").is(t, name+": diff", 78)
	}
	s.configure(s.pool("cgi", simple))
	s.order("reload").is(t, "the good file", 0)

	for control, want := range map[string]string{"": "turned off", "unix:DIR/c": ""} {
		dir := folder(t)
		control = strings.ReplaceAll(control, "DIR", dir)
		file := write(t, dir+"/f.yaml", "admin: {listen: '', control: '"+control+"'}\npools:\n- {name: x, listen: 'unix:"+dir+"/s', process: {root: ["+dir+"]}}\n")
		p := harness.Start(t, exec.Command(binary, "serve", "-c", file))
		p.Listening(t, "unix", dir+"/s")
		await(t, "the daemon to serve", func() bool { return strings.Contains(p.Out.String(), `"serving"`) })
		code, stdout, stderr := fcgid(t, "/", nil, "reload", "-c", file)
		wantCode := 0
		if want != "" {
			wantCode = 1
		}
		output{code, stdout, stderr}.is(t, "control "+control, wantCode, want)
		code, stdout, stderr = fcgid(t, "/", []string{"FCGID_ADMIN_CONTROL="}, "reload", "-c", file)
		output{code, stdout, stderr}.is(t, "turned off by a variable", 1, "turned off")
	}
	_, stdout, _ := fcgid(t, "/", nil, "__complete", "recycle", "-c", s.file, "")
	if !strings.HasPrefix(stdout, "cgi\n") {
		t.Errorf("completion of a pool: %q", stdout)
	}
	control := "FCGID_ADMIN_CONTROL=unix:" + s.control()
	if _, stdout, _ = fcgid(t, "/", []string{control}, "__complete", "request", ""); !strings.HasPrefix(stdout, "unix:"+s.address+"\n:4\n") {
		t.Errorf("completion of an address: %q", stdout)
	}
	if _, stdout, _ = fcgid(t, "/", []string{control}, "__complete", "request", "unix:/x", ""); !strings.HasPrefix(stdout, ":4\n") {
		t.Errorf("completion behind an address: %q", stdout)
	}
}

// The deployment of docs/php.md, without opcache.validate_timestamps: new code does not run
// before, and nothing but new code runs after it.
func TestDocumentedDeployment(t *testing.T) {
	t.Parallel()
	m := newManual(t)
	page := m.dir + "/srv/app/public/page.php"
	write(t, page, "<?php echo 'release 1';")
	past := time.Now().Add(-time.Hour) // opcache.file_update_protection: not the file of a moment ago
	if err := os.Chtimes(page, past, past); err != nil {
		t.Fatal(err)
	}
	paths := []string{"/run/fcgid/", m.dir + "/run/", "/srv/", m.dir + "/srv/"}
	d := m.serve(harness.Documented(t, "docs/php.md", "deployment-pool", append(paths, "/usr/bin/php-cgi", need(t, "php-cgi"))...))
	asked := func() string {
		t.Helper()
		_, out := ask(t, "unix", m.dir+"/run/php.sock", &fcgi.Request{Params: params(page)})
		return out[strings.Index(out, "\r\n\r\n")+4:]
	}
	for range 3 {
		if got := asked(); got != "release 1" {
			t.Fatalf("got %q", got)
		}
	}
	write(t, page, "<?php echo 'release 2';")
	if got := asked(); got != "release 1" {
		t.Errorf("validate_timestamps is on: %q", got)
	}
	order := strings.Fields(harness.Documented(t, "docs/php.md", "deployment"))
	code, stdout, stderr := fcgid(t, "/", nil, append(order[1:], "-c", d.file)...)
	output{code, stdout, stderr}.is(t, "the deployment", 0, "pool php: ", "workers replaced")
	for range 20 {
		if got := asked(); got != "release 2" {
			t.Errorf("after the deployment: %q", got)
		}
	}
}
