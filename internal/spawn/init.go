package spawn

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// AsInit is main for the first process of a container. Programs whose parents
// have gone become its children, and somebody has to wait for them; the daemon
// waits for its own only. So the daemon runs in a child of this process, which
// passes signals on and reaps everything. It returns the exit status.
func AsInit() (int, error) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	daemon, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		// Ctrl-C goes to a whole process group: the daemon is to get it once, from us.
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("start the daemon: %w", err)
	}
	for s := range signals {
		switch s {
		case unix.SIGCHLD:
			if status, exited := reapAll(daemon.Pid); exited {
				return status, nil
			}
		case unix.SIGURG: // the runtime's own
		default:
			if err := daemon.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return 0, fmt.Errorf("pass on %v: %w", s, err)
			}
		}
	}
	return 0, nil
}

// reapAll waits for all children that have exited. It tells whether the main
// one is among them, and its exit status as a shell has it.
func reapAll(main int) (status int, exited bool) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return status, exited
		}
		if pid == main {
			status, exited = ws.ExitStatus(), true
			if ws.Signaled() {
				status = 128 + int(ws.Signal())
			}
		}
	}
}
