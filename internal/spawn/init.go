package spawn

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// initVariable tells a daemon that the first process of the container waits for it, and
// the descriptor by which it can be told of another one.
const initVariable = "FCGID_INIT"

// AsInit is main for the first process of a container. Programs whose parents
// have gone become its children, and somebody has to wait for them; the daemon
// waits for its own only. So the daemon runs in a child of this process, which
// passes signals on and reaps everything. When another daemon has taken that one's
// place, that is the daemon. It returns the exit status.
func AsInit() (int, error) {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	told, tell, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("start the daemon: %w", err)
	}
	defer told.Close()
	first, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, tell},
		Env:   append(os.Environ(), initVariable+"=3"),
		// Ctrl-C goes to a whole process group: the daemon is to get it once, from us.
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	tell.Close()
	if err != nil {
		return 0, fmt.Errorf("start the daemon: %w", err)
	}
	daemon := first.Pid
	for s := range signals {
		daemon = latest(told, daemon)
		switch s {
		case unix.SIGCHLD:
			if status, exited := reapAll(daemon); exited {
				return status, nil
			}
		case unix.SIGURG: // the runtime's own
		default:
			if err := unix.Kill(daemon, s.(unix.Signal)); err != nil && err != unix.ESRCH {
				return 0, fmt.Errorf("pass on %v: %w", s, err)
			}
		}
	}
	return 0, nil
}

// latest is the daemon that was told of last, or the one that is known. It does not wait.
func latest(told *os.File, known int) int {
	raw, err := told.SyscallConn()
	if err != nil {
		return known
	}
	var pid [4]byte
	for {
		n := 0
		raw.Read(func(fd uintptr) bool {
			n, _ = unix.Read(int(fd), pid[:])
			return true
		})
		if n < len(pid) {
			return known
		}
		known = int(binary.NativeEndian.Uint32(pid[:]))
	}
}

// initFD is the descriptor of initVariable, or -1. It is looked up once: the variable is not
// for programs.
var initFD = sync.OnceValue(func() int {
	fd, err := strconv.Atoi(os.Getenv(initVariable))
	if err != nil || fd < 3 {
		return -1
	}
	return fd
})

// TellInit has the first process of the container wait for another daemon, which is to take
// the place of this one. Where there is none that waits for this one it does nothing.
func TellInit(pid int) error {
	if initFD() < 0 {
		return nil
	}
	message := binary.NativeEndian.AppendUint32(nil, uint32(pid))
	if _, err := unix.Write(initFD(), message); err != nil {
		return fmt.Errorf("tell the first process of %d: %w", pid, err)
	}
	return nil
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
