// Package spawn is the one place that forks: it starts programs, signals what they
// have started, and waits for them. It knows nothing of requests.
package spawn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgroup"
)

// A Command is what a program is started with.
type Command struct {
	Argv []string // the first is the path of what is executed
	Env  []string // all of it: nothing is taken from ours
	Dir  string   // "" is ours
	IO
	// Identity is who the program runs as; nil is who we are. It needs root.
	Identity *Identity
	// Sandbox is what it cannot undo; nil is nothing.
	Sandbox *Sandbox
	// Cgroup is its pool's; nil is ours. Where the kernel does not take it there, it is
	// started in ours, unless the pool's limits are required.
	Cgroup *cgroup.Pool
	// Aside says that somebody else than root can have the program's execution take as
	// long as they like, which is not to hold up that of others. Where it runs as
	// another user, it costs a quarter more.
	Aside bool
	// OwnCgroup says that it gets a cgroup of its own there, although no limit needs
	// one: then a forced end takes all that it has started, without exception.
	OwnCgroup bool

	alone bool // no starter executes it
}

// start starts the program: see Local.
func (c *Command) start(ctx context.Context, l *Local) (*Process, error) {
	var fds Pipes
	defer fds.CloseTheirs()
	err := fds.Open(&c.IO)
	if err == nil && c.Identity.isOther() {
		err = fds.give(&c.IO, c.Identity)
	}
	if err != nil {
		fds.Close()
		return nil, fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	s := new(started)
	s.child.own = &s.Process
	if err := l.launch(ctx, c, &s.child, fds.theirs[:]); err != nil {
		fds.Close()
		return nil, err
	}
	fds.process(&s.Process, s.child.PID, &s.child)
	l.add(&s.child)
	return &s.Process, nil
}

// A started is a Process of a program of this process's own, in one piece.
type started struct {
	Process
	child Child
}

// execute has the team execute the program with these descriptors.
func (c *Command) execute(ctx context.Context, child *Child, t *team, files []uintptr) error {
	pid, group, err := c.startInGroup(ctx, t, files)
	switch {
	case err != nil && ctx.Err() != nil:
		return context.Cause(ctx) // to explain it may hang as the start did
	case err != nil:
		return c.explain(err)
	}
	child.PID, child.group, child.team = pid, group, t
	if c.Socket != 0 {
		child.socket, child.shared = fileName(c.Socket), c.Shared
	}
	return nil
}

// explain says what could not be started: the kernel has one ENOENT for a
// program, the interpreter that its first line names, and the folder. It looks as who the
// program was to run as, and may be led to any file by who writes where it is.
func (c *Command) explain(err error) error {
	if lookErr := c.Identity.Look(func() error { err = c.explained(err); return nil }); lookErr != nil {
		return fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	return err
}

func (c *Command) explained(err error) error {
	name, file := c.Argv[0], c.outside(c.Argv[0])
	if folderErr := access(c.outside(c.Dir)+"/", unix.X_OK); folderErr != nil {
		return fmt.Errorf("start %s: working directory %s: %v", name, c.Dir, folderErr)
	}
	isThere := access(file, unix.F_OK) == nil
	switch {
	case errors.Is(err, unix.ENOENT) && isThere && c.Sandbox != nil && c.Sandbox.PrivateTmp && isTmp(name):
		return fmt.Errorf("start %s: sandbox.private_tmp has another folder there: %w", name, err)
	case errors.Is(err, unix.EACCES) && c.Sandbox != nil && len(c.Sandbox.Read) > 0 && access(file, unix.X_OK) == nil:
		return fmt.Errorf("start %s: is it, with all that it is run by, under sandbox.read? %w", name, err)
	case errors.Is(err, unix.ENOENT) && isThere:
		return fmt.Errorf("start %s: its interpreter %s: %w", name, interpreterOf(file), err)
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("start %s: it is no program and %s: %w", name, formatOf(file), err)
	}
	return fmt.Errorf("start %s: %w", name, err)
}

// access is with the rights that this thread has to files now.
func access(name string, mode uint32) error {
	return unix.Faccessat(unix.AT_FDCWD, name, mode, unix.AT_EACCESS)
}

// outside is what a path of the program is to us.
func (c *Command) outside(name string) string {
	if c.Sandbox == nil || c.Sandbox.Chroot == "" {
		return name
	}
	return c.Sandbox.Chroot + "/" + name
}

func isTmp(name string) bool {
	return strings.HasPrefix(name, "/tmp/") || strings.HasPrefix(name, "/var/tmp/")
}

// errNoFile is of what is no regular file: to open it might wait, or set something going.
var errNoFile = errors.New("not a regular file")

// beginning is what the kernel looks at to tell what a file is.
func beginning(name string) ([]byte, error) {
	at, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	var stat unix.Stat_t
	if err := unix.Fstat(at, &stat); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errNoFile
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", at), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	start := make([]byte, 256)
	n, err := unix.Read(fd, start)
	return start[:max(n, 0)], err
}

// formatOf says why the kernel knows no way to execute a file.
func formatOf(name string) string {
	start, err := beginning(name)
	switch {
	case err != nil:
		return "cannot be read"
	case bytes.HasPrefix(start, []byte("\xef\xbb\xbf#!")):
		return "begins with a byte order mark, which must not be before #!"
	case bytes.HasPrefix(start, []byte("\xef\xbb\xbf")), bytes.HasPrefix(start, []byte("\xff\xfe")), bytes.HasPrefix(start, []byte("\xfe\xff")):
		return "begins with a byte order mark, not with #!"
	}
	return "has no #! line"
}

// interpreterOf is what the first line of a script names, quoted.
func interpreterOf(name string) string {
	start, err := beginning(name)
	if err != nil {
		return "is unknown"
	}
	line, _, _ := bytes.Cut(start, []byte{'\n'})
	line, ok := bytes.CutPrefix(line, []byte("#!"))
	if !ok {
		return "for the dynamic loader"
	}
	interpreter := strconv.Quote(string(bytes.TrimLeft(line, " \t")))
	if bytes.HasSuffix(line, []byte{'\r'}) {
		interpreter += " (Windows line endings)"
	}
	return interpreter
}
