package spawn_test

import (
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// What the kernel tells of a process is what its first thread does: that is to accept and read.
func init() {
	if os.Getenv("HELPER") == "converse" {
		runtime.LockOSThread()
	}
}

// converse is a program that accepts connections and reads a byte of each. It says what it does,
// and what it was doing when TERM came, which ends it.
func converse() int {
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGTERM)
	at := make(chan string)
	go func() {
		does := "starts"
		for {
			select {
			case does = <-at:
				fmt.Fprintln(os.Stderr, does)
			case <-told:
				fmt.Fprintln(os.Stderr, "TERM:", does)
				os.Exit(3)
			}
		}
	}()
	for {
		at <- "accepts"
		fd, err := retry(func() (int, error) { fd, _, err := unix.Accept(0); return fd, err })
		if err != nil {
			return 1
		}
		at <- "reads"
		if _, err = retry(func() (int, error) { return unix.Read(fd, make([]byte, 1)) }); err != nil {
			return 2
		}
		unix.Close(fd)
	}
}

func retry(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); err != unix.EINTR {
			return n, err
		}
	}
}

// shares starts a program that has a socket which others have too.
func shares(t *testing.T, l *spawn.Local, helper string) (r *running, fd int, path string) {
	t.Helper()
	self, err := os.Executable()
	runnertest.Must(t, err)
	fd, path = listener(t)
	t.Cleanup(func() { unix.Close(fd) })
	r = run(t, l, &spawn.Command{
		Argv: []string{self}, IO: spawn.IO{Socket: fd, Shared: true}, Env: []string{"HELPER=" + helper, "DEAF=1", "GORACE=atexit_sleep_ms=0"},
	})
	return r, fd, path
}

func (r *running) says(want string) {
	r.t.Helper()
	if got := r.line(); got != want {
		r.t.Fatalf("it says %q, want %q", got, want)
	}
}

// connected has a program that shares a socket read.
func connected(t *testing.T, l *spawn.Local) (*running, net.Conn) {
	t.Helper()
	r, _, path := shares(t, l, "converse")
	r.says("accepts")
	c, err := net.Dial("unix", path)
	runnertest.Must(t, err)
	t.Cleanup(func() { c.Close() })
	r.says("reads")
	return r, c
}

// A program that shares its socket is asked to leave when nothing is with it that it has not
// read.
func TestLeaveAtRest(t *testing.T) {
	spawn.SetRestTime(t, runnertest.Patience)
	r, c := connected(t, reaper(t))
	r.Leave(runnertest.Patience)
	_, err := c.Write([]byte("x"))
	runnertest.Must(t, err)
	r.says("accepts")
	r.says("TERM: accepts")
	if e := r.wait(); e.Code() != 3 {
		t.Errorf("exit is %+v", e)
	}
}

// At once, if that is so already.
func TestLeaveWhileAccepting(t *testing.T) {
	spawn.SetRestTime(t, runnertest.Patience)
	r, _, _ := shares(t, reaper(t), "converse")
	r.says("accepts")
	r.Leave(runnertest.Patience)
	r.says("TERM: accepts")
	r.wait()
}

// One that is never at rest is asked all the same.
func TestLeaveWithoutRest(t *testing.T) {
	spawn.SetRestTime(t, 20*time.Millisecond)
	r, _ := connected(t, reaper(t))
	r.Leave(runnertest.Patience)
	r.says("TERM: reads")
	r.wait()
}

// A program that has exited, is stopped or killed while its rest is waited for, ends as it does
// otherwise.
func TestLeaveEndsMeanwhile(t *testing.T) {
	spawn.SetRestTime(t, runnertest.Patience)
	l := reaper(t)
	for name, end := range map[string]func(r *running, c net.Conn){
		"killed":           func(r *running, _ net.Conn) { r.Kill() },
		"killed by others": func(r *running, _ net.Conn) { unix.Kill(r.PID, unix.SIGKILL) },
		"stopped":          func(r *running, c net.Conn) { unix.Kill(r.PID, unix.SIGSTOP); c.Write([]byte("x")) },
		"its grace over":   func(r *running, _ net.Conn) { r.Leave(time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			r, c := connected(t, l)
			r.Leave(runnertest.Patience)
			end(r, c)
			r.wait()
		})
	}
	polltest.Until(t, "nothing to be left", func() bool { return l.Len() == 0 })
}

// The socket stays with who else has it: it is not shut down, and who has it is not the
// program for that.
func TestSharedSocketStays(t *testing.T) {
	l := reaper(t)
	r, fd, path := shares(t, l, "accept")
	r.line()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	runnertest.Must(t, err)
	defer null.Close()
	child, err := l.Execute(t.Context(), &spawn.Command{Argv: []string{"/bin/sleep", "1000"}, Env: []string{}, IO: spawn.IO{Socket: fd, Shared: true}},
		[3]int{fd, int(null.Fd()), int(null.Fd())}, [2]uint64{})
	runnertest.Must(t, err)
	child.Signal(0, spawn.ToSocket)
	if err := unix.Listen(fd, 5); err != nil { // EINVAL after a shutdown
		t.Errorf("the socket is gone: %v", err)
	}
	child.Signal(unix.SIGKILL, spawn.ToTree)
	child.AwaitExit()
	child.EndServing(unix.SIGTERM, 0)
	_, err = child.Reap(true)
	runnertest.Must(t, err)
	c, err := net.Dial("unix", path)
	runnertest.Must(t, err)
	c.Close()
	if !isRunning(r.PID) {
		t.Error("the other program is gone")
	}
}
