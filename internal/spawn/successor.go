package spawn

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// successorVariable tells a process that it is to take the place of its parent: the
// parent's pid, and how many descriptors from 3 on are meant for it.
const successorVariable = "FCGID_UPGRADE"

// ofOneProcess are variables that systemd means for the process alone which it has
// started (sd_listen_fds(3), sd_watchdog_enabled(3)).
var ofOneProcess = []string{successorVariable, initVariable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID", "SYSTEMD_EXEC_PID"}

// A Successor is a process that is to take the place of this one. It is a child, but
// outlives this process, and is nothing that a request has started.
type Successor struct {
	PID    int
	exited chan struct{}
}

// StartSuccessor starts the program at a path with this process's arguments, and with
// those descriptors, which are its own from 3 on.
func (l *Local) StartSuccessor(path string, files []int) (*Successor, error) {
	all := []uintptr{0, 1, 2}
	for _, fd := range files {
		all = append(all, uintptr(fd))
	}
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(ofOneProcess, name)
	})
	env = append(env, fmt.Sprintf("%s=%d %d", successorVariable, os.Getpid(), len(files)))
	if initFD() >= 0 {
		env = append(env, fmt.Sprintf("%s=%d", initVariable, len(all)))
		all = append(all, uintptr(initFD()))
	}
	// It stays in this process's group: who has a terminal interrupts both.
	pid, err := syscall.ForkExec(path, slices.Clone(os.Args), &syscall.ProcAttr{Env: env, Files: all})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spared == nil {
		l.spared = make(map[int]bool)
	}
	l.spared[pid] = true
	s := &Successor{PID: pid, exited: make(chan struct{})}
	go func() {
		defer close(s.exited)
		for {
			err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
			if err != unix.EINTR {
				return
			}
		}
	}()
	return s, nil
}

// Exited is closed when the process has exited. It is not waited for then: should this
// process end, somebody else is told of the exit.
func (s *Successor) Exited() <-chan struct{} { return s.exited }

// Signal sends it a signal.
func (s *Successor) Signal(sig unix.Signal) error {
	if err := unix.Kill(s.PID, sig); err != nil {
		return fmt.Errorf("signal process %d: %w", s.PID, err)
	}
	return nil
}

// Discard waits until the process has exited, and tells how: "exit status 1". It is for
// one that is not to take anybody's place any more.
func (l *Local) Discard(s *Successor) string {
	<-s.exited
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(s.PID, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		l.mu.Lock()
		delete(l.spared, s.PID)
		l.mu.Unlock()
		switch {
		case err != nil:
			return err.Error()
		case status.Signaled():
			return "signal: " + status.Signal().String()
		}
		return fmt.Sprintf("exit status %d", status.ExitStatus())
	}
}

// Predecessor returns the descriptors that were handed to this process by the one whose
// place it is to take. It is false of a process that takes nobody's.
func Predecessor() (fds []int, ok bool) {
	fds = successorFDs()
	os.Unsetenv(successorVariable)
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, len(fds) > 0
}

func successorFDs() (fds []int) {
	parent, count, _ := strings.Cut(os.Getenv(successorVariable), " ")
	n, err := strconv.Atoi(count)
	if err != nil || parent != strconv.Itoa(os.Getppid()) {
		return nil // nobody's who started this process
	}
	for fd := range n {
		fds = append(fds, fd+3)
	}
	return fds
}
