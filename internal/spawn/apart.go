package spawn

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Self is this program, started anew as a child of this process.
type Self struct {
	PID int

	exited chan struct{}
	status unix.WaitStatus // when exited is closed

	mu       sync.Mutex // guards the field below, and is held while it is signalled or, when it has exited, waited for
	isReaped bool
}

// StartSelf starts this program with this process's arguments and with those descriptors, which
// are its own from 0 on, in a process group of its own. Of the environment it has all but what is
// meant for this process alone, and env.
func (l *Local) StartSelf(env []string, files []uintptr) (*Self, error) {
	attr := &syscall.ProcAttr{Files: files, Sys: &syscall.SysProcAttr{Setpgid: true}}
	attr.Env = append(ownEnv(func(string) bool { return true }), env...)
	return l.startSelf(attr, func() error { return nil })
}

// StartApart is StartSelf as another user, with no capability and no way to get one or to become
// somebody else, with no other files than a Reach has, and in a process group of its own; the
// terminal of who has started this process is not its. Of the environment it has, beside env,
// what fcgid itself looks at: the rest may be secrets that pools pass to their programs. It is to
// RefuseCalls.
func (l *Local) StartApart(id *Identity, reach *Reach, env []string, files []uintptr) (*Self, error) {
	attr := &syscall.ProcAttr{Files: files, Sys: &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: id.UID, Gid: id.GID, Groups: id.Groups},
	}}
	// Only where there is one: the kernel schedules a session by itself (sched(7), autogroup), by
	// which a busy machine wakes the daemon for less at a time.
	attr.Sys.Setsid = hasTerminal()
	attr.Sys.Setpgid = !attr.Sys.Setsid
	attr.Env = append(ownEnv(isOfDaemon), env...)
	return l.startSelf(attr, func() error { return giveUp(reach) })
}

// hasTerminal reports whether this process has a terminal into which those of its session can type
// (TIOCSTI).
func hasTerminal() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err == nil
}

// giveUp takes from the thread, and so from what it executes, what a daemon has no use for.
func giveUp(reach *Reach) error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	none := Sandbox{NoNewPrivs: true, LimitCapabilities: true}
	if err := none.limitCapabilities(false); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if err := reach.restrict(); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	return nil
}

func (l *Local) startSelf(attr *syscall.ProcAttr, prepare func() error) (*Self, error) {
	s := &Self{exited: make(chan struct{})}
	started := make(chan error)
	go onThread(func() { // what a thread has given up it cannot get back
		err := prepare()
		if err == nil {
			s.PID, err = syscall.ForkExec("/proc/self/exe", os.Args, attr)
		}
		if err == nil {
			l.spare(s.PID)
		}
		started <- err
	})
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start this program anew: %w", err)
	}
	go l.await(s)
	return s, nil
}

// ownEnv are this process's variables of those names, but for what is meant for it alone.
func ownEnv(isWanted func(name string) bool) []string {
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(ofOneProcess, name) || !isWanted(name)
	})
}

// ofDaemon are variables that fcgid, the libraries in it and the Go runtime look at: systemd's,
// what the programs of slow.command have, where its own files are, and how it is to run.
var ofDaemon = []string{
	"NOTIFY_SOCKET", "WATCHDOG_USEC", "FDSTORE", "JOURNAL_STREAM", "INVOCATION_ID",
	"RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
	"PATH", "TZ", "LANG", "TMPDIR",
	"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "GORACE", "GOCOVERDIR",
}

func isOfDaemon(name string) bool {
	return strings.HasPrefix(name, "FCGID_") || strings.HasPrefix(name, "LC_") || slices.Contains(ofDaemon, name)
}

// spare notes a pid that is no program's.
func (l *Local) spare(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spared == nil {
		l.spared = make(map[int]bool)
	}
	l.spared[pid] = true
}

// unspare is for one that was waited for.
func (l *Local) unspare(pid int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spared, pid)
}

// await reaps it.
func (l *Local) await(s *Self) {
	for unix.Waitid(unix.P_PID, s.PID, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	s.reap()
	l.unspare(s.PID)
	close(s.exited)
}

// reap gives up its pid, which may be another process's then.
func (s *Self) reap() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if _, err := unix.Wait4(s.PID, &s.status, 0, nil); err != unix.EINTR {
			break
		}
	}
	s.isReaped = true
}

// Exited is closed when it has exited and was waited for.
func (s *Self) Exited() <-chan struct{} { return s.exited }

// Status is how it has ended, when Exited is closed.
func (s *Self) Status() unix.WaitStatus { return s.status }

// Signal sends it a signal, unless it has exited.
func (s *Self) Signal(sig unix.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isReaped {
		unix.Kill(s.PID, sig)
	}
}
