package spawn_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/logtest"
	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

func TestMain(m *testing.M) {
	runnertest.Main(m, map[string]func() int{"root": beRoot, "unprivileged": startRoot, "accept": accept, "converse": converse, "hostile": beHostile, "burn": burn, "idle": func() int { unix.Pause(); return 0 }, "chrooted": runChrooted, "stubborn": beStubborn, "confined": beConfined, "terminal": beAtTerminal, "typing": beTyping})
}

// reaper is a Local that reaps orphans until the test ends.
func reaper(t *testing.T) *spawn.Local {
	t.Helper()
	l := new(spawn.Local)
	ctx, cancel := context.WithCancel(t.Context())
	runnertest.Must(t, l.Adopt())
	var reaping sync.WaitGroup
	reaping.Go(func() { l.Reap(ctx) })
	t.Cleanup(func() {
		cancel()
		reaping.Wait()
	})
	return l
}

// A running is a program whose output is read.
type running struct {
	*spawn.Process
	t     testing.TB
	lines *bufio.Reader
}

func run(t testing.TB, l *spawn.Local, cmd *spawn.Command) *running {
	t.Helper()
	r := runUnwatched(t, l, cmd)
	if cmd.Socket == 0 {
		r.Watch()
	}
	return r
}

// runUnwatched is run, and Watch is to be called. A program with a socket writes to STDERR, which
// is watched in any case.
func runUnwatched(t testing.TB, l *spawn.Local, cmd *spawn.Command) *running {
	t.Helper()
	cmd.Dir, cmd.Env = "/", append(cmd.Env, "PATH="+os.Getenv("PATH"))
	p, err := l.Start(t.Context(), cmd)
	runnertest.Must(t, err)
	r := &running{Process: p, t: t}
	lines, w := io.Pipe()
	r.lines = bufio.NewReader(lines)
	var copies sync.WaitGroup
	copies.Go(func() {
		out := p.Stdout
		if out == nil {
			out = p.Stderr
		}
		defer out.Close()
		out.Copy(w)
		w.Close()
	})
	t.Cleanup(func() {
		p.Kill()
		lines.Close()
		copies.Wait()
	})
	return r
}

// line is the next line of its output.
func (r *running) line() string {
	r.t.Helper()
	text, err := r.lines.ReadString('\n')
	if err != nil {
		r.t.Fatalf("output ended: %q, %v", text, err)
	}
	return strings.TrimSuffix(text, "\n")
}

func (r *running) pid() int {
	r.t.Helper()
	pid, err := strconv.Atoi(r.line())
	runnertest.Must(r.t, err)
	r.t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })
	return pid
}

// wait reaps it.
func (r *running) wait() *spawn.Exit {
	r.t.Helper()
	r.AwaitExit()
	if !r.IsTerminated() {
		r.EndServing(runnertest.Patience)
	}
	e, err := r.Wait()
	runnertest.Must(r.t, err)
	return e
}

// isRunning reports whether a process is there and has not exited.
func isRunning(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[0] != 'Z' && rest[0] != 'X'
}

func awaitGone(t testing.TB, pid int) {
	t.Helper()
	polltest.Until(t, fmt.Sprintf("the end of %d", pid), func() bool { return !isRunning(pid) })
}

// An orphan ends with its tree though it is just executing something else.
func TestTreeThatExecutes(t *testing.T) {
	script := runnertest.WriteFile(t, filepath.Join(t.TempDir(), "again"), "exec /bin/sh $0\n", 0o644)
	l := reaper(t)
	for range 100 {
		r := run(t, l, &spawn.Command{Argv: []string{"/bin/sh", "-c", "(setsid sh -c 'echo $$; exec /bin/sh " + script + "' &); exec sleep 1000"}})
		pid := r.pid()
		r.Kill()
		r.wait()
		if isRunning(pid) {
			awaitGone(t, pid)
		}
	}
}

