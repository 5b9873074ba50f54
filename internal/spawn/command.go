// Package spawn is the one place that forks: it starts programs, signals what they
// have started, and waits for them. It knows nothing of requests.
package spawn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgroup"
)

// A Command is what a program is started with.
type Command struct {
	Argv  []string // the first is the path of what is executed
	Env   []string // all of it: nothing is taken from ours
	Dir   string   // "" is ours
	Stdin bool     // a pipe; else /dev/null
	// Input, if there is any, is all of a STDIN that any pipe holds: MaxInput bytes
	// at most. Then the process has no Stdin that could be written to.
	Input []byte
	// File, if there is one, is to be descriptor 0. It stays the caller's, but Identity's
	// group, if it has to become somebody, may read it by name, and nobody may write it so.
	File *os.File
	// Socket, if not 0, is to be descriptor 0: then STDOUT goes where STDERR does. It
	// stays the caller's.
	Socket int
	// Identity is who the program runs as; nil is who we are. It needs root.
	Identity *Identity
	// Sandbox is what it cannot undo; nil is nothing.
	Sandbox *Sandbox
	// Cgroup is its pool's; nil is ours. Where the kernel does not take it there, it is
	// started in ours, unless the pool's limits are required.
	Cgroup *cgroup.Pool
	// OwnCgroup says that it gets a cgroup of its own there, although no limit needs
	// one: then a forced end takes all that it has started, without exception.
	OwnCgroup bool
}

// MaxInput is what an empty pipe takes in any case (pipe(7): PIPE_BUF).
const MaxInput = 4 << 10

// start starts the program: see Local.
func (c *Command) start(l *Local) (*Process, error) {
	var fds pipes
	defer fds.closeTheirs()
	if err := fds.open(c); err != nil {
		fds.closeOurs()
		return nil, fmt.Errorf("start %s: %w", c.Argv[0], err)
	}
	s := new(started)
	s.child.own = &s.Process
	if err := l.launch(c, &s.child, fds.theirs[:]); err != nil {
		fds.closeOurs()
		return nil, err
	}
	c.process(&s.Process, &s.child, &fds)
	l.add(&s.child)
	return &s.Process, nil
}

// A started is a Process of a program of this process's own, in one piece.
type started struct {
	Process
	child Child
}

// execute has the team execute the program with these descriptors.
func (c *Command) execute(child *Child, t *team, files []uintptr) error {
	pid, pidfd, group, err := c.startInGroup(t, files)
	if err != nil {
		return c.explain(err)
	}
	child.PID, child.raw, child.group, child.team = pid, pidfd, group, t
	child.pipes[1] = inodeOf(files[2])
	if c.Socket != 0 {
		child.socket = fileName(c.Socket)
	} else {
		child.pipes[0] = inodeOf(files[1])
	}
	return nil
}

// process has a Process tell of a program that runs with the other ends of these pipes.
func (c *Command) process(p *Process, child *Child, fds *pipes) {
	p.PID, p.program, p.ask, p.rawStderr = child.PID, child, syscall.SIGTERM, fds.ours[2]
	if c.Stdin && c.File == nil && len(c.Input) == 0 {
		p.Stdin = ourFile(fds.ours[0], "stdin")
	}
	if c.Socket == 0 {
		p.out.file = ourFile(fds.ours[1], "stdout")
		p.Stdout = &p.out
	} else {
		p.Watch() // it is to live long
	}
}

// ourFile is a descriptor in the runtime's poller. A new one has no other flags
// that could be set, so they need not be read.
func ourFile(fd int, name string) *os.File {
	unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK)
	return os.NewFile(uintptr(fd), name)
}

// explain says what could not be started: the kernel has one ENOENT for a
// program, the interpreter that its first line names, and the folder.
func (c *Command) explain(err error) error {
	name, file := c.Argv[0], c.outside(c.Argv[0])
	if folderErr := unix.Faccessat(unix.AT_FDCWD, c.outside(c.Dir)+"/", unix.X_OK, unix.AT_EACCESS); folderErr != nil {
		return fmt.Errorf("start %s: working directory %s: %v", name, c.Dir, folderErr)
	}
	isThere := unix.Access(file, unix.F_OK) == nil
	switch {
	case errors.Is(err, unix.ENOENT) && isThere && c.Sandbox != nil && c.Sandbox.PrivateTmp && isTmp(name):
		return fmt.Errorf("start %s: sandbox.private_tmp has another folder there: %w", name, err)
	case errors.Is(err, unix.EACCES) && c.Sandbox != nil && len(c.Sandbox.Read) > 0 && unix.Access(file, unix.X_OK) == nil:
		return fmt.Errorf("start %s: is it, with all that it is run by, under sandbox.read? %w", name, err)
	case errors.Is(err, unix.ENOENT) && isThere:
		return fmt.Errorf("start %s: its interpreter %s: %w", name, interpreterOf(file), err)
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("start %s: it is no program and %s: %w", name, formatOf(file), err)
	}
	return fmt.Errorf("start %s: %w", name, err)
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

// beginning is what the kernel looks at to tell what a file is.
func beginning(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	start := make([]byte, 256)
	n, err := f.Read(start)
	if err == io.EOF {
		err = nil
	}
	return start[:n], err
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
		interpreter += ", with a carriage return at the end of its line as on Windows"
	}
	return interpreter
}

