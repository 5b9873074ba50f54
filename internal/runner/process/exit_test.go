package process_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/spawn"
)

func TestExitStatus(t *testing.T) {
	for script, want := range map[string]struct {
		status uint32
		reason string
	}{
		"exit 0":                     {0, "success"},
		"exit 3":                     {3, "failure"},
		"exit 255":                   {255, "failure"},
		"kill -TERM $$":              {143, "signal"},
		"kill -KILL $$":              {137, "signal"},
		"kill -PIPE $$":              {141, "signal"},
		"ulimit -c 0; kill -SEGV $$": {139, "signal"},
	} {
		t.Run(script, func(t *testing.T) {
			var started, exited int
			var reason string
			p := shell(t, "printf out; "+script, func(o *options) {
				o.Hooks = process.Hooks{
					Started: func(time.Duration) { started++ },
					Exited:  func(r string, u *syscall.Rusage) { exited++; reason = r },
				}
			})
			p.call().run(t, p).want(t, want.status, "out")
			if started != 1 || exited != 1 || reason != want.reason {
				t.Errorf("hooks: %d started, %d exited, reason %q, want %q", started, exited, reason, want.reason)
			}
		})
	}
}

// The CPU time of a program and of its children is told.
func TestUsage(t *testing.T) {
	var used time.Duration
	p := shell(t, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", func(o *options) {
		o.Hooks.Exited = func(_ string, u *syscall.Rusage) { used = time.Duration(u.Utime.Nano() + u.Stime.Nano()) }
	})
	p.call().run(t, p).want(t, 0, "")
	if used <= 0 {
		t.Errorf("used %v", used)
	}
}

// Programs that cannot be started.
func TestCannotStart(t *testing.T) {
	dir := tempDir(t)
	exe := func(name, content string) string { return write(t, filepath.Join(dir, name), content, 0o755) }
	notExec := write(t, filepath.Join(dir, "interpreter"), "", 0o644)
	busy := exe("busy", "#!/bin/sh\n")
	f, err := os.OpenFile(busy, os.O_WRONLY, 0)
	mustDo(t, err)
	defer f.Close()
	secret := filepath.Join(dir, "file")
	write(t, secret, "", 0o644)
	for name, test := range map[string]struct {
		script string
		opt    options
		http   int
		app    uint32
		text   string
	}{
		"a script with the line ends of Windows": {exe("crlf", "#!/bin/sh\r\n"), options{}, 502, 500, `crlf: its interpreter "/bin/sh\r" (Windows line endings): no such file or directory`},
		"a byte order mark":                      {exe("mark", "\xef\xbb\xbf#!/bin/sh\n"), options{}, 502, 500, "mark: it is no program and begins with a byte order mark, which must not be before #!: exec format error"},
		"UTF-16":                                 {exe("utf16", "\xff\xfe#\x00!\x00"), options{}, 502, 500, "utf16: it is no program and begins with a byte order mark, not with #!: exec format error"},
		"no such interpreter in the script":      {exe("shebang", "#!/no/such\n"), options{}, 502, 500, "shebang: its interpreter \"/no/such\": no such file or directory"},
		"interpreter may not be executed":        {exe("shebang2", "#!"+notExec+"\n"), options{}, 403, 403, "permission denied"},
		"no format":                              {exe("text", "echo\n"), options{}, 502, 500, "text: it is no program and has no #! line: exec format error"},
		"empty":                                  {exe("empty", ""), options{}, 502, 500, "empty: it is no program and has no #! line: exec format error"},
		"being written":                          {busy, options{}, 502, 500, "busy: text file busy"},
		"no such interpreter": {exe("x.php", ""), options{Interpreters: map[string]string{".php": "/no/such"}}, 502, 500,
			"start /no/such: no such file or directory"},
		"no such folder":      {"/bin/true", options{Dir: "/no/such"}, 502, 500, "working directory /no/such: no such file or directory"},
		"folder that is none": {"/bin/true", options{Dir: secret}, 502, 500, "working directory " + secret + ": not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			var programs spawn.Local
			test.opt.Spawner = &programs
			test.opt.Hooks.Started = func(time.Duration) { t.Error("Started was called") }
			p := &program{process.New(test.opt), test.script}
			c := p.call()
			r, w := io.Pipe()
			defer w.Close()
			c.Stdin = r
			c.run(t, p).wantRefusal(t, test.http, test.app, test.text)
			if n := programs.Len(); n != 0 {
				t.Errorf("%d programs", n)
			}
		})
	}
}

// A program that root may not read either: what we may do counts.
func TestWithoutPermission(t *testing.T) {
	if os.Getuid() != 0 {
		dir := tempDir(t)
		write(t, filepath.Join(dir, "closed/a.cgi"), "", 0o755)
		mustDo(t, os.Chmod(filepath.Join(dir, "closed"), 0))
		defer os.Chmod(filepath.Join(dir, "closed"), 0o700)
		p := &program{process.New(options{}), filepath.Join(dir, "closed/a.cgi")}
		p.call().run(t, p).wantRefusal(t, 403, 403, "permission denied")
	}
}

// A request that was given up is not begun.
func TestCancelledBeforeStart(t *testing.T) {
	p := shell(t, "", func(o *options) { o.Hooks.Started = func(time.Duration) { t.Error("it was started") } })
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("gave up")
	cancel(cause)
	c := p.call()
	if status, err := p.Run(ctx, &c.Request); status != 0 || err != cause {
		t.Errorf("Run returned %d, %v", status, err)
	}
}

func TestKill(t *testing.T) {
	var programs spawn.Local
	lives := []*life{newLife(t), newLife(t), newLife(t)}
	var calls []*call
	for i, l := range lives {
		p := shell(t, "exec 9>$LIFE; trap '' TERM; sleep 1000 & printf ok; wait; wait; wait", func(o *options) { o.Spawner = &programs })
		c := p.call("LIFE", l.Path).start(t, p)
		c.out.Await(t, "ok")
		if n := programs.Len(); n != i+1 {
			t.Errorf("%d programs, want %d", n, i+1)
		}
		calls = append(calls, c)
	}
	calls[0].cancel() // it ignores that
	programs.Kill()
	for i, c := range calls {
		c.wait(t).want(t, 137, "ok")
		lives[i].AwaitEnd(t)
	}
	if n := programs.Len(); n != 0 {
		t.Errorf("%d programs are left", n)
	}
	// One that is being started meanwhile does not escape.
	p := shell(t, "exec sleep 1000", func(o *options) { o.Spawner = &programs })
	p.call().run(t, p).want(t, 137, "")
	programs.Kill()
}

// Kill ends those too that a program has left outside of its group.
func TestKillWithOutsider(t *testing.T) {
	var programs spawn.Local
	p := shell(t, "setsid sh -c 'echo $$; exec sleep 1000' & wait", func(o *options) { o.Spawner = &programs })
	c := p.call().start(t, p)
	killLater(t, c.out.Await(t, "\n"))
	programs.Kill()
	if c.wait(t); c.err != nil || c.status != 137 {
		t.Errorf("Run returned %d, %v", c.status, c.err)
	}
}

// What a program and its children have used is told to who asked for it.
func TestUsageOfRequest(t *testing.T) {
	p := shell(t, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; (i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done)")
	c := p.call()
	c.Usage = new(protocol.Usage)
	c.run(t, p).want(t, 0, "")
	if u := c.Usage; u.CPU <= 0 || u.CPU != u.User+u.System || u.MaxRSS < 100<<10 || u.MaxRSS > 1<<30 {
		t.Errorf("used %+v", u)
	}
}