// The tree of a program ends with it by force, wherever it has gone.
func TestTreeEnds(t *testing.T) {
	for name, script := range map[string]string{
		"a child":                    "sleep 1000 & echo $!; exec sleep 1000",
		"that ignores TERM":          "trap '' TERM; sleep 1000 & echo $!; while :; do wait; done",
		"of another session":         "setsid sh -c 'echo $$; exec sleep 1000' & exec sleep 1000",
		"of one of another session":  "setsid sh -c 'sleep 1000 & echo $!; exec sleep 1001' & exec sleep 1002",
		"whose parent ends by TERM":  "sh -c 'setsid sh -c \"trap : TERM; echo \\$\\$; while :; do sleep .1; done\" & wait' & wait",
		"an orphan":                  "(sleep 1000 & echo $!); exec sleep 1000",
		"an orphan with the output":  "(setsid sh -c 'echo $$; exec sleep 1000' &); exec sleep 1000",
		"an orphan's child":          "(setsid sh -c 'sleep 1000 & echo $!; wait' &); exec sleep 1000",
		"all others have their exit": "trap 'exit 0' TERM; (setsid sh -c 'echo $$; exec sleep 1000' &); while :; do sleep .1; done",
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, reaper(t), &spawn.Command{Argv: []string{"/bin/sh", "-c", script}})
			pid := r.pid()
			r.Terminate(50 * time.Millisecond)
			if e := r.wait(); !e.Terminated || e.GivenUp {
				t.Errorf("exit is %+v", e)
			}
			awaitGone(t, pid)
		})
	}
}

// So it does if nobody has begun to wait for the program.
func TestTreeEndsUnwatched(t *testing.T) {
	r := runUnwatched(t, reaper(t), &spawn.Command{Argv: []string{"/bin/sh", "-c", "(setsid sh -c 'echo $$; exec sleep 1000' &); exec sleep 1000"}})
	pid := r.pid()
	r.Kill()
	r.Watch()
	if e := r.wait(); e.GivenUp {
		t.Errorf("exit is %+v", e)
	}
	awaitGone(t, pid)
}

// Nor does it take descriptors to end a program with its process group.
func TestEndWithoutDescriptors(t *testing.T) {
	r := run(t, reaper(t), &spawn.Command{Argv: []string{"/bin/sh", "-c", "trap '' TERM; sleep 1000 & echo $!; while :; do wait; done"}})
	pid := r.pid()
	var limit unix.Rlimit
	runnertest.Must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	runnertest.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}))
	r.Terminate(10 * time.Millisecond)
	e := r.wait()
	runnertest.Must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	if e.Code() != 137 || e.GivenUp {
		t.Errorf("exit is %+v", e)
	}
	awaitGone(t, pid)
}

// A tree that grows while it is killed is killed all the same.
func TestGrowingTree(t *testing.T) {
	script := "grow() { while :; do setsid sh -c 'sleep 1000' & done; }; grow & grow & echo ok; wait"
	r := run(t, reaper(t), &spawn.Command{Argv: []string{"/bin/sh", "-c", "ulimit -u 2000; " + script}, Env: []string{"TREE=" + t.Name()}})
	r.line()
	r.Terminate(20 * time.Millisecond)
	r.wait()
	polltest.Until(t, "the end of all", func() bool { return len(withEnvironment("TREE="+t.Name())) == 0 })
}

