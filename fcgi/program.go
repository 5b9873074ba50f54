package fcgi

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/protocol"
	"github.com/fcgid/fcgid/internal/runner/process"
	"github.com/fcgid/fcgid/internal/spawn"
	"github.com/fcgid/fcgid/internal/version"
)

// Defaults of a Program. Those of a pool of the daemon are the same.
const (
	defaultKillGrace = 5 * time.Second
	defaultLinger    = 2 * time.Second
)

// A Program is a [Handler] that runs a CGI program for each request (RFC 3875): the
// file that SCRIPT_FILENAME names, else DOCUMENT_ROOT and SCRIPT_NAME, of which the
// longest part that is a file is the program and the rest its PATH_INFO. The params are
// its environment, Stdin and Stdout are its own, and what it writes to STDERR goes to the
// request's Stderr. It has no arguments, descriptors 0, 1 and 2 alone, a process group of
// its own, and an environment to which ours adds only what PassEnv names; the params that
// would have a loader, a shell or an interpreter run other code are left out of it.
//
// The appStatus is its exit status, or 128 and the signal that has killed it. One that
// is not there is answered with 404, one that may not run with 403, and one that cannot
// be started, or says nothing, with 502.
//
// When ctx ends, its process group gets TERM, and after KillGrace everything that it has
// started is killed, in other process groups and sessions too. One that exits leaves
// alone what it has put into the background. It is killed if this process dies. ServeFCGI
// returns when the program has been waited for. Waiting for children of the whole process
// (wait4(-1)) takes exit statuses away from it.
//
// ServeFCGI may also be called without a server, as an exec.Cmd may be run. Stdin is
// closed then, if it is an io.Closer, when the program has exited before the end of it.
//
// Roots or Scripts have to be set. Fields are not to be changed once ServeFCGI was called.
type Program struct {
	// Roots are folders. A program has to lie in one, after symbolic links.
	Roots []string
	// Scripts are paths or filepath.Match patterns: nothing else runs. Empty: all in Roots.
	Scripts []string
	// Extensions are those that a program has to have, such as ".cgi". Empty: any.
	Extensions []string
	// Interpreters run the files with an extension, such as ".php", which need not be
	// executable. One without a slash is looked for in PATH.
	Interpreters map[string]string
	// Dir is the working directory. "" is the program's folder.
	Dir string

	// Env are variables, NAME=value, which win over the params.
	Env []string
	// PassEnv names variables of this process that programs get too, unless Env or the
	// params have them.
	PassEnv []string
	// PassParams names params that would be left out and are to arrive.
	PassParams []string

	// Timeout is how long a program may run. Then the request is answered with 408, and
	// the program is ended. 0 is no limit.
	Timeout time.Duration
	// KillGrace is how long a program has from TERM to KILL. Negative: no time. Default: 5 s.
	KillGrace time.Duration
	// Linger is how long something that a program has left in the background, with its
	// STDOUT open, may be silent before the answer ends. Negative: no time. Default: 2 s.
	Linger time.Duration

	// Log takes what cannot be told to the web server, such as a param that is left out.
	// Nil is slog.Default.
	Log *slog.Logger

	once   sync.Once // makes the fields below
	runner *process.Runner
	err    error
}

