package spawn

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// settle does to a program that was started what no thread can do to itself alone. It is
// called on a thread that is under no sandbox. A program that is traced has not begun; the
// first moments of another one may be without.
func (s *Sandbox) settle(pid int, setsLimits bool) error {
	if s.Nice != 0 {
		if err := s.renice(pid); err != nil {
			return err
		}
	}
	if s.OOMScoreAdj != 0 {
		if err := adjustOOMScore(pid, s.OOMScoreAdj); err != nil {
			return err
		}
	}
	if !setsLimits {
		return nil // there are none, or a limiter sets them
	}
	for _, r := range s.Rlimits {
		if err := r.set(pid); err != nil {
			return fmt.Errorf("sandbox.rlimits: %s=%d: %w", r.Name, r.Value, err)
		}
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

// set limits a process. It may be lowered further than asked for, but not be raised, by
// who must not raise limits.
func (r *Rlimit) set(pid int) error {
	limit := r.limit()
	err := unix.Prlimit(pid, r.Resource, &limit, nil)
	if err != unix.EPERM {
		return err
	}
	var now unix.Rlimit
	if err := unix.Prlimit(pid, r.Resource, nil, &now); err != nil {
		return err
	}
	if limit.Max <= now.Max {
		return unix.EPERM
	}
	limit.Cur, limit.Max = min(limit.Cur, now.Max), now.Max
	return unix.Prlimit(pid, r.Resource, &limit, nil)
}

// limit has room between soft and hard where the soft one is told by a signal: of CPU
// time SIGXCPU says so in the log, where SIGKILL says nothing.
func (r *Rlimit) limit() unix.Rlimit {
	limit := unix.Rlimit{Cur: r.Value, Max: r.Value}
	if r.Resource == unix.RLIMIT_CPU && r.Value < math.MaxInt32 {
		limit.Max++
	}
	return limit
}

// awaitExec waits until a program that is traced has been executed, and has not begun.
func awaitExec(pid int) error {
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(pid, &status, unix.WALL, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return err
		case status.Exited() || status.Signaled():
			return errReaped
		case status.StopSignal() == syscall.SIGTRAP:
			return nil
		default:
			if err := syscall.PtraceCont(pid, int(status.StopSignal())); err != nil {
				return err
			}
		}
	}
}

// errReaped is told of a program that has ended before it began.
var errReaped = errors.New("sandbox.rlimits: killed before its first instruction")
