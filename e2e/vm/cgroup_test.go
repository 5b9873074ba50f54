//go:build vm

package vm

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fcgid/fcgid/e2e/harness"
	"github.com/fcgid/fcgid/fcgi"
)

// helpers are programs that the test binary is, by VM_HELPER.
var helpers = map[string]func(){
	"eat":    func() { eat(256); fmt.Print("Content-Type: text/plain\n\neaten") },
	"burn":   burn,
	"worker": worker,
}

// eat takes so many MiB of memory.
func eat(mebibytes int) {
	all := make([]byte, mebibytes<<20)
	for i := 0; i < len(all); i += 4096 {
		all[i] = 1
	}
}

// burn uses a processor until a second of its time has been used.
func burn() {
	for {
		var used syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &used)
		if used.Utime.Sec+used.Stime.Sec >= 1 {
			break
		}
	}
	fmt.Print("Content-Type: text/plain\n\nburnt")
}

// worker is a FastCGI program with a child. It eats when it is asked for eat.
func worker() {
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		panic(err)
	}
	os.WriteFile(os.Getenv("CHILD"), fmt.Appendln(nil, child.Process.Pid), 0o644)
	l, err := net.FileListener(os.Stdin)
	if err != nil {
		panic(err)
	}
	s := fcgi.Server{Handler: fcgi.HandlerFunc(func(_ context.Context, req *fcgi.Request) (uint32, error) {
		if strings.HasSuffix(req.Params.Get("SCRIPT_FILENAME"), "eat") {
			eat(256)
		}
		_, err := fmt.Fprint(req.Stdout, "Content-Type: text/plain\r\n\r\nserved")
		return 0, err
	})}
	panic(s.Serve(context.Background(), l))
}

// waits is a script that tells its pid and ends when there is a file go.
func (s *site) waits() string {
	return s.script("waits", "echo $$ >"+s.dir+"/waits.pid\nwhile ! test -e "+s.dir+"/go; do sleep 0.1; done\n"+header+"echo done")
}

func (s *site) release(c <-chan answer) {
	s.t.Helper()
	harness.Write(s.t, s.dir+"/go", "")
	if a := <-c; a.err != nil || a.AppStatus != 0 || !strings.Contains(a.body, "done") {
		s.t.Errorf("the neighbour's answer is %+v", a)
	}
}

// A program that takes more than its part ends whole, and nobody else does.
func TestMemoryRequest(t *testing.T) {
	s := newSite(t, "sandbox: {memory_request: 64MiB, cgroup: required}, process: {root: [DIR/cgi]}")
	neighbour := s.later("www", s.waits())
	waiting := s.pid("waits.pid")
	eats := s.script("eats", "setsid sleep 600 & echo $! >"+s.dir+"/child.pid\nVM_HELPER=eat /init\necho $? >"+s.dir+"/survived")
	if a := s.ask("www", eats); a.AppStatus == 0 || !strings.Contains(a.body, "502") {
		t.Errorf("got %+v", a)
	}
	harness.AwaitGone(t, []int{s.pid("child.pid")})
	if _, err := os.Stat(s.dir + "/survived"); err == nil {
		t.Error("a part of the program lives on")
	}
	s.await("killed by the kernel: out of memory (sandbox.memory_request)")
	if n := s.metric(`fcgid_process_exits_total{pool="www",reason="oom"}`); n != "1" {
		t.Errorf("%q programs have ended for want of memory", n)
	}
	if !harness.Alive(waiting) {
		t.Error("the neighbour has ended")
	}
	s.release(neighbour)
	if a := s.ask("other", eats); a.AppStatus != 0 {
		t.Errorf("another pool's answer is %+v", a)
	}
}

// Of a pool that is full the largest program is ended.
func TestMemoryPool(t *testing.T) {
	s := newSite(t, "sandbox: {memory: 64MiB}, process: {root: [DIR/cgi]}")
	neighbour := s.later("www", s.waits())
	s.pid("waits.pid")
	if a := s.ask("www", s.script("eats", "VM_HELPER=eat exec /init")); a.AppStatus == 0 {
		t.Errorf("got %+v", a)
	}
	s.await("killed by the kernel: out of memory (sandbox.memory)")
	s.release(neighbour)
}

// A worker ends with its children, and there is another one.
func TestMemoryWorker(t *testing.T) {
	s := newSite(t, "sandbox: {memory_request: 64MiB}, env: [VM_HELPER=worker, CHILD=DIR/child.pid], worker: {command: [/init], scale: static, max: 1}")
	child := s.pid("child.pid")
	if a := s.ask("www", "/eat"); a.AppStatus == 0 {
		t.Errorf("got %+v", a)
	}
	harness.AwaitGone(t, []int{child})
	s.await("killed by the kernel: out of memory (sandbox.memory_request)")
	harness.Await(t, "the count", func() bool {
		n := s.metric(`fcgid_worker_exits_total{pool="www",reason="oom"}`)
		return n != "" && n != "0" // the request is given to a second one
	})
	if a := s.ask("www", "/x"); a.AppStatus != 0 || !strings.Contains(a.body, "served") {
		t.Errorf("the next one's answer is %+v", a)
	}
}

