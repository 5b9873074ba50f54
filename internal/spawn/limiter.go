package spawn

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A limiter is a program of some hundred bytes, made in memory, that goes to a cgroup, limits
// itself, goes to a folder and executes another program: its arguments are the path, the folder,
// and then the arguments of that. What went wrong it writes to a descriptor, as ForkExec's own
// child does to its pipe.
//
// One with limits is for what ptrace cannot do: where that is refused (Yama, a container), and
// where root without CAP_SYS_RESOURCE, as in most containers, is to limit a program of another
// user. It costs twice as much.
//
// One without is for a program that cannot be born in its cgroup: held by ptrace, which may be
// refused, a set-user-ID one would lose its rights. And it is for Command.Aside. A fork returns
// when its child has executed something, and until then this process forks no other, nor collects
// garbage: who owns a program can have that take as long as they like (a lease of fcntl(2), FUSE).
// A limiter is executed at once.

// What a limiter has beside 0, 1 and 2: the pipe that it writes to, itself, and the cgroup.procs
// of the group that it is to go to, if there is one. It is executed by that name, since
// ForkExec's child may have put something else in the place of any other descriptor by then.
// Nothing of these gets to the program.
const faultsFD, limiterFD, groupFD = 3, 4, 5

// One of these is set in what a limiter writes if it is not the program that failed.
const (
	ofLimit = 1 << 16
	ofGroup = 1 << 17
)

var canTrace = sync.OnceValue(tryTrace)

// mayLimit reports whether this process may limit those of others.
var mayLimit = sync.OnceValue(func() bool {
	own, err := getCapabilities()
	return err == nil && own.has(unix.CAP_SYS_RESOURCE)
})

// needsLimiter reports whether programs with limits are executed by one.
func needsLimiter(id *Identity) bool {
	return canTrace() != nil || id.isOther() && int(id.UID) != ourUID && !mayLimit()
}

// starter is the limiter without limits, -1 where there is none. It is never closed.
var starter = sync.OnceValue(func() int {
	fd, err := newLimiter(nil)
	if err != nil {
		return -1
	}
	return fd
})

// limiterOf is what executes the program of a command, which may have to go to a cgroup; -1 if
// nothing does. In another root there is no name for it.
func (c *Command) limiterOf(t *team, enters bool) (fd int) {
	switch {
	case t.limiter >= 0:
		return t.limiter
	case c.alone, c.Sandbox != nil && c.Sandbox.Chroot != "":
		return -1
	case enters, c.Aside && c.Identity.isOther():
		return starter()
	}
	return -1
}

var errNoLimiter = errors.New("this architecture has no program that could set them")