// pipes are the two ends of a program's descriptors 0, 1 and 2.
type pipes struct {
	ours   [3]int
	theirs [3]uintptr
	opened []int // theirs, to be closed
	kept   []int // ours, to be closed if there is no process
}

// open opens what a program needs. After an error some are open.
func (p *pipes) open(cmd *Command) error {
	for i := range 3 {
		switch {
		case i == 0 && cmd.Socket != 0:
			p.theirs[0] = uintptr(cmd.Socket)
			continue
		case i == 0 && cmd.File != nil:
			fd, err := fdOf(cmd.File)
			if err != nil {
				return err
			}
			p.theirs[0] = fd
			continue
		case i == 0 && !cmd.Stdin:
			null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open %s: %w", os.DevNull, err)
			}
			p.theirs[i], p.opened = uintptr(null), append(p.opened, null)
			continue
		case i == 1 && cmd.Socket != 0:
			continue // as STDERR, below
		}
		fds, err := openPipe(i == 2)
		if err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
		ours, theirs := fds[0], fds[1]
		if i == 0 {
			ours, theirs = theirs, ours
		}
		p.ours[i], p.theirs[i] = ours, uintptr(theirs)
		p.opened = append(p.opened, theirs)
		if i > 0 || len(cmd.Input) == 0 {
			p.kept = append(p.kept, ours)
		} else if err := fillPipe(ours, cmd.Input); err != nil {
			return err
		}
	}
	if cmd.Socket != 0 {
		p.theirs[1] = p.theirs[2]
	}
	if cmd.Identity.isOther() {
		return p.give(cmd)
	}
	return nil
}

// give makes pipes theirs who runs as somebody else, and has them read the file, or
// /dev/stdin and its like could not be opened. The file stays its owner's: who owns it
// could open it for writing, past what limits how much may be in such files.
func (p *pipes) give(cmd *Command) error {
	uid, gid := int(cmd.Identity.UID), int(cmd.Identity.GID)
	for i, fd := range p.theirs {
		var err error
		switch {
		case i == 0 && cmd.File != nil:
			if err = unix.Fchown(int(fd), -1, gid); err == nil {
				err = unix.Fchmod(int(fd), 0o440)
			}
		case slices.Contains(p.opened, int(fd)) && (i > 0 || cmd.Stdin):
			err = unix.Fchown(int(fd), uid, gid)
		}
		if err != nil {
			return fmt.Errorf("give descriptor %d to user %d: %w", i, uid, err)
		}
	}
	return nil
}

// openPipe makes a pipe, where the kernel can of packets: then each write of PIPE_BUF
// bytes at most is read as one (pipe(2)).
func openPipe(packets bool) (fds [2]int, err error) {
	if packets && unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_DIRECT) == nil {
		return fds, nil
	}
	return fds, unix.Pipe2(fds[:], unix.O_CLOEXEC)
}

// fdOf is the descriptor of a file that its owner keeps open meanwhile. File.Fd would
// make it one that blocks.
func fdOf(f *os.File) (fd uintptr, err error) {
	rc, err := f.SyscallConn()
	if err == nil {
		err = rc.Control(func(own uintptr) { fd = own })
	}
	return fd, err
}

// fillPipe writes all that there is to an empty pipe, and closes it.
func fillPipe(fd int, input []byte) error {
	defer unix.Close(fd)
	if n, err := unix.Write(fd, input); err != nil || n < len(input) {
		return fmt.Errorf("write %d bytes of input: %d, %v", len(input), n, err)
	}
	return nil
}

func (p *pipes) closeTheirs() {
	for _, fd := range p.opened {
		unix.Close(fd)
	}
}

func (p *pipes) closeOurs() {
	for _, fd := range p.kept {
		unix.Close(fd)
	}
}
