package spawn

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// confine does to the calling thread what its children are to inherit. The thread is of
// no use for anything else afterwards, also if that fails.
func (s *Sandbox) confine() error {
	if s == nil {
		return nil
	}
	nameThread("sandbox " + s.Name)
	// The umask, the root and the working directory are the thread's own from here on.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("sandbox: unshare the umask: %w", err)
	}
	if s.Umask != nil {
		unix.Umask(int(*s.Umask))
	}
	if s.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("sandbox.no_new_privs: %w", err)
		}
	}
	return nil
}

// nameThread gives the thread a name that ps -L shows.
func nameThread(name string) {
	var comm [16]byte // with the NUL at its end
	copy(comm[:15], name)
	unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&comm[0])), 0, 0, 0)
}

// settle does to a program that was started what no thread can do to itself alone.
func (s *Sandbox) settle(pid int) error {
	if s.Nice != 0 {
		if err := s.renice(pid); err != nil {
			return err
		}
	}
	if s.OOMScoreAdj != 0 {
		return adjustOOMScore(pid, s.OOMScoreAdj)
	}
	return nil
}

// renice is done from outside: a thread that is nice itself would hold up all other
// starts, when the machine is busy, while it has the lock that forking takes.
func (s *Sandbox) renice(pid int) error {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 - nice, as the system call has it
	if err != nil {
		return fmt.Errorf("sandbox.nice: %w", err)
	}
	err = unix.Setpriority(unix.PRIO_PROCESS, pid, 20-raw+s.Nice)
	if err != nil && err != unix.ESRCH {
		return fmt.Errorf("sandbox.nice: %d: %w", s.Nice, err)
	}
	return nil
}

func adjustOOMScore(pid, adj int) error {
	err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(adj)), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("sandbox.oom_score_adj: %d: %w", adj, err)
	}
	return nil
}
