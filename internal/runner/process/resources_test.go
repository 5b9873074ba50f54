package process_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/spawn"
)

// Whatever becomes of requests, they leave nothing behind.
func TestNothingIsLeft(t *testing.T) {
	var programs spawn.Local
	with := func(o *options) { o.Spawner, o.KillGrace = &programs, time.Millisecond }
	hello, cat, deaf := shell(t, "echo hello; echo >&2", with), shell(t, "exec cat", with), shell(t, "trap '' TERM; echo; while :; do sleep 1; done", with)
	missing := &program{process.New(options{}), "/no/such"}
	noInterpreter := shell(t, "", with, func(o *options) { o.Interpreters[".sh"] = "/no/such" })
	stays := shell(t, "sleep 1 & echo", with)
	round := func() {
		hello.call().run(t, hello)
		c := cat.call()
		c.Stdin = random(200_000)
		c.run(t, cat)
		missing.call().run(t, missing)
		c = noInterpreter.call()
		c.Stdin = strings.NewReader("x")
		c.run(t, noInterpreter)
		c = cat.call()
		c.Stdin, c.Stdout = random(200_000), failing{Err: io.ErrClosedPipe}
		c.run(t, cat)
		c = deaf.call().start(t, deaf)
		c.out.Await(t, "\n")
		c.cancel()
		c.wait(t)
	}
	round()
	stays.call().run(t, stays)
	fds, goroutines := countEntries(t, "/proc/self/fd"), runtime.NumGoroutine()
	for range 50 {
		round()
	}
	for range 3 {
		stays.call().run(t, stays)
	}
	if got := countEntries(t, "/proc/self/fd"); got > fds {
		t.Errorf("%d descriptors, before %d", got, fds)
	}
	for end := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), goroutines)
		}
	}
	if hasChildren() || programs.Len() != 0 {
		t.Errorf("there are children; %d are registered", programs.Len())
	}
}

// To run out of descriptors, wherever it happens, is told and leaves nothing behind.
func TestFewDescriptors(t *testing.T) {
	p := helperProgram(t)
	cmd := exec.Command(p.path)
	cmd.Env = []string{"HELPER=scarce", "GORACE=atexit_sleep_ms=0"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, text := range []string{
		`script "/bin/true": too many open files`,
		"start /bin/true: pipe: too many open files",
		"start /bin/true: too many open files",
		"<nil>",
	} {
		if !strings.Contains(string(out), text+"\n") {
			t.Errorf("output is\n%swant %q", out, text)
		}
	}
}

// runWithFewDescriptors runs a program with more and more descriptors until it
// works, and prints the errors.
func runWithFewDescriptors() int {
	p := process.New(options{})
	run := func(stdin io.Reader) error {
		status, err := p.Run(context.Background(), &protocol.Request{
			Params: params("SCRIPT_FILENAME", "/bin/true"), Stdin: stdin, Stdout: io.Discard, Stderr: io.Discard,
		})
		if err == nil && status != 0 {
			err = fmt.Errorf("status %d", status)
		}
		return err
	}
	if err := run(nil); err != nil { // opens what the runtime keeps
		fmt.Println("at first:", err)
		return 1
	}
	var all unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &all)
	before, _ := os.ReadDir("/proc/self/fd")
	for limit := range uint64(40) {
		for _, stdin := range []io.Reader{nil, strings.NewReader("text")} {
			unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: all.Max})
			err := run(stdin)
			unix.Setrlimit(unix.RLIMIT_NOFILE, &all)
			fmt.Println(err)
			var ref *protocol.Refusal
			if err != nil && (!errors.As(err, &ref) || ref.HTTPStatus != 502 || ref.AppStatus != 500 || !errors.Is(err, unix.EMFILE)) {
				return 1
			}
			after, _ := os.ReadDir("/proc/self/fd")
			if len(after) != len(before) || hasChildren() {
				fmt.Printf("limit %d: %d descriptors, before %d; children: %v\n", limit, len(after), len(before), hasChildren())
				return 1
			}
		}
	}
	return 0
}

// To wait for a program takes no thread. One is started after the other, since a fork does take one while it lasts.
func TestThreads(t *testing.T) {
	const n = 100
	p := shell(t, "read -r x")
	before := countEntries(t, "/proc/self/task")
	var inputs []*io.PipeWriter
	var calls []*call
	for range n {
		r, w := io.Pipe()
		c := p.call()
		started := make(chan struct{})
		c.Stdin, c.Started = r, func(int, string) { close(started) }
		inputs, calls = append(inputs, w), append(calls, c.start(t, p))
		<-started
	}
	if got := countEntries(t, "/proc/self/task"); got > before+n/4 {
		t.Errorf("%d threads for %d programs, before %d", got, n, before)
	}
	for i, w := range inputs {
		fmt.Fprintln(w)
		calls[i].wait(t).want(t, 0, "")
	}
}

// When the daemon dies, its programs do.
func TestDaemonDies(t *testing.T) {
	l := newLife(t)
	p := shell(t, "exec 9>$LIFE; printf ok; exec sleep 1000")
	cmd := exec.Command(helperProgram(t).path)
	cmd.Env = []string{"HELPER=daemon", "SCRIPT=" + p.path, "LIFE=" + l.Path}
	var out output
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	cmd.WaitDelay = patience
	mustDo(t, cmd.Start())
	out.Await(t, "ok")
	if !l.IsHeld(t) {
		t.Error("the program does not run")
	}
	mustDo(t, cmd.Process.Signal(syscall.SIGKILL))
	cmd.Wait()
	l.AwaitEnd(t)
}

func beDaemon() int {
	p := process.New(options{Interpreters: map[string]string{".sh": "/bin/sh"}})
	p.Run(context.Background(), &protocol.Request{
		Params: params("SCRIPT_FILENAME", os.Getenv("SCRIPT"), "LIFE", os.Getenv("LIFE")), Stdout: os.Stdout, Stderr: os.Stderr,
	})
	return 1
}
