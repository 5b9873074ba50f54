package spawn

import (
	"fmt"
	"os"
	"os/exec"
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
