package spawn

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// An IO says what the descriptors 0, 1 and 2 of a program are to be. STDOUT and STDERR
// are pipes.
type IO struct {
	Stdin bool // a pipe; else /dev/null
	// Input, if there is any, is all of a STDIN that any pipe holds: MaxInput bytes
	// at most. Then the process has no Stdin that could be written to.
	Input []byte
	// File, if there is one, is to be descriptor 0. It stays the caller's, but who the
	// program runs as, if it has to become somebody, may read it by name, and nobody may
	// write it so.
	File *os.File
	// Socket, if not 0, is to be descriptor 0: then STDOUT goes where STDERR does. It
	// stays the caller's.
	Socket int
	// Shared says that others have the socket too: it tells nobody what is of the program,
	// and nothing is done to it.
	Shared bool
}

// IsFed reports whether the program's STDIN comes while it runs.
func (io *IO) IsFed() bool { return io.Stdin && io.File == nil && len(io.Input) == 0 }

// MaxInput is what an empty pipe takes in any case (pipe(7): PIPE_BUF).
const MaxInput = 4 << 10

// Pipes are the two ends of a program's descriptors 0, 1 and 2.
type Pipes struct {
	ours   [3]int
	theirs [3]uintptr
	opened []int // theirs, to be closed
	kept   []int // ours, to be closed if there is no process

	feeds, hasStdout bool // we have an end of STDIN, and of STDOUT
}

// Open opens what a program needs. Also after an error CloseTheirs is called, and Close if
// there is no process in the end.
func (p *Pipes) Open(io *IO) error {
	for i := range 3 {
		switch {
		case i == 0 && io.Socket != 0:
			p.theirs[0] = uintptr(io.Socket)
			continue
		case i == 0 && io.File != nil:
			fd, err := fdOf(io.File)
			if err != nil {
				return err
			}
			p.theirs[0] = fd
			continue
		case i == 0 && !io.Stdin:
			fd, err := null.get()
			if err != nil {
				return err
			}
			p.theirs[i] = uintptr(fd)
			continue
		case i == 1 && io.Socket != 0:
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
		if i > 0 || len(io.Input) == 0 {
			p.kept = append(p.kept, ours)
		} else if err := fillPipe(ours, io.Input); err != nil {
			return err
		}
	}
	p.hasStdout = io.Socket == 0
	if io.Socket != 0 {
		p.theirs[1] = p.theirs[2]
	}
	p.feeds = io.IsFed()
	return nil
}

// null is /dev/null for all programs: there is nothing in it that one could have of another.
var null nullFile

type nullFile struct {
	mu sync.Mutex // guards the field below
	fd int        // 0: not yet open
}

func (n *nullFile) get() (fd int, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.fd == 0 {
		if fd, err = unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return 0, fmt.Errorf("open %s: %w", os.DevNull, err)
		}
		n.fd = fd
	}
	return n.fd, nil
}

// Theirs are the descriptors that are to be the program's, until CloseTheirs.
func (p *Pipes) Theirs() [3]int {
	return [3]int{int(p.theirs[0]), int(p.theirs[1]), int(p.theirs[2])}
}

// Process is that of a program which was started with the other ends. If it has exited, and
// nobody else has its STDOUT, that is read without the runtime's poller: it is all there.
func (p *Pipes) Process(pid int, program Program) *Process {
	proc := new(Process)
	if p.hasStdout && program.HasExited() && hasHungUp(p.ours[1]) {
		proc.out.ended = &endedPipe{p.ours[1]}
	}
	p.process(proc, pid, program)
	return proc
}

func (p *Pipes) process(proc *Process, pid int, program Program) {
	proc.PID, proc.program, proc.ask, proc.rawStderr = pid, program, syscall.SIGTERM, p.ours[2]
	if p.feeds {
		proc.Stdin = ourFile(p.ours[0], "stdin")
	}
	if p.hasStdout {
		if proc.out.ended == nil {
			proc.out.file = ourFile(p.ours[1], "stdout")
		}
		proc.Stdout = &proc.out
	} else {
		proc.Watch() // it is to live long
	}
}

// ourFile is a descriptor in the runtime's poller. A new one has no other flags
// that could be set, so they need not be read.
func ourFile(fd int, name string) *os.File {
	unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK)
	return os.NewFile(uintptr(fd), name)
}

// Share has whoever runs the program open its pipes, and read the file, by the names
// /dev/stdin and so on, which are of nobody who cannot trace the program: for a program that
// another process starts, as somebody whom this one need not know.
func (p *Pipes) Share(io *IO) error {
	for i, fd := range p.theirs {
		mode := uint32(0o666)
		switch {
		case i == 0 && io.File != nil:
			mode = 0o444
		case !slices.Contains(p.opened, int(fd)):
			continue
		}
		if err := unix.Fchmod(int(fd), mode); err != nil {
			return fmt.Errorf("share descriptor %d with a program: %w", i, err)
		}
	}
	return nil
}

// give makes pipes theirs who runs as somebody else, and has them read the file, or
// /dev/stdin and its like could not be opened. The file stays its owner's: who owns it
// could open it for writing, past what limits how much may be in such files.
func (p *Pipes) give(io *IO, id *Identity) error {
	uid, gid := int(id.UID), int(id.GID)
	for i, fd := range p.theirs {
		var err error
		switch {
		case i == 0 && io.File != nil:
			if err = unix.Fchown(int(fd), -1, gid); err == nil {
				err = unix.Fchmod(int(fd), 0o440)
			}
		case slices.Contains(p.opened, int(fd)):
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

// CloseTheirs closes the program's ends, which a program has that was started. It may be called
// again.
func (p *Pipes) CloseTheirs() {
	for _, fd := range p.opened {
		unix.Close(fd)
	}
	p.opened = nil
}

// Close closes our ends, if there is no process that has them.
func (p *Pipes) Close() {
	for _, fd := range p.kept {
		unix.Close(fd)
	}
}