// newLimiter makes one. The descriptor is to be executed. As nobody who limits itself can
// raise a limit, those above ours are ours.
func newLimiter(limits []Rlimit) (fd int, err error) {
	if runtime.GOARCH != "amd64" {
		return -1, errNoLimiter
	}
	writable, err := createProgram("limits")
	if err != nil {
		return -1, err
	}
	defer unix.Close(writable)
	program := limiterAMD64(limits)
	if n, err := unix.Write(writable, program); err != nil || n != len(program) {
		return -1, fmt.Errorf("write %d bytes: %d, %v", len(program), n, err)
	}
	if err := seal(writable); err != nil {
		return -1, err
	}
	// One that somebody has open for writing is not executed.
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", writable), unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// createProgram makes an executable file in memory that can be sealed. Kernels before
// Linux 6.3 make no other, and refuse to be asked.
func createProgram(name string) (fd int, err error) {
	fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if err == unix.EINVAL {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	return fd, err
}

// seal has a program in memory stay what it is. Who runs it can open it by its name in
// /proc, and it is to run for other users, too.
func seal(fd int) error {
	if err := unix.Fchmod(fd, 0o555); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals|unix.F_SEAL_EXEC) // it stays executable
	if err == unix.EINVAL {                                                        // before Linux 6.3
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// limit has a limiter execute the program, which goes to its group by itself then. Then report is
// next.
func (l *launch) limit(limiter int) (err error) {
	const none = ^uintptr(0) // is closed in the child, whatever it was
	procs := none
	l.procs = -1
	if l.enter != nil {
		if l.procs, err = l.enter.OpenProcs(); err != nil {
			return fmt.Errorf("%w: %v", errNotMoved, err)
		}
		l.enter, procs = nil, uintptr(l.procs)
	}
	if err := unix.Pipe2(l.faults[:], unix.O_CLOEXEC); err != nil {
		l.closeProcs()
		return fmt.Errorf("pipe: %w", err)
	}
	l.path = fmt.Sprintf("/proc/self/fd/%d", limiterFD)
	l.argv = slices.Concat([]string{l.argv[0], cmp.Or(l.attr.Dir, ".")}, l.argv)
	l.attr.Dir = ""
	l.attr.Files = append(l.attr.Files[:3:3], uintptr(l.faults[1]), uintptr(limiter), procs)
	return nil
}

func (l *launch) closeProcs() {
	if l.procs >= 0 {
		unix.Close(l.procs)
	}
}

// report waits until the limiter has executed the program, or has failed. When ctx ends
// before, the start has failed for its cause, also if the program was executed by then.
func (l *launch) report(ctx context.Context) {
	defer unix.Close(l.faults[0])
	unix.Close(l.faults[1])
	l.closeProcs()
	if l.err != nil {
		return
	}
	killed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(killed)
		unix.Kill(l.pid, unix.SIGKILL)
	})
	var fault [4]byte
	n, err := unix.Read(l.faults[0], fault[:])
	for err == unix.EINTR {
		n, err = unix.Read(l.faults[0], fault[:])
	}
	if !stop() {
		<-killed // before it is reaped
		l.abandon(context.Cause(ctx))
		return
	}
	if n != len(fault) {
		return
	}
	switch code := binary.LittleEndian.Uint32(fault[:]); {
	case code&ofGroup != 0:
		l.abandon(fmt.Errorf("%w: %v", errNotMoved, unix.Errno(code&^ofGroup)))
	case code&ofLimit != 0:
		l.abandon(fmt.Errorf("sandbox.rlimits: %w", unix.Errno(code&^ofLimit)))
	default:
		l.abandon(unix.Errno(code))
	}
}

// An assembler puts machine code together whose jumps go forward.
type assembler struct {
	code   []byte
	labels map[string]int
	uses   map[int]string // where a distance to a label is to be written
}

func (a *assembler) emit(code ...byte)      { a.code = append(a.code, code...) }
func (a *assembler) word(n uint32)          { a.code = binary.LittleEndian.AppendUint32(a.code, n) }
func (a *assembler) label(name string)      { a.labels[name] = len(a.code) }
func (a *assembler) distance(name string)   { a.uses[len(a.code)] = name; a.word(0) }
func (a *assembler) load(op byte, n uint32) { a.emit(op); a.word(n) }
func (a *assembler) systemCall(n uintptr)   { a.load(0xb8, uint32(n)); a.emit(0x0f, 0x05) } // mov eax, n; syscall
func (a *assembler) argument1(n uint32)     { a.load(0xbf, n) }                             // mov edi, n
func (a *assembler) argument2(n uint32)     { a.load(0xbe, n) }                             // mov esi, n
func (a *assembler) argument3(n uint32)     { a.load(0xba, n) }                             // mov edx, n

// link writes the distances, which are counted from behind them.
func (a *assembler) link() []byte {
	for at, name := range a.uses {
		binary.LittleEndian.PutUint32(a.code[at:], uint32(a.labels[name]-at-4))
	}
	return a.code
}

// limiterAMD64 is the whole file.
func limiterAMD64(limits []Rlimit) []byte {
	a := &assembler{labels: make(map[string]int), uses: make(map[int]string)}
	a.emit(0x48, 0x89, 0xe3) // mov rbx, rsp: argc, argv, NULL, envp
	for _, fd := range []uint32{faultsFD, limiterFD, groupFD} {
		a.argument1(fd)
		a.argument2(unix.F_SETFD)
		a.argument3(unix.FD_CLOEXEC)
		a.systemCall(unix.SYS_FCNTL)
	}
	a.enterGroup()
	for i, r := range limits {
		a.argument1(0)
		a.argument2(uint32(r.Resource))
		a.emit(0x48, 0x8d, 0x15) // lea rdx, [rip+…]
		a.distance(fmt.Sprint("limit", i))
		a.emit(0x45, 0x31, 0xd2) // xor r10d, r10d
		a.systemCall(unix.SYS_PRLIMIT64)
		a.emit(0x85, 0xc0, 0x0f, 0x85) // test eax, eax; jnz …
		a.distance("of limit")
	}
	a.emit(0x48, 0x8b, 0x7b, 0x10) // mov rdi, [rbx+16]: argv[1] is the folder
	a.systemCall(unix.SYS_CHDIR)
	a.emit(0x85, 0xc0, 0x0f, 0x85) // test eax, eax; jnz …
	a.distance("failed")
	a.emit(0x48, 0x8b, 0x7b, 0x08)       // mov rdi, [rbx+8]: argv[0] is the path
	a.emit(0x48, 0x8d, 0x73, 0x18)       // lea rsi, [rbx+24]: argv[2:]
	a.emit(0x48, 0x8b, 0x03)             // mov rax, [rbx]: argc
	a.emit(0x48, 0x8d, 0x54, 0xc3, 0x10) // lea rdx, [rbx+rax*8+16]: envp
	a.systemCall(unix.SYS_EXECVE)
	a.tell()
	a.label("myself")
	a.emit('0') // is who writes it (cgroups(7))
	a.numbers(limits)
	return elfAMD64(a.link())
}

// enterGroup goes to the group whose file groupFD is, if it is open: eax is what fcntl said of it.
func (a *assembler) enterGroup() {
	a.emit(0x85, 0xc0, 0x0f, 0x88) // test eax, eax; js …
	a.distance("limits")
	a.argument1(groupFD)
	a.emit(0x48, 0x8d, 0x35) // lea rsi, [rip+…]
	a.distance("myself")
	a.argument3(1)
	a.systemCall(unix.SYS_WRITE)
	a.emit(0x85, 0xc0, 0x0f, 0x88) // test eax, eax; js …
	a.distance("of group")
	a.label("limits")
}

// tell writes what went wrong, which is in eax, and exits.
func (a *assembler) tell() {
	a.label("failed")
	a.emit(0xf7, 0xd8, 0xe9) // neg eax; jmp …
	a.distance("tell")
	a.label("of group")
	a.emit(0xf7, 0xd8) // neg eax
	a.load(0x0d, ofGroup)
	a.emit(0xe9) // jmp …
	a.distance("tell")
	a.label("of limit")
	a.emit(0xf7, 0xd8) // neg eax
	a.load(0x0d, ofLimit)
	a.label("tell")
	a.emit(0x50) // push rax
	a.argument1(faultsFD)
	a.emit(0x48, 0x89, 0xe6) // mov rsi, rsp
	a.argument3(4)
	a.systemCall(unix.SYS_WRITE)
	a.argument1(127)
	a.systemCall(unix.SYS_EXIT_GROUP)
}

// numbers are the limits as prlimit(2) takes them, none above ours.
func (a *assembler) numbers(limits []Rlimit) {
	for i, r := range limits {
		a.label(fmt.Sprint("limit", i))
		l := r.limit()
		var ours unix.Rlimit
		if unix.Getrlimit(r.Resource, &ours) == nil {
			l.Cur, l.Max = min(l.Cur, ours.Max), min(l.Max, ours.Max)
		}
		a.code = binary.LittleEndian.AppendUint64(a.code, l.Cur)
		a.code = binary.LittleEndian.AppendUint64(a.code, l.Max)
	}
}

// elfAMD64 is an executable of that code (elf(5)).
func elfAMD64(code []byte) []byte {
	const (
		base    = 0x400000
		headers = 64 + 2*56
	)
	le := binary.LittleEndian
	file := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	file = le.AppendUint32(file, 2|62<<16) // ET_EXEC, EM_X86_64
	file = le.AppendUint32(file, 1)
	for _, n := range []uint64{base + headers, 64, 0} { // entry, program headers, sections
		file = le.AppendUint64(file, n)
	}
	file = le.AppendUint32(file, 0)
	for _, n := range []uint16{64, 56, 2, 0, 0, 0} {
		file = le.AppendUint16(file, n)
	}
	size := uint64(headers + len(code))
	file = le.AppendUint32(le.AppendUint32(file, 1), 5) // PT_LOAD, read and execute
	for _, n := range []uint64{0, base, base, size, size, 0x1000} {
		file = le.AppendUint64(file, n)
	}
	file = le.AppendUint32(le.AppendUint32(file, 0x6474e551), 6) // PT_GNU_STACK, not to be executed
	file = append(file, make([]byte, 48)...)
	return slices.Concat(file, code)
}