// A fork bomb stops at pids, and is ended whole.
func TestPids(t *testing.T) {
	s := newSite(t, "timeout: 3s, sandbox: {pids: 20}, process: {root: [DIR/cgi], kill_grace: 100ms}")
	bomb := s.script("bomb", "echo $$ >"+s.dir+"/bomb.pid\ntrap '' TERM\nb() { b & b; }\nb 2>/dev/null &\nexec sleep 600")
	exploding := s.later("www", bomb)
	group := groupOf(s.pid("bomb.pid"))
	harness.Await(t, "the bomb to meet its limit", func() bool {
		return !strings.HasPrefix(read(t, group+"/pids.events"), "max 0")
	})
	if n := len(strings.Fields(read(t, group+"/cgroup.procs"))); n > 20 {
		t.Errorf("there are %d processes", n)
	}
	if a := s.ask("www", s.script("x", header+"echo done")); a.AppStatus != 0 || !strings.Contains(a.body, "done") {
		t.Errorf("the neighbour's answer is %+v", a)
	}
	if a := <-exploding; a.AppStatus != 408 {
		t.Errorf("got %+v", a)
	}
	harness.Await(t, "its group to be removed", func() bool {
		_, err := os.Stat(group)
		return err != nil
	})
	s.await(`"key":"sandbox.pids"`)
}

func TestCPU(t *testing.T) {
	s := newSite(t, "sandbox: {cpu: 0.2}, process: {root: [DIR/cgi]}")
	asked := s.later("www", s.script("burns", "echo $$ >"+s.dir+"/burns.pid\nVM_HELPER=burn exec /init"))
	pool := filepath.Dir(groupOf(s.pid("burns.pid")))
	if got := read(t, pool+"/cpu.max"); got != "20000 100000" {
		t.Errorf("cpu.max is %s", got)
	}
	if a := <-asked; a.err != nil || a.AppStatus != 0 {
		t.Errorf("got %+v", a)
	}
	for line := range strings.Lines(read(t, pool+"/cpu.stat")) {
		if strings.TrimSpace(line) == "nr_throttled 0" {
			t.Error("nobody was held up")
		}
	}
}

const runaway = "setsid sh -c 'setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $! >DIR/runaway.pid'\n"

// What has left its parent, session, process group and files ends with its program.
func TestRunaway(t *testing.T) {
	s := newSite(t, "timeout: 2s, sandbox: {pids: 100}, process: {root: [DIR/cgi], kill_grace: 100ms}")
	asked := s.later("www", s.script("runs", strings.ReplaceAll(runaway, "DIR", s.dir)+"sleep 600"))
	pid := s.pid("runaway.pid")
	if a := <-asked; a.AppStatus != 408 {
		t.Errorf("got %+v", a)
	}
	harness.AwaitGone(t, []int{pid})
}

// A daemon that was killed leaves nothing to the next one.
func TestKilledDaemon(t *testing.T) {
	s := newSite(t, "process: {root: [DIR/cgi]}")
	s.ask("www", s.script("runs", strings.ReplaceAll(runaway, "DIR", s.dir)+header))
	pid := s.pid("runaway.pid")
	tree := filepath.Dir(filepath.Dir(groupOf(pid)))
	s.Signal(syscall.SIGKILL)
	<-s.Done
	s.start(exec.Command("/fcgid"))
	harness.AwaitGone(t, []int{pid})
	if _, err := os.Stat(tree); err == nil {
		t.Error("its cgroup is still there")
	}
	s.await("removed the cgroup of a daemon that is gone")
}

// Limits change in place: of a pool, and of a program that runs.
func TestReload(t *testing.T) {
	const rest = ", process: {root: [DIR/cgi]}"
	s := newSite(t, "sandbox: {memory: 512MiB, memory_request: 64MiB, pids: 20}"+rest)
	eats := s.script("eats", "echo $$ >"+s.dir+"/eats.pid\nwhile ! test -e "+s.dir+"/go; do sleep 0.1; done\nVM_HELPER=eat exec /init")
	asked := s.later("www", eats)
	group := groupOf(s.pid("eats.pid"))
	if got := read(t, group+"/memory.max"); got != "67108864" {
		t.Errorf("memory.max is %s", got)
	}
	s.configure("sandbox: {memory: 1GiB, memory_request: 512MiB, cpu: 1}" + rest)
	s.Signal(syscall.SIGHUP)
	harness.Await(t, "the limit to change", func() bool { return read(t, group+"/memory.max") == "536870912" })
	pool := filepath.Dir(group)
	for file, want := range map[string]string{
		group + "/pids.max": "max", pool + "/memory.max": "1073741824", pool + "/cpu.max": "100000 100000",
	} {
		if got := read(t, file); got != want {
			t.Errorf("%s is %s, want %s", file, got, want)
		}
	}
	harness.Write(t, s.dir+"/go", "")
	if a := <-asked; a.err != nil || a.AppStatus != 0 || !strings.Contains(a.body, "eaten") {
		t.Errorf("with more memory: %+v", a)
	}
}

