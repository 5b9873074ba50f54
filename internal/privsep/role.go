package privsep

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/spawn"
)

// roleVariable tells a process that a spawner has started what it is to be: a word, and the
// numbers of descriptors.
const roleVariable = "FCGID_ROLE"

// The roles.
const (
	roleReader = "reader" // its socket, and 1 if it is the first one
	// roleSuccessor is another spawner, which takes the place of one that has left a legacy for it:
	// a descriptor.
	roleSuccessor = "successor"

	roleDaemon = "daemon" // its socket; the bundle is the next one, and then that of --notify-fd, if the last number is 1
)

var role struct {
	name    string
	numbers [2]int
}

// A process that was executed by /proc/self/exe is called exe. Its name is that of its first thread,
// which runs this.
func init() {
	if os.Getenv(roleVariable) == "" {
		return
	}
	name, err := unix.BytePtrFromString(filepath.Base(os.Args[0]))
	if err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(name)), 0, 0, 0)
	}
}

// Begin finds out what this process is to be. It is called first in main.
func Begin() error {
	text := os.Getenv(roleVariable)
	if text == "" {
		return nil
	}
	os.Unsetenv(roleVariable)
	if _, err := fmt.Sscan(text, &role.name, &role.numbers[0], &role.numbers[1]); err != nil {
		return fmt.Errorf("%s %q: %w", roleVariable, text, err)
	}
	if role.name != roleDaemon {
		return nil
	}
	// Nobody of the same user may look into it, or take its descriptors.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the daemon not dumpable: %w", err)
	}
	if _, ok := os.LookupEnv("LISTEN_FDS"); ok {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	return nil
}

// IsReader reports whether this process is to read the configuration for a spawner.
func IsReader() bool { return role.name == roleReader }

// IsDaemon reports whether this process is a spawner's daemon.
func IsDaemon() bool { return role.name == roleDaemon }

// stored are the files of the sockets of ours among them that systemd has kept.
func stored(passed []uintptr) (files []listen.File) {
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i, fd := range passed {
		if i >= len(names) {
			break
		}
		if file, ok := listen.StoredFile(names[i], int(fd)); ok {
			files = append(files, file)
		}
	}
	return files
}

func closeAll(fds []uintptr) {
	for _, fd := range fds {
		unix.Close(int(fd))
	}
}

// OwnFolder is the daemon's own in the unit's folder for sockets.
func OwnFolder(runtime string) string { return filepath.Join(runtime, "daemon") }

// IsSuccessor reports whether this process is a spawner that another one has started, to take its
// place.
func IsSuccessor() bool { return role.name == roleSuccessor }

// passedToSpawner are the descriptors that this process has got for its daemon, from systemd or from
// the spawner before it, and the variables by which that is to know them: they are the first ones.
func passedToSpawner() (fds []uintptr, env []string) {
	if files, variable := spawn.PassOn(upgradeFDs); len(files) > 0 {
		for _, fd := range files {
			fds = append(fds, uintptr(fd))
		}
		return fds, []string{variable}
	}
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	for fd := range n {
		fds = append(fds, uintptr(fd+3))
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_FDS=") || strings.HasPrefix(v, "LISTEN_FDNAMES=") {
			env = append(env, v)
		}
	}
	return fds, env
}
