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
// are its own from 0 on. Of the environment it has all but what is meant for this process
// alone, and env.
//
// With an identity it is that user, with no capability and no way to get one or to become
// somebody else, and in a process group of its own. Of the environment it has, beside env, what
// fcgid itself looks at: the rest may be secrets that pools pass to their programs.
func (l *Local) StartSelf(id *Identity, env []string, files []uintptr) (*Self, error) {
	s := &Self{exited: make(chan struct{})}
	attr := &syscall.ProcAttr{Files: files, Sys: &syscall.SysProcAttr{}}
	attr.Env = append(ownEnv(func(name string) bool { return id == nil || isOfDaemon(name) }), env...)
	if id != nil {
		attr.Sys.Setpgid = true
		attr.Sys.Credential = &syscall.Credential{Uid: id.UID, Gid: id.GID, Groups: id.Groups}
	}
	started := make(chan error)
	go onThread(func() { // what a thread has given up it cannot get back
		started <- l.startSelf(s, id, attr)
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

func (l *Local) startSelf(s *Self, id *Identity, attr *syscall.ProcAttr) (err error) {
	if id != nil {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("no_new_privs: %w", err)
		}
		none := Sandbox{NoNewPrivs: true, LimitCapabilities: true}
		if err := none.limitCapabilities(false); err != nil {
			return fmt.Errorf("capabilities: %w", err)
		}
	}
	s.PID, err = syscall.ForkExec("/proc/self/exe", os.Args, attr)
	if err != nil {
		return err
	}
	l.spare(s.PID)
	return nil
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
