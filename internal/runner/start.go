package runner

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A command is what a child is started with.
type command struct {
	argv  []string
	env   []string
	dir   string
	stdin bool // a pipe; else /dev/null
	// input, if there is any, is all of a STDIN that any pipe holds: smallInput bytes
	// at most. Then the child has no stdin that could be written to.
	input []byte
	// socket, if not 0, is to be descriptor 0: then STDOUT is /dev/null. It stays
	// the caller's.
	socket int
}

// smallInput is what an empty pipe takes in any case (pipe(7): PIPE_BUF).
const smallInput = 4 << 10

// startChild starts a program with descriptors 0, 1 and 2 and no others,
// default signal dispositions, and a process group of its own. If this process
// dies, the child is killed; so it is if the thread dies that started it, hence
// no goroutine may end while it is locked to one.
func startChild(cmd *command) (*child, error) {
	var p pipes
	defer p.closeTheirs()
	if err := p.open(cmd); err != nil {
		p.closeOurs()
		return nil, fmt.Errorf("start %s: %w", cmd.argv[0], err)
	}
	pidfd := -1
	pid, err := syscall.ForkExec(cmd.argv[0], cmd.argv, &syscall.ProcAttr{
		Dir:   cmd.dir,
		Env:   cmd.env,
		Files: p.theirs[:],
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd},
	})
	if err != nil {
		p.closeOurs()
		return nil, cmd.explain(err)
	}
	c := &child{pid: pid, rawPidfd: pidfd, rawStderr: p.ours[2]}
	if cmd.stdin && len(cmd.input) == 0 {
		c.stdin = ourFile(p.ours[0], "stdin")
	}
	if cmd.socket == 0 {
		c.stdout = ourFile(p.ours[1], "stdout")
	} else {
		c.register() // it is to live long
	}
	return c, nil
}

// ourFile is a descriptor in the runtime's poller. A new one has no other flags
// that could be set, so they need not be read.
func ourFile(fd int, name string) *os.File {
	unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK)
	return os.NewFile(uintptr(fd), name)
}

// explain says what could not be started: the kernel has one ENOENT for a
// program, the interpreter that its first line names, and the folder.
func (c *command) explain(err error) error {
	name := c.argv[0]
	if folderErr := unix.Faccessat(unix.AT_FDCWD, c.dir+"/", unix.X_OK, unix.AT_EACCESS); folderErr != nil {
		return fmt.Errorf("start %s: working directory %s: %v", name, c.dir, folderErr)
	}
	switch {
	case errors.Is(err, unix.ENOENT) && unix.Access(name, unix.F_OK) == nil:
		return fmt.Errorf("start %s: its interpreter %s: %w", name, interpreterOf(name), err)
	case errors.Is(err, unix.ENOEXEC):
		return fmt.Errorf("start %s: it is no program and has no #! line: %w", name, err)
	}
	return fmt.Errorf("start %s: %w", name, err)
}

// interpreterOf is what the first line of a script names, quoted: one that was
// written on Windows ends with \r.
func interpreterOf(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return "is unknown"
	}
	defer f.Close()
	start := make([]byte, 256) // the kernel looks at no more
	n, _ := f.Read(start)
	line, _, _ := bytes.Cut(start[:n], []byte{'\n'})
	line, ok := bytes.CutPrefix(line, []byte("#!"))
	if !ok {
		return "for the dynamic loader"
	}
	return strconv.Quote(string(bytes.TrimLeft(line, " \t")))
}

// pipes are the two ends of a child's descriptors 0, 1 and 2.
type pipes struct {
	ours   [3]int
	theirs [3]uintptr
	opened []int // theirs, to be closed
	kept   []int // ours, to be closed if there is no child
}

// open opens what a child needs. After an error some are open.
func (p *pipes) open(cmd *command) error {
	for i := range 3 {
		switch {
		case i == 0 && cmd.socket != 0:
			p.theirs[0] = uintptr(cmd.socket)
			continue
		case i == 0 && !cmd.stdin, i == 1 && cmd.socket != 0:
			null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("open %s: %w", os.DevNull, err)
			}
			p.theirs[i], p.opened = uintptr(null), append(p.opened, null)
			continue
		}
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
		ours, theirs := fds[0], fds[1]
		if i == 0 {
			ours, theirs = theirs, ours
		}
		p.ours[i], p.theirs[i] = ours, uintptr(theirs)
		p.opened = append(p.opened, theirs)
		if i > 0 || len(cmd.input) == 0 {
			p.kept = append(p.kept, ours)
		} else if err := fillPipe(ours, cmd.input); err != nil {
			return err
		}
	}
	return nil
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
