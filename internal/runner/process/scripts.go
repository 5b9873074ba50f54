package process

import (
	"context"
	"errors"
	"path"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A Launcher starts the scripts that requests name.
type Launcher interface {
	// Launch starts the script of a request, and returns when it has been executed, with the
	// script's path. The error is a *protocol.Refusal, or the cause of ctx.
	Launch(ctx context.Context, req *protocol.Request, io spawn.IO) (p *spawn.Process, script string, err error)
}

// Scripts are the programs of a pool, each started for a request. They may be used by many
// goroutines at once.
type Scripts struct {
	opt    Options
	rules  cgi.Rules
	pool   who // Options.Identity
	owners owners

	dropped sync.Map // names that were told of; few, see cgi.Options.Dropped
}

// NewScripts returns those that the first part of the options describes, down to Sandbox,
// with Cgroup, Identity and Owner.
func NewScripts(opt Options) *Scripts {
	s := &Scripts{
		opt:   opt,
		rules: cgi.Rules{Roots: opt.Roots, Scripts: opt.Scripts, Extensions: opt.Extensions, Interpreters: opt.Interpreters, Chroot: opt.chroot()},
	}
	s.pool = who{opt.Identity, s.newTold(opt.Identity)}
	return s
}

func (o *Options) chroot() string {
	if o.Sandbox == nil {
		return ""
	}
	return o.Sandbox.Chroot
}

// newTold is what programs that run as somebody are told.
func (p *Scripts) newTold(as *spawn.Identity) *cgi.Environment {
	return cgi.NewEnvironment(cgi.Options{
		Software: p.opt.Software, Env: p.opt.Env, PassEnv: p.opt.PassEnv,
		PassParams: p.opt.PassParams, SingleFields: p.opt.SingleFields, Dropped: p.tellDropped,
		User: as.User(), Chroot: p.opt.chroot(),
	})
}

// tellDropped tells of a name once, whoever it was kept from.
func (p *Scripts) tellDropped(name, why string) {
	if _, told := p.dropped.LoadOrStore(name, true); !told && p.opt.Dropped != nil {
		p.opt.Dropped(name, why)
	}
}

// Command is what the script is started with that a request names by its params, but for
// what becomes of its descriptors, and the script's path. The error is a *protocol.Refusal.
func (p *Scripts) Command(params *protocol.Params, id *protocol.RequestID) (cmd spawn.Command, script string, err error) {
	s, env, as, err := p.find(params, id)
	if err != nil {
		return cmd, "", err
	}
	dir := p.opt.Dir
	if dir == "" {
		dir, _ = cgi.Inside(p.rules.Chroot, path.Dir(s.Path))
	}
	return spawn.Command{
		Argv: s.Argv, Env: env, Dir: dir, Identity: as, Cgroup: p.opt.Cgroup, Sandbox: p.opt.Sandbox,
		Aside: as != nil && !isExecutedAtOnce(&s, dir),
	}, s.Path, nil
}

// isExecutedAtOnce reports whether nobody but root can have the execution of a script in a folder
// take long. An interpreter is the configuration's, and opens the script when it runs.
func isExecutedAtOnce(s *cgi.Script, dir string) bool {
	isDirect := len(s.Argv) == 1
	if isDirect && dir == path.Dir(s.Path) {
		return isRoots(s.Path) // and so the folder
	}
	return isRoots(dir) && (!isDirect || isRoots(s.Path))
}

// A local starts scripts by a Spawner.
type local struct {
	*Scripts
	by spawn.Spawner
}

// Launch is that of Launcher.
func (l *local) Launch(ctx context.Context, req *protocol.Request, io spawn.IO) (*spawn.Process, string, error) {
	cmd, script, err := l.Command(&req.Params, &req.ID)
	if err != nil {
		return nil, "", err
	}
	cmd.IO = io
	proc, err := l.by.Start(ctx, &cmd)
	switch {
	case err == nil:
		return proc, script, nil
	case ctx.Err() != nil:
		return nil, "", context.Cause(ctx)
	}
	return nil, "", CannotStart(err)
}

// CannotStart is the answer to a program that was not started.
func CannotStart(err error) error {
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

// A who is somebody whose programs run, with what these are told.
type who struct {
	identity *spawn.Identity // nil: who we are
	told     *cgi.Environment
}

// find is the script that a request names and its environment, found with the rights of
// who it is to run as.
func (p *Scripts) find(params *protocol.Params, id *protocol.RequestID) (s cgi.Script, env []string, as *spawn.Identity, err error) {
	w, checked := &p.pool, ""
	if p.opt.Owner != nil {
		if w, checked, err = p.owner(params); err != nil {
			return s, nil, nil, err
		}
	}
	err = w.identity.Look(func() (err error) {
		if s, err = p.rules.Find(params); err != nil {
			return err
		}
		if p.opt.Owner != nil {
			if s = s.Resolved(); s.Path != checked {
				return refused("script %s was replaced while it was looked at", checked)
			}
		}
		env, err = w.told.Of(params, id, &s)
		return err
	})
	return s, env, w.identity, err
}
