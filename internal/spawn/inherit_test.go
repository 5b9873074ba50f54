package spawn

import (
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refuse lets the kernel answer a system call of this process with errno, as old
// kernels and container runtimes do.
func refuse(call uint32, errno unix.Errno) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the call's number
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, failed := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if failed != 0 {
		return failed
	}
	return nil
}

// No descriptor that the daemon was started with reaches a program, whatever the
// kernel makes of close_range(2): 5.8 has none, 5.9 and 5.10 (Debian 11) do not know
// its flag, and profiles that are older than it answer EPERM.
func TestCleanInheritance(t *testing.T) {
	const answer = "FCGID_TEST_CLOSE_RANGE"
	if number, inside := os.LookupEnv(answer); inside {
		errno, _ := strconv.Atoi(number)
		cleanInheritanceWhere(t, unix.Errno(errno))
		return
	}
	for _, errno := range []unix.Errno{0, unix.EINVAL, unix.EPERM, unix.ENOSYS} {
		t.Run(fmt.Sprintf("close_range %v", errno), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCleanInheritance$")
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", answer, errno))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func cleanInheritanceWhere(t *testing.T, errno unix.Errno) {
	if errno != 0 {
		if err := refuse(unix.SYS_CLOSE_RANGE, errno); err != nil {
			t.Fatal("seccomp:", err)
		}
		if err := unix.CloseRange(1000, 1000, unix.CLOSE_RANGE_CLOEXEC); err != errno {
			t.Fatalf("close_range: %v, want %v", err, errno)
		}
	}
	inherited := []int{}
	for _, at := range []int{3, 100, 900} {
		fd, err := unix.FcntlInt(0, unix.F_DUPFD, at)
		if err != nil {
			t.Fatal(err)
		}
		inherited = append(inherited, fd)
	}
	if err := CleanInheritance(); err != nil {
		t.Fatal(err)
	}
	for _, fd := range inherited {
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags != unix.FD_CLOEXEC || err != nil {
			t.Errorf("descriptor %d has flags %#x, %v", fd, flags, err)
		}
	}
	if flags, err := unix.FcntlInt(0, unix.F_GETFD, 0); flags != 0 || err != nil {
		t.Errorf("descriptor 0 has flags %#x, %v", flags, err)
	}
}

// Signals that mean nothing to the daemon wake no thread of it, and need not be reset in each
// child; programs have the default of every signal all the same.
func TestSignalsLeftToKernel(t *testing.T) {
	const inside = "FCGID_TEST_SIGNALS"
	if os.Getenv(inside) != "" {
		OwnThreads()
		if err := CleanInheritance(); err != nil {
			t.Fatal(err)
		}
		if caught := signalsOf(t, "/proc/self/status", "SigCgt"); caught>>(unix.SIGCHLD-1)&1 != 0 || bits.OnesCount64(caught) > 26 {
			t.Errorf("caught are %#x", caught)
		}
		status, err := exec.CommandContext(t.Context(), "/bin/cat", "/proc/self/status").Output() // whose exit is heard of
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "status")
		if err := os.WriteFile(file, status, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"SigIgn", "SigCgt", "SigBlk"} {
			if got := signalsOf(t, file, kind); got != 0 {
				t.Errorf("a program has %s %#x", kind, got)
			}
		}
		told := make(chan os.Signal, 1)
		signal.Notify(told, unix.SIGWINCH) // who wants to know of one is told
		unix.Kill(os.Getpid(), unix.SIGWINCH)
		<-told
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSignalsLeftToKernel$")
	cmd.Env = append(os.Environ(), inside+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// signalsOf is a mask of a file that is like /proc/PID/status.
func signalsOf(t *testing.T, file, name string) uint64 {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + name + `:\s*([0-9a-f]+)$`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no %s", file, name)
	}
	mask, err := strconv.ParseUint(string(m[1]), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return mask
}
