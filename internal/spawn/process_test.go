package spawn

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func start(t *testing.T, l *Local, cmd *Command) *Process {
	t.Helper()
	cmd.Dir = "/"
	p, err := l.Start(t.Context(), cmd)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// end takes what is left of the output and waits.
func (p *Process) end() (*Exit, error) {
	for _, o := range []*Output{p.Stdout, p.Stderr} {
		o.Copy(io.Discard)
		o.Close()
	}
	p.AwaitExit()
	return p.Wait()
}

// What is there is passed on and an end is noticed also by who comes when the time to
// wait is over.
func TestCopyTooLate(t *testing.T) {
	for name, test := range map[string]struct {
		script string
		limit  func(o *Output)
		want   error
	}{
		"quiet":            {"echo text; exec >&-", func(o *Output) { o.WaitFor(-time.Second) }, nil},
		"expired":          {"echo text; exec >&-", func(o *Output) { o.Expire(-time.Second) }, nil},
		"quiet and open":   {"echo text", func(o *Output) { o.WaitFor(-time.Second) }, ErrQuiet},
		"expired and open": {"echo text", func(o *Output) { o.Expire(-time.Second) }, ErrExpired},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, new(Local), &Command{Argv: []string{"/bin/sh", "-c", test.script + "; exec 2>&-; read x"}, IO: IO{Stdin: true}})
			p.Watch()
			p.Stderr.Copy(io.Discard) // it has written
			test.limit(p.Stdout)
			var out strings.Builder
			if n, err := p.Stdout.Copy(&out); n != 5 || err != test.want || out.String() != "text\n" {
				t.Errorf("Copy returned %d, %v; got %q", n, err, out.String())
			}
			p.Stdin.Close()
			p.end()
		})
	}
}

// Without a pidfd that can be waited for, an exit is waited for all the same.
func TestAwaitExitWithoutPidfd(t *testing.T) {
	defer func() { pidfdOpen = unix.PidfdOpen }()
	for name, open := range map[string]func(int, int) (int, error){
		"none":         func(int, int) (int, error) { return -1, unix.ENOSYS },
		"not pollable": func(int, int) (int, error) { return unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0) },
		"before Linux 5.10": func(pid, flags int) (int, error) {
			if flags != 0 {
				return -1, unix.EINVAL
			}
			return unix.PidfdOpen(pid, 0)
		},
	} {
		t.Run(name, func(t *testing.T) {
			pidfdOpen = open
			p := start(t, new(Local), &Command{Argv: []string{"/bin/sh", "-c", "read x; exit 3"}, IO: IO{Stdin: true}})
			p.Watch()
			if p.HasExited() {
				t.Error("it has exited")
			}
			waited := make(chan struct{})
			go func() { p.AwaitExit(); close(waited) }()
			p.Stdin.Close()
			<-waited
			if !p.HasExited() {
				t.Error("it has not exited")
			}
			if e, err := p.end(); err != nil || e.Code() != 3 {
				t.Errorf("Wait returned %+v, %v", e, err)
			}
		})
	}
}

// Nothing is signalled any more once the pid may be that of another program.
func TestNoSignalAfterWait(t *testing.T) {
	var l Local
	p := start(t, &l, &Command{Argv: []string{"/bin/true"}})
	p.Watch()
	if _, err := p.end(); err != nil {
		t.Fatal(err)
	}
	if n := l.Len(); n != 0 {
		t.Errorf("%d programs are left", n)
	}
	victim := start(t, new(Local), &Command{Argv: []string{"/bin/sh", "-c", "read x; exit 4"}, IO: IO{Stdin: true}})
	victim.Watch()
	c := p.program.(*Child)
	c.PID = victim.PID // it was reused
	p.Terminate(0)
	p.Kill()
	l.add(c)
	l.Kill()
	victim.Stdin.Close()
	if e, err := victim.end(); err != nil || e.Code() != 4 {
		t.Errorf("Wait returned %+v, %v", e, err)
	}
}

// Where a sandbox has no pidfd_send_signal(2), a process is signalled all the same.
func TestSignalWithoutPidfd(t *testing.T) {
	defer func() { pidfdSendSignal = unix.PidfdSendSignal }()
	var l Local
	for _, refused := range []error{unix.EPERM, unix.ENOSYS} {
		pidfdSendSignal = func(int, unix.Signal, *unix.Siginfo, int) error { return refused }
		p := start(t, &l, &Command{Argv: []string{"/bin/sleep", "60"}})
		p.Watch()
		known, ok := readTask(p.PID)
		if !ok || !known.signal(unix.SIGUSR1) {
			t.Errorf("%v: cannot be signalled", refused)
			p.Kill()
		}
		if e, err := p.end(); err != nil || e.Code() != 128+uint32(unix.SIGUSR1) {
			t.Errorf("%v: the program ended with %d, %v", refused, e.Code(), err)
		}
	}
}

// What could not be started is looked at as who was to run it, and by nobody who would wait
// for it: it may be another file by then.
func TestExplainIsNotLedAnywhere(t *testing.T) {
	dir := t.TempDir()
	fifo, secret, other := dir+"/fifo", dir+"/secret", &Identity{UID: 64101, GID: 64101}
	if err := errors.Join(unix.Mkfifo(fifo, 0o777), os.WriteFile(secret, []byte("#!/what/it/says\n"), 0o700), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{fifo, "/dev/null"} {
		c := &Command{Argv: []string{file}, Dir: "/"}
		if err := c.explain(unix.ENOEXEC); !strings.Contains(err.Error(), "cannot be read") {
			t.Errorf("%s: %v", file, err)
		}
	}
	c := &Command{Argv: []string{secret}, Dir: "/"}
	if err := c.explain(unix.ENOENT); !strings.Contains(err.Error(), "/what/it/says") {
		t.Errorf("of one's own: %v", err)
	}
	if os.Geteuid() != 0 {
		return
	}
	c.Identity = other
	if err := c.explain(unix.ENOENT); strings.Contains(err.Error(), "says") {
		t.Errorf("of root's: %v", err)
	}
	c.Argv[0] = secret + "/x"
	if err := c.explain(unix.ENOTDIR); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("below a file: %v", err)
	}
}
