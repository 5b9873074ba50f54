package spawn

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// auditArch is what seccomp(2) calls the architecture of this program; 0 where the
// filter below was not written for it. All of these are little-endian.
var auditArch = map[string]uint32{
	"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64, "riscv64": unix.AUDIT_ARCH_RISCV64,
}[runtime.GOARCH]

var errNoFilter = errors.New("there is no filter for this architecture")

// What struct seccomp_data has where; of an argument, its lower half.
const (
	ofNumber   = 0
	ofArch     = 4
	ofArgument = 16
)

// Of ptrace(2): what a start with limits needs of the program and of the thread that
// starts it.
var harmlessTraces = []uint32{unix.PTRACE_TRACEME, unix.PTRACE_CONT, unix.PTRACE_DETACH}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func answer(action uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
}

// jump skips some of what comes next, by whether the test holds.
func jump(test uint16, k uint32, yes, no uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: k}
}

func refusal(errno unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(errno) }

// refuseCall answers a system call with an error.
func refuseCall(number uint32, errno unix.Errno) []unix.SockFilter {
	return []unix.SockFilter{jump(unix.BPF_JEQ, number, 0, 1), answer(refusal(errno))}
}

// allowFirst lets a system call through if its first argument is one of few, and answers
// it with an error else.
func allowFirst(number uint32, errno unix.Errno, arguments ...uint32) []unix.SockFilter {
	n := uint8(len(arguments))
	list := []unix.SockFilter{jump(unix.BPF_JEQ, number, 0, n+3), load(ofArgument)}
	for i, a := range arguments {
		list = append(list, jump(unix.BPF_JEQ, a, n-uint8(i), 0))
	}
	return append(list, answer(refusal(errno)), answer(unix.SECCOMP_RET_ALLOW))
}

// filterHead is what filters begin with: the system call's number is loaded then. The calls of
// another architecture, of 32-bit programs, have other numbers, and so has x32.
func filterHead() []unix.SockFilter {
	list := []unix.SockFilter{
		load(ofArch), jump(unix.BPF_JEQ, auditArch, 1, 0), answer(unix.SECCOMP_RET_KILL_PROCESS),
		load(ofNumber),
	}
	if runtime.GOARCH == "amd64" {
		const x32 = 0x40000000
		list = append(list, jump(unix.BPF_JGE, x32, 0, 1), answer(refusal(unix.ENOSYS)))
	}
	return list
}

// socketFilter refuses sockets of other families than AF_UNIX, and what goes around that:
// io_uring, which makes sockets without a system call for each; the calls of another
// architecture; and what reaches into another process, which may have a socket.
func socketFilter() []unix.SockFilter {
	list := filterHead()
	add := func(part []unix.SockFilter) { list = append(list, part...) }
	for _, number := range []uint32{unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER} {
		add(refuseCall(number, unix.ENOSYS))
	}
	for _, number := range []uint32{unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD} {
		add(refuseCall(number, unix.EPERM))
	}
	add(allowFirst(unix.SYS_PTRACE, unix.EPERM, harmlessTraces...))
	for _, number := range []uint32{unix.SYS_SOCKET, unix.SYS_SOCKETPAIR} {
		add(allowFirst(number, unix.EAFNOSUPPORT, unix.AF_UNIX))
	}
	return append(list, answer(unix.SECCOMP_RET_ALLOW))
}

// refuseSockets has the thread and its children make no sockets but Unix ones.
func refuseSockets() error {
	if auditArch == 0 {
		return errNoFilter
	}
	return setFilter(socketFilter(), 0)
}

// setFilter has the kernel ask a filter at each system call of the thread and its children; of all
// threads with SECCOMP_FILTER_FLAG_TSYNC.
func setFilter(filter []unix.SockFilter, flags uintptr) error {
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	if thread != 0 {
		return fmt.Errorf("thread %d has another filter", thread)
	}
	return nil
}

// hasSeccomp says what is in the way of a filter, if something is.
func hasSeccomp() error {
	if auditArch == 0 {
		return errNoFilter
	}
	action := uint32(unix.SECCOMP_RET_KILL_PROCESS)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action)))
	if errno != 0 {
		return errno
	}
	return nil
}
