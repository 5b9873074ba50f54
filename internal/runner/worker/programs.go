package worker

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/spawn"
)

// A Launcher starts the programs of a pool.
type Launcher interface {
	// Launch starts one, with a listening socket as its descriptor 0, and returns when it has
	// been executed.
	Launch(ctx context.Context, socket int) (*spawn.Process, error)
	// Resolve looks for the script of a request where Options say which ones there may be, and
	// returns the params that a worker is sent. The error is a *protocol.Refusal.
	Resolve(ctx context.Context, params *protocol.Params) (*protocol.Params, error)
	// Usage is spawn.Usage of one that it has started.
	Usage(pid int) (cpu time.Duration, rss int64)
}

// Programs are those of a pool. They may be used by many goroutines at once.
type Programs struct {
	opt   Options
	told  *cgi.Environment
	rules *cgi.Rules // nil: workers look for their scripts
	env   []string   // what they are started with
}

// NewPrograms returns those that the first part of the options describes, down to
// Extensions, with Direct, Software, Sandbox, Cgroup and Identity. It reads files.
func NewPrograms(o Options) *Programs {
	p := &Programs{opt: o, told: cgi.NewEnvironment(cgi.Options{
		Software: o.Software, Env: o.Env, PassEnv: o.PassEnv,
		PassParams: o.PassParams, SingleFields: o.SingleFields, Dropped: o.Dropped,
		Command: o.Command, User: o.Identity.User(), Chroot: o.chroot(),
	})}
	if len(o.Roots) > 0 || len(o.Extensions) > 0 {
		p.rules = &cgi.Rules{Roots: o.Roots, Extensions: o.Extensions, Chroot: o.chroot()}
	}
	// php-cgi would end after 500 requests: here MaxRequests says when.
	p.env = p.told.OfWorker("PHP_FCGI_MAX_REQUESTS=0")
	return p
}

func (o *Options) chroot() string {
	if o.Sandbox == nil {
		return ""
	}
	return o.Sandbox.Chroot
}

// Command is what one is started with, but for its socket.
func (p *Programs) Command() (cmd spawn.Command, err error) {
	if len(p.opt.Command) == 0 {
		return cmd, fmt.Errorf("start a worker: no command")
	}
	argv := append([]string(nil), p.opt.Command...)
	path := argv[0]
	if p.opt.chroot() == "" { // there it is not looked for from here
		path, err = exec.LookPath(argv[0])
	}
	if err != nil && filepath.Base(argv[0]) == argv[0] {
		return cmd, fmt.Errorf("start a worker: %w", err)
	}
	if err == nil {
		argv[0] = path
	}
	return spawn.Command{
		IO:   spawn.IO{Shared: p.opt.Direct},
		Argv: argv, Env: p.env, Dir: p.opt.Dir, Identity: p.opt.Identity,
		Cgroup: p.opt.Cgroup, OwnCgroup: true, Sandbox: p.opt.Sandbox, Aside: true,
	}, nil
}

// Resolve is that of Launcher, with the rights of who the programs run as. It waits as long as the
// file system does.
func (p *Programs) Resolve(_ context.Context, params *protocol.Params) (as *protocol.Params, err error) {
	err = p.opt.Identity.Look(func() error {
		as, err = p.told.ForWorker(params, p.rules)
		return err
	})
	return as, err
}

// A local starts programs by a Spawner.
type local struct {
	*Programs
	by spawn.Spawner
}

// Launch is that of Launcher.
func (l *local) Launch(ctx context.Context, socket int) (*spawn.Process, error) {
	cmd, err := l.Command()
	if err != nil {
		return nil, err
	}
	cmd.Socket = socket
	return l.by.Start(ctx, &cmd)
}

// Usage is that of Launcher.
func (l *local) Usage(pid int) (cpu time.Duration, rss int64) { return spawn.Usage(pid) }
