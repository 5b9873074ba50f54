// Package process runs a CGI program for each request (RFC 3875): it finds the
// script, builds its environment, starts it, moves its input and output, and sees
// to it that it ends. It knows a request, never the connection that it came from.
package process

import (
	"context"
	"log/slog"
	"syscall"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/later"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

// Options say which programs run, and how.
type Options struct {
	Roots        []string          // folders that scripts must lie in; empty: anywhere
	Scripts      []string          // filepath.Match patterns of the files that may run; empty: any
	Extensions   []string          // that scripts must have; empty: any
	Interpreters map[string]string // programs that run scripts with an extension, such as ".php"
	Dir          string            // working directory; "" is the script's folder
	Env          []string          // as in cgi.Options, as are the next four
	PassEnv      []string
	PassParams   []string
	SingleFields []string
	Dropped      func(name, why string)
	KillGrace    time.Duration        // from TERM to KILL
	Linger       time.Duration        // silence after a program's exit, while something still has its STDOUT open
	Stderr       string               // cgi.StderrLog (also when empty), cgi.StderrClient or cgi.StderrBoth
	Admit        func(bytes int) bool // whether an entry of STDERR is to be logged; nil: each is
	Software     string               // SERVER_SOFTWARE when the web server sent none
	// Sandbox is that of the programs; nil is none. With a chroot Interpreters and Dir
	// are paths there, and the others are not.
	Sandbox *spawn.Sandbox
	Log     *slog.Logger  // nil logs nothing
	Spawner spawn.Spawner // what starts them; nil: a spawn.Local of its own
	// Launcher starts them in place of Spawner, if it is not nil: it knows better than what
	// is said here which script that is, and what it is started with.
	Launcher Launcher
	Cgroup   *cgroup.Pool // where; nil: in the daemon's
	// Identity is who the programs run as; nil is who we are. Scripts are looked for with
	// that user's rights.
	Identity *spawn.Identity
	// Owner, if not nil, has each script run as who owns it. Identity looks for it then.
	Owner *Owner
	Hooks Hooks
}

// Hooks report what happens. Each may be nil; all are called from many goroutines.
type Hooks struct {
	// Started is called for each program that was started, with the time it took.
	Started func(time.Duration)
	// Exited is called for each program that was waited for, with one of ExitReasons.
	Exited func(reason string, usage *syscall.Rusage)
}

// A Runner runs a CGI program for each request (RFC 3875). It satisfies
// server.Runner and is used by many goroutines at once.
type Runner struct {
	opt       Options
	launcher  Launcher
	unwatched later.List[*run] // programs that nobody watches yet
}

// New returns a Runner. It starts nothing.
func New(opt Options) *Runner {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Spawner == nil {
		opt.Spawner = new(spawn.Local)
	}
	if opt.Stderr == "" {
		opt.Stderr = cgi.StderrLog
	}
	p := &Runner{opt: opt, launcher: opt.Launcher, unwatched: later.List[*run]{After: watchAfter, Do: (*run).watch}}
	if p.launcher == nil {
		p.launcher = &local{NewScripts(opt), opt.Spawner}
	}
	return p
}

// Run starts the script that req names and returns when it has exited and its
// answer has ended, with its exit status, or 128 + signal. When ctx ends the
// script's process group gets TERM, and KILL after KillGrace. A script that has
// not been started is a *protocol.Refusal, unless ctx had ended. The error is
// else that of Stdout, or of a Stdin that broke; it ends the script like ctx does.
//
// The answer ends when STDOUT does. A script that has closed it and works on is
// told of by the request's Answered. What a script leaves behind in the background
// lives on; if that has STDOUT open, it is read until nothing has come for Linger,
// or until all of a Content-Length has: see protocol.WholeWriter. The time in which
// Stdout takes nothing is not counted.
func (p *Runner) Run(ctx context.Context, req *protocol.Request) (uint32, error) {
	input, _ := req.WholeInput()
	if len(input) > spawn.MaxInput {
		input = nil
	}
	file, err := req.InputFile()
	if err != nil {
		return 0, err
	}
	if file != nil {
		defer file.Close()
	}
	began := time.Now()
	proc, script, err := p.launcher.Launch(ctx, req, spawn.IO{Stdin: req.Stdin != nil, Input: input, File: file})
	if err != nil {
		return 0, err
	}
	if p.opt.Hooks.Started != nil {
		p.opt.Hooks.Started(time.Since(began))
	}
	if req.Started != nil {
		req.Started(proc.PID, script)
	}
	r := &run{Process: proc, runner: p, req: req, script: script}
	return r.attend(ctx)
}