// withEnvironment are the processes that were started with a variable.
func withEnvironment(pair string) (pids []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range all {
		b, _ := os.ReadFile(name)
		pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
		if strings.Contains("\x00"+string(b), "\x00"+pair+"\x00") && isRunning(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// What is left behind by a program that has exited comes to this process, is waited
// for when it ends, and is not ended by it.
func TestOrphans(t *testing.T) {
	l := reaper(t)
	r := run(t, l, &spawn.Command{Argv: []string{"/bin/sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"}})
	pid := r.pid()
	if e := r.wait(); e.Code() != 0 || e.Terminated {
		t.Errorf("exit is %+v", e)
	}
	r.Terminate(0)
	r.Kill()
	if !isRunning(pid) {
		t.Fatal("it is gone")
	}
	runnertest.Must(t, syscall.Kill(pid, syscall.SIGKILL))
	polltest.Until(t, "the orphan to be reaped", func() bool { return syscall.Kill(pid, 0) != nil })
}

// Children that somebody else in this process has started are left to them.
func TestChildrenOfOthers(t *testing.T) {
	l := reaper(t)
	cmd := exec.Command("/bin/sh", "-c", "exit 7")
	other := exec.Command("/bin/sh", "-c", "exit 8")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	runnertest.Must(t, cmd.Start())
	runnertest.Must(t, other.Start())
	for range 3 { // it has reaped this many times
		r := run(t, l, &spawn.Command{Argv: []string{"/bin/sh", "-c", "(sleep 0 & echo $!)"}})
		pid := r.pid()
		r.wait()
		polltest.Until(t, "the orphan to be reaped", func() bool { return syscall.Kill(pid, 0) != nil })
	}
	cmd.Wait()
	other.Wait()
	if cmd.ProcessState.ExitCode() != 7 || other.ProcessState.ExitCode() != 8 {
		t.Errorf("exit codes %v and %v", cmd.ProcessState, other.ProcessState)
	}
}

// listener is a listening socket as a program gets it.
func listener(t *testing.T) (fd int, path string) {
	t.Helper()
	path = filepath.Join(runnertest.TempDir(t), "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	runnertest.Must(t, err)
	runnertest.Must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	runnertest.Must(t, unix.Listen(fd, 10))
	return fd, path
}

// accept is a program that ignores TERM and ends when it cannot accept.
func accept() int {
	if os.Getenv("DEAF") != "" {
		signal.Ignore(unix.SIGTERM)
	}
	fmt.Fprintln(os.Stderr, os.Getpid())
	for {
		fd, _, err := unix.Accept(0)
		if err != nil && err != unix.EINTR {
			fmt.Fprintln(os.Stderr, err)
			return 0
		}
		unix.Close(fd)
	}
}

// serve starts a shell with a listening socket; $SELF is a program that accepts.
func serve(t *testing.T, l *spawn.Local, script string) (r *running, path string) {
	t.Helper()
	self, err := os.Executable()
	runnertest.Must(t, err)
	fd, path := listener(t)
	defer unix.Close(fd)
	r = run(t, l, &spawn.Command{
		Argv: []string{"/bin/sh", "-c", script}, IO: spawn.IO{Socket: fd},
		Env: []string{"SELF=" + self, "HELPER=accept", "DEAF=1", "GORACE=atexit_sleep_ms=0"},
	})
	return r, path
}

// A program that leaves is signalled alone: what it has started goes on, unless that
// has the socket too.
func TestLeave(t *testing.T) {
	r, _ := serve(t, reaper(t), "trap 'exit 3' TERM; sleep 1000 >/dev/null 2>&1 & echo $! >&2; while :; do sleep .01; done")
	job := r.pid()
	r.Leave(runnertest.Patience)
	if e := r.wait(); e.Code() != 3 || e.Terminated {
		t.Errorf("exit is %+v", e)
	}
	if !isRunning(job) {
		t.Error("the background job is gone")
	}
}

// One that waits in an accept, and does not notice the signal, is woken up.
func TestLeaveWakesAccept(t *testing.T) {
	r, path := serve(t, reaper(t), "exec $SELF")
	r.pid()
	began := time.Now()
	r.Leave(time.Hour)
	if text := r.line(); text != "invalid argument" {
		t.Errorf("accept: %s", text)
	}
	r.wait()
	if took := time.Since(began); took < time.Second {
		t.Errorf("the socket was shut down after %v", took)
	}
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("somebody listens")
	}
}

// A script that did not exec the program is not all of the program.
func TestLeaveOfAWrapper(t *testing.T) {
	for name, script := range map[string]string{
		"a child":            "$SELF; echo done >&2",
		"of another session": "setsid $SELF & wait",
		"an orphan":          "(setsid $SELF & ); while :; do sleep .01; done",
	} {
		t.Run(name, func(t *testing.T) {
			r, path := serve(t, reaper(t), "exec 3<&0; "+strings.ReplaceAll(script, "$SELF &", "$SELF <&3 &"))
			pid := r.pid()
			r.Leave(runnertest.Patience)
			r.wait()
			awaitGone(t, pid)
			// The kernel closes what a process had open a moment before or after that.
			polltest.Until(t, "nobody to listen", func() bool { _, err := net.Dial("unix", path); return err != nil })
		})
	}
}

// What does not leave within its grace is killed; a job of it goes on.
func TestLeaveGrace(t *testing.T) {
	r, _ := serve(t, reaper(t), "sleep 1000 >/dev/null 2>&1 & trap '' TERM; echo $! >&2; while :; do sleep .01; done")
	job := r.pid()
	r.Leave(time.Hour)
	r.Leave(10 * time.Millisecond) // it has less time now
	if e := r.wait(); e.Code() != 137 {
		t.Errorf("exit is %+v", e)
	}
	if !isRunning(job) {
		t.Error("the background job is gone")
	}
}

// beRoot is a program that is set-user-ID.
func beRoot() int {
	if err := unix.Setresuid(0, 0, 0); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(os.Getpid())
	time.Sleep(time.Hour)
	return 0
}

// startRoot starts that program as another user, and ends it.
func startRoot() int {
	log, logs := logtest.New()
	l := &spawn.Local{Log: log}
	p, err := l.Start(context.Background(), &spawn.Command{
		Argv: []string{os.Getenv("PROGRAM")}, Env: []string{"HELPER=root", "GORACE=atexit_sleep_ms=0"}, Dir: "/",
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	p.Watch()
	lines, w := io.Pipe()
	go p.Stdout.Copy(w)
	pid, _ := bufio.NewReader(lines).ReadString('\n')
	fmt.Print(pid)
	p.Terminate(10 * time.Millisecond)
	exited := p.AwaitExit()
	e, err := p.Wait()
	fmt.Printf("exited %v, given up %v %v, %d left\n", exited, e.GivenUp, err, l.Len())
	for end := time.Now().Add(runnertest.Patience); logs.Len() == 0 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	for _, x := range logs.All() {
		fmt.Println(x.Level, x.Message, fmt.Sprint(x.Fields["pid"]) == fmt.Sprint(p.PID), x.Fields["reason"])
	}
	return 0
}

// What cannot be signalled is given up after its grace, and told of.
func TestCannotBeSignalled(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make such a program")
	}
	dir, err := os.MkdirTemp("", "fcgid")
	runnertest.Must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	runnertest.Must(t, os.Chmod(dir, 0o755))
	self, err := os.ReadFile("/proc/self/exe")
	runnertest.Must(t, err)
	program := runnertest.WriteFile(t, dir+"/program", string(self), 0o755)
	runnertest.Must(t, os.Chmod(program, 0o755|os.ModeSetuid))
	starter := runnertest.WriteFile(t, dir+"/starter", string(self), 0o755)
	cmd := exec.Command(starter)
	cmd.Env = []string{"HELPER=unprivileged", "PROGRAM=" + program, "GORACE=atexit_sleep_ms=0"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	var complaints strings.Builder // to which a build that counts coverage adds
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	first, rest, _ := strings.Cut(string(out), "\n")
	if pid, err := strconv.Atoi(first); err == nil {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	want := "exited false, given up true <nil>, 0 left\nWARN process cannot be signalled, and is given up true operation not permitted\n"
	if err != nil || rest != want {
		t.Errorf("%v, printed\n%swant\n%s%s", err, out, want, &complaints)
	}
}
