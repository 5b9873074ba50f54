package spawn

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// successorVariable tells a process that it is to take the place of another one: its
// parent's pid, and how many descriptors from 3 on are meant for it.
const successorVariable = "FCGID_UPGRADE"

// ofOneProcess are variables that systemd means for the process alone which it has
// started (sd_listen_fds(3), sd_watchdog_enabled(3)).
var ofOneProcess = []string{successorVariable, initVariable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID", "SYSTEMD_EXEC_PID"}

// endTime is how long a Successor that is not wanted has to end by itself.
const endTime = 5 * time.Second

// A Successor is a process that is to take the place of this one. It outlives this
// process, and is nothing that a request has started.
type Successor struct {
	PID int

	owner     *Local
	isSibling bool
	exited    chan struct{}

	mu        sync.Mutex // guards the fields below, and is held while it is signalled
	pidfd     int        // -1: there is none
	hasExited bool
}

// StartSuccessor starts the program at a path with this process's arguments, with
// those descriptors, which are its own from 3 on, and with more environment.
//
// It is a child of this process. Where systemd waits for this one (NOTIFY_SOCKET), it is a
// child of systemd's, which for a main process that is somebody else's child waits in
// no stop, but kills it.
func (l *Local) StartSuccessor(path string, files []int, more ...string) (*Successor, error) {
	s := &Successor{owner: l, isSibling: os.Getenv("NOTIFY_SOCKET") != "", exited: make(chan struct{}), pidfd: -1}
	parent := os.Getpid()
	sys := &syscall.SysProcAttr{PidFD: &s.pidfd}
	if s.isSibling {
		sys.Cloneflags, parent = unix.CLONE_PARENT, os.Getppid()
	}
	all := []uintptr{0, 1, 2}
	for _, fd := range files {
		all = append(all, uintptr(fd))
	}
	env := append(ownEnv(func(string) bool { return true }), more...)
	env = append(env, variableOf(parent, len(files)))
	if initFD() >= 0 {
		env = append(env, fmt.Sprintf("%s=%d", initVariable, len(all)))
		all = append(all, uintptr(initFD()))
	}
	// It stays in this process's group: who has a terminal interrupts both.
	var err error
	s.PID, err = syscall.ForkExec(path, slices.Clone(os.Args), &syscall.ProcAttr{Env: env, Files: all, Sys: sys})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	l.spare(s.PID)
	go s.watch(s.pidfd)
	return s, nil
}

// watch notes when the process has exited.
func (s *Successor) watch(pidfd int) {
	defer s.end()
	for err := error(unix.EINTR); err == unix.EINTR; {
		if pidfd >= 0 {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
		} else {
			err = unix.Waitid(unix.P_PID, s.PID, nil, unix.WEXITED|unix.WNOWAIT, nil)
		}
	}
}

// end notes that it has exited.
func (s *Successor) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hasExited = true
	if s.pidfd >= 0 {
		unix.Close(s.pidfd)
	}
	close(s.exited)
}

// Exited is closed when the process has exited. It is not waited for then, so that whoever
// waits for this process can be told of the exit when this one has ended.
func (s *Successor) Exited() <-chan struct{} { return s.exited }

// Signal sends it a signal. When it has exited the error is an [os.ErrProcessDone]: its pid may
// be another process's, as who has waited for it need not be this process.
func (s *Successor) Signal(sig unix.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	switch {
	case s.hasExited:
		err = os.ErrProcessDone
	case s.pidfd >= 0:
		err = unix.PidfdSendSignal(s.pidfd, sig, nil, 0)
	default:
		err = unix.Kill(s.PID, sig)
	}
	if err != nil {
		return fmt.Errorf("signal process %d: %w", s.PID, err)
	}
	return nil
}

// Discard ends the process, in order if there is time and else at once, with all that it has
// started, and tells how it has exited: "exit status 1". It is for one that is not to take
// anybody's place any more.
func (s *Successor) Discard(atOnce bool) (how string) {
	if !atOnce {
		s.Signal(unix.SIGTERM)
		select {
		case <-s.exited:
		case <-time.After(endTime):
		}
	}
	s.kill()
	<-s.exited
	defer s.owner.unspare(s.PID)
	if s.isSibling {
		return "see the journal"
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(s.PID, &status, 0, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err.Error()
		case status.Signaled():
			return "signal: " + status.Signal().String()
		}
		return fmt.Sprintf("exit status %d", status.ExitStatus())
	}
}

// kill kills the process and what descends from it: it may be a spawner, whose daemon would end
// in order. It does nothing when that has exited.
func (s *Successor) kill() {
	if s.Signal(unix.SIGSTOP) != nil { // it starts nothing meanwhile, and keeps its pid
		return
	}
	l := &look{found: make(map[int]task)}
	l.descend(s.PID)
	for _, t := range l.sorted() {
		t.signal(unix.SIGKILL)
	}
	s.Signal(unix.SIGKILL)
}

// Commit has the first process of the container, if there is one that waits for this process,
// wait for the Successor instead.
func (s *Successor) Commit() error { return TellInit(s.PID) }

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

// IsSuccessor reports whether this process was started to take another one's place, until
// Predecessor is called.
func IsSuccessor() bool { return len(successorFDs()) > 0 }

// PassOn is Predecessor for a child of this process, which is to take that place with the first n
// of the descriptors. They are to be the child's own from 3 on, with that variable.
func PassOn(n int) (fds []int, variable string) {
	fds, ok := Predecessor()
	if !ok || len(fds) < n {
		return nil, ""
	}
	return fds[:n], variableOf(os.Getpid(), n)
}

func variableOf(parent, files int) string {
	return fmt.Sprintf("%s=%d %d", successorVariable, parent, files)
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
