// Package process runs a CGI program for each request (RFC 3875): it finds the
// script, builds its environment, starts it, moves its input and output, and sees
// to it that it ends. It knows a request, never the connection that it came from.
package process

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/cgroup"
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
	Cgroup  *cgroup.Pool  // where; nil: in the daemon's
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
	opt    Options
	rules  cgi.Rules
	pool   who // Options.Identity
	owners owners

	dropped sync.Map // names that were told of; few, see cgi.Options.Dropped
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
	p := &Runner{
		opt:   opt,
		rules: cgi.Rules{Roots: opt.Roots, Scripts: opt.Scripts, Extensions: opt.Extensions, Interpreters: opt.Interpreters, Chroot: opt.chroot()},
	}
	p.pool = who{opt.Identity, p.newTold(opt.Identity)}
	return p
}

func (o *Options) chroot() string {
	if o.Sandbox == nil {
		return ""
	}
	return o.Sandbox.Chroot
}

// newTold is what programs that run as somebody are told.
func (p *Runner) newTold(as *spawn.Identity) *cgi.Environment {
	return cgi.NewEnvironment(cgi.Options{
		Software: p.opt.Software, Env: p.opt.Env, PassEnv: p.opt.PassEnv,
		PassParams: p.opt.PassParams, SingleFields: p.opt.SingleFields, Dropped: p.tellDropped,
		User: as.User(), Chroot: p.opt.chroot(),
	})
}

// tellDropped tells of a name once, whoever it was kept from.
func (p *Runner) tellDropped(name, why string) {
	if _, told := p.dropped.LoadOrStore(name, true); !told && p.opt.Dropped != nil {
		p.opt.Dropped(name, why)
	}
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
	s, env, as, err := p.find(req)
	if err != nil {
		return 0, err
	}
	dir := p.opt.Dir
	if dir == "" {
		dir, _ = cgi.Inside(p.rules.Chroot, path.Dir(s.Path))
	}
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
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
	proc, err := p.opt.Spawner.Start(ctx, &spawn.Command{
		Argv: s.Argv, Env: env, Dir: dir, Stdin: req.Stdin != nil, Input: input, File: file, Identity: as,
		Cgroup: p.opt.Cgroup, Sandbox: p.opt.Sandbox,
	})
	if ctx.Err() != nil && proc == nil {
		return 0, context.Cause(ctx)
	}
	if err != nil {
		return 0, cannotStart(err)
	}
	if p.opt.Hooks.Started != nil {
		p.opt.Hooks.Started(time.Since(began))
	}
	if req.Started != nil {
		req.Started(proc.PID, s.Path)
	}
	r := &run{Process: proc, runner: p, req: req, script: s.Path}
	return r.attend(ctx)
}

// cannotStart is the answer to a program that was not started.
func cannotStart(err error) error {
	ref := &protocol.Refusal{HTTPStatus: 502, AppStatus: 500, Reason: err}
	switch {
	case errors.Is(err, unix.E2BIG):
		ref.HTTPStatus, ref.AppStatus, ref.Reason = 431, 431, errTooLarge
	case errors.Is(err, unix.EACCES):
		ref.HTTPStatus, ref.AppStatus = 403, 403
	}
	return ref
}

// errTooLarge tells that all strings together are more than execve(2) takes.
var errTooLarge = errors.New("the environment is larger than the kernel takes")