// inGroup has a command started as alice in a group, which is hers or not.
func inGroup(t *testing.T, cmd *exec.Cmd, name string, hers bool) {
	t.Helper()
	group := filepath.Join(cgroups, name)
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"memory", "pids", "cpu"} {
		if err := os.WriteFile(cgroups+"/cgroup.subtree_control", []byte("+"+c), 0); err != nil {
			t.Fatal(err)
		}
	}
	if hers { // as systemd does for Delegate=yes
		for _, file := range []string{"", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"} {
			if err := os.Chown(group+file, 1000, 1000); err != nil {
				t.Fatal(err)
			}
		}
	}
	fd, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fd.Close() })
	cmd.SysProcAttr = &syscall.SysProcAttr{
		UseCgroupFD: true, CgroupFD: int(fd.Fd()), Credential: &syscall.Credential{Uid: 1000, Gid: 1000},
	}
}

// A daemon that is somebody else tells what its pools take, of groups that the spawner has made.
func TestFiguresApart(t *testing.T) {
	s := &site{t: t, dir: folder(t)}
	file := "/" + filepath.Base(s.dir) + ".yaml" // in a folder that is root's alone
	harness.Write(t, file, strings.ReplaceAll("user: fcgid\nadmin: {listen: 'unix:DIR/admin'}\npools:\n"+
		"- {name: www, listen: {address: 'unix:DIR/www', mode: '0666'}, user: alice, sandbox: {memory: 64MiB}, process: {root: [DIR/cgi]}}\n", "DIR", s.dir))
	waits := s.waits()
	cmd := exec.Command("/fcgid", "serve", "-c", file)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+s.dir)
	s.Program = harness.Start(t, cmd)
	s.Listening(t, "unix", s.dir+"/www")
	asked := s.later("www", waits)
	s.pid("waits.pid")
	number := func(name string) (n int) {
		fmt.Sscan(s.metric("fcgid_cgroup_"+name+`{pool="www"}`), &n)
		return n
	}
	harness.Await(t, "the kernel's count", func() bool { return number("tasks") > 0 && number("memory_bytes") > 0 })
	if page := s.metric(`fcgid_cgroup_memory_limit_bytes{pool="www"}`); page != "6.7108864e+07" {
		t.Errorf("the limit is %s", page)
	}
	s.release(asked)
}

// An ordinary user has limits where a part of the hierarchy is hers.
func TestDelegated(t *testing.T) {
	s := &site{t: t, dir: folder(t)}
	if err := os.Mkdir(s.dir+"/cgi", 0o755); err != nil {
		t.Fatal(err)
	}
	s.configure("sandbox: {memory_request: 64MiB, cgroup: required}, process: {root: [DIR/cgi]}")
	cmd := exec.Command("/fcgid")
	inGroup(t, cmd, "alice", true)
	s.start(cmd)
	if got := groupOf(s.Process.Pid); got != cgroups+"/alice/fcgid-daemon" {
		t.Errorf("the daemon is in %s", got)
	}
	s.await(`"controllers":["memory","pids","cpu"]`)
	if a := s.ask("www", s.script("eats", "VM_HELPER=eat exec /init")); a.AppStatus == 0 {
		t.Errorf("got %+v", a)
	}
	s.await("killed by the kernel: out of memory (sandbox.memory_request)")
}

// Where it is not, she is told, and programs run all the same unless limits are required.
func TestNotDelegated(t *testing.T) {
	s := &site{t: t, dir: folder(t)}
	if err := os.Mkdir(s.dir+"/cgi", 0o755); err != nil {
		t.Fatal(err)
	}
	s.configure("sandbox: {memory_request: 64MiB}, process: {root: [DIR/cgi]}")
	cmd := exec.Command("/fcgid")
	inGroup(t, cmd, "bob", false)
	s.start(cmd)
	s.await("cgroup /bob is not delegated to this user (in a unit: Delegate=yes)")
	if a := s.ask("www", s.script("x", header+"echo done")); a.AppStatus != 0 {
		t.Errorf("got %+v", a)
	}
	s.configure("sandbox: {memory_request: 64MiB, cgroup: required}, process: {root: [DIR/cgi]}")
	s.Signal(syscall.SIGHUP)
	s.await("sandbox.cgroup is required")
}