// ServeFCGI runs the program that the request names.
func (p *Program) ServeFCGI(ctx context.Context, req *Request) (appStatus uint32, err error) {
	p.once.Do(p.init)
	if p.err != nil {
		return 0, p.err
	}
	if p.Timeout > 0 {
		var stop func()
		ctx, stop = req.endAfter(ctx, p.Timeout)
		defer stop()
	}
	inner, err := req.forRunner()
	if err != nil {
		return 0, err
	}
	if inner.Ends != nil {
		inner.Ends.Store(true)
	}
	appStatus, err = p.runner.Run(ctx, inner)
	var refused *protocol.Refusal
	if errors.As(err, &refused) {
		return refused.AppStatus, &StatusError{Status: refused.HTTPStatus, Err: refused.Reason}
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return appStatus, err
}

func (p *Program) init() {
	log := p.Log
	if log == nil {
		log = slog.Default()
	}
	opt := process.Options{
		Scripts: p.Scripts, Extensions: p.Extensions, Interpreters: make(map[string]string),
		Env: p.Env, PassEnv: p.PassEnv, PassParams: p.PassParams,
		Dropped: func(name, why string) {
			log.Warn("param dropped", "param", name, "reason", why, "fields", "Program.Env, PassParams")
		},
		KillGrace: max(0, cmp.Or(p.KillGrace, defaultKillGrace)), Linger: max(0, cmp.Or(p.Linger, defaultLinger)),
		Stderr: cgi.StderrClient, Software: version.Software(), Log: log, Spawner: &spawn.Local{Log: log},
	}
	if opt.Dir, p.err = p.absolute(p.Dir); p.err != nil {
		return
	}
	for _, root := range p.Roots {
		folder, err := p.absolute(root)
		if err == nil && root == "" {
			err = errors.New(`fcgi.Program: a root is "": set the absolute path of a folder`)
		}
		if p.err = err; err != nil {
			return
		}
		opt.Roots = append(opt.Roots, folder)
	}
	if p.err = p.check(&opt); p.err == nil {
		p.runner = process.New(opt)
	}
}

// absolute leaves "" as it is.
func (p *Program) absolute(folder string) (string, error) {
	if folder == "" {
		return "", nil
	}
	abs, err := filepath.Abs(folder)
	if err != nil {
		return "", fmt.Errorf("fcgi.Program: %w", err)
	}
	return abs, nil
}

// check finds what would go wrong with each request, and finds the interpreters.
func (p *Program) check(opt *process.Options) error {
	if len(p.Roots) == 0 && len(p.Scripts) == 0 {
		return errors.New("fcgi.Program: neither Roots nor Scripts is set: any file that a request names would run")
	}
	for _, pattern := range p.Scripts {
		if _, err := filepath.Match(pattern, ""); err != nil || !filepath.IsAbs(pattern) {
			return fmt.Errorf("fcgi.Program: script %q is no absolute path or pattern", pattern)
		}
	}
	for _, extension := range slices.AppendSeq(slices.Clone(p.Extensions), maps.Keys(p.Interpreters)) {
		if !strings.HasPrefix(extension, ".") {
			return fmt.Errorf("fcgi.Program: extension %q does not begin with a dot", extension)
		}
	}
	for _, pair := range p.Env {
		if i := strings.IndexByte(pair, '='); i < 1 {
			return fmt.Errorf("fcgi.Program: Env has %q, which is not NAME=value", pair)
		}
	}
	for extension, name := range p.Interpreters {
		path, err := exec.LookPath(name)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			return fmt.Errorf("fcgi.Program: interpreter of %s: %w", extension, err)
		}
		opt.Interpreters[extension] = path
	}
	return nil
}

// forRunner is the request in the form of the module's own runners. A stream that the
// server has made, and that no handler has replaced, is handed over as it is, since a
// runner knows what to do with a file or a pipe.
func (r *Request) forRunner() (*protocol.Request, error) {
	out := &protocol.Request{Role: protocol.Role(cmp.Or(r.Role, RoleResponder)), Stdin: r.Stdin, Stdout: r.Stdout, Stderr: r.Stderr}
	for _, p := range r.Params {
		out.Params.Add(p.Name, p.Value)
	}
	if r.Stdin == io.Reader(noInput) || out.Role == protocol.RoleAuthorizer {
		out.Stdin = nil
	}
	if out.Stdout == nil {
		out.Stdout = io.Discard
	}
	if out.Stderr == nil {
		out.Stderr = io.Discard
	}
	if r.call == nil {
		return out, nil
	}
	from := r.call.from
	out.Serial, out.Started, out.Exited, out.Ends = from.Serial, from.Started, from.Exited, from.Ends
	if r.Stdout == io.Writer(&r.call.out) {
		if err := r.Flush(); err != nil {
			return nil, err
		}
		out.Stdout, out.Answered = from.Stdout, from.Answered
	}
	return out, nil
}
