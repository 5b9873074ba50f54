package spawn

import (
	"cmp"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// noDaemonNeeds are system calls that a daemon of FastCGI has no use for, and through which
// kernels have been taken over, or processes of the same user are.
var noDaemonNeeds = slices.Concat(ofThisArch, []uint32{
	// other processes
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PROCESS_MRELEASE,
	unix.SYS_PIDFD_GETFD, unix.SYS_KCMP,
	// namespaces, file systems and other roots
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_CHROOT, unix.SYS_PIVOT_ROOT, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_MOUNT_SETATTR,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_FANOTIFY_INIT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
	// the kernel and the machine
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT, unix.SYS_SYSLOG, unix.SYS_ACCT,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_VHANGUP, unix.SYS_PERSONALITY,
	// what is large, seldom used and was broken often
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_VMSPLICE, unix.SYS_REMAP_FILE_PAGES, unix.SYS_MBIND, unix.SYS_SET_MEMPOLICY, unix.SYS_MIGRATE_PAGES, unix.SYS_MOVE_PAGES,
})

// newestCall is the last system call that is known here. What a later kernel has beyond it is not
// there for the daemon. All architectures number these alike.
const newestCall = unix.SYS_MSEAL

// RefuseCalls has the kernel refuse to this process for good, to all of its threads and to whatever
// it executes, system calls that a daemon of FastCGI never needs; with isClosed also to start a
// process or to execute anything. It needs no_new_privs. Where there is no such filter it does
// nothing: see Lacks.
//
// All that happens often is let through by its number alone, which the kernel finds out when the
// filter is set and remembers (Linux 5.11): a call takes 30 ns more then, and nothing more where
// there is a filter already, as in a unit.
func RefuseCalls(isClosed bool) error {
	if hasSeccomp() != nil {
		return nil
	}
	if err := setFilter(daemonFilter(isClosed), unix.SECCOMP_FILTER_FLAG_TSYNC); err != nil {
		return fmt.Errorf("refuse system calls: %w", err)
	}
	return nil
}

// A rule is what becomes of a system call.
type rule struct {
	number uint32
	then   []unix.SockFilter // ends with an answer, whatever it jumps over
}

func daemonFilter(isClosed bool) []unix.SockFilter {
	return slices.Concat(filterHead(),
		[]unix.SockFilter{jump(unix.BPF_JGT, newestCall, 0, 1), answer(refusal(unix.ENOSYS))},
		search(daemonRules(isClosed)))
}

// daemonRules are in the order of numbers.
func daemonRules(isClosed bool) (rules []rule) {
	add := func(number uint32, then ...unix.SockFilter) { rules = append(rules, rule{number, then}) }
	for _, number := range noDaemonNeeds {
		add(number, answer(refusal(unix.EPERM)))
	}
	// As a kernel without, so that who asks does without: clone3's flags cannot be looked at.
	for _, number := range []uint32{unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_CLONE3} {
		add(number, answer(refusal(unix.ENOSYS)))
	}
	const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET
	clone := []unix.SockFilter{load(ofArgument), jump(unix.BPF_JSET, namespaces, 0, 1), answer(refusal(unix.EPERM))}
	if isClosed {
		clone = append(clone, jump(unix.BPF_JSET, unix.CLONE_THREAD, 1, 0), answer(refusal(unix.EPERM)))
		for _, number := range append([]uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT}, forks...) {
			add(number, answer(refusal(unix.EPERM)))
		}
	}
	add(unix.SYS_CLONE, append(clone, answer(unix.SECCOMP_RET_ALLOW))...)
	const ofThird = ofArgument + 2*8
	add(unix.SYS_SOCKET,
		load(ofArgument),
		jump(unix.BPF_JEQ, unix.AF_UNIX, 7, 0), jump(unix.BPF_JEQ, unix.AF_INET, 6, 0), jump(unix.BPF_JEQ, unix.AF_INET6, 5, 0),
		jump(unix.BPF_JEQ, unix.AF_NETLINK, 0, 3),
		load(ofThird), jump(unix.BPF_JEQ, unix.NETLINK_ROUTE, 2, 0), jump(unix.BPF_JEQ, unix.NETLINK_SOCK_DIAG, 1, 0),
		answer(refusal(unix.EAFNOSUPPORT)), answer(unix.SECCOMP_RET_ALLOW))
	slices.SortFunc(rules, func(a, b rule) int { return cmp.Compare(a.number, b.number) })
	return rules
}

// search finds the rule of the number that was loaded by halves. Without one it is let through.
func search(rules []rule) []unix.SockFilter {
	switch n := len(rules); n {
	case 0:
		return []unix.SockFilter{answer(unix.SECCOMP_RET_ALLOW)}
	case 1:
		only := rules[0]
		return slices.Concat([]unix.SockFilter{jump(unix.BPF_JEQ, only.number, 0, uint8(len(only.then)))}, only.then, search(nil))
	default:
		below := search(rules[:n/2])
		// A conditional jump goes no further than 255.
		far := unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(len(below))}
		return slices.Concat([]unix.SockFilter{jump(unix.BPF_JGE, rules[n/2].number, 0, 1), far}, below, search(rules[n/2:]))
	}
}

// Lacks are what this kernel, or a container, does not let a daemon be confined by.
func Lacks() (reasons []string) {
	if landlockABI() == 0 {
		reasons = append(reasons, "the kernel has no Landlock: only the modes of files bound what the daemon reads and writes")
	}
	if err := hasSeccomp(); err != nil {
		reasons = append(reasons, fmt.Sprintf("system calls cannot be refused to the daemon: %v", err))
	}
	return reasons
}
