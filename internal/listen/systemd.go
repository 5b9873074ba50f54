package listen

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// passedSockets are the files that systemd passed to this process, by name; they
// stay open as long as it lives, so that a Listener closed at one reload can be
// opened again at the next. The environment is left as it is: LISTEN_PID tells
// that it is not meant for a child.
var passedSockets = sync.OnceValue(func() map[string][]*os.File {
	if handed := inheritedPassed(); handed != nil {
		return handed // LISTEN_PID, if it is still there, is of the process before
	}
	byName := map[string][]*os.File{}
	for _, f := range activation.Files(false) {
		byName[f.Name()] = append(byName[f.Name()], f)
	}
	recoverStored(splitStored(byName))
	return byName
})

// passedListener returns a listener with a descriptor of its own on the socket
// that systemd passed as name.
func passedListener(name string) (socketListener, error) {
	passed := passedSockets()
	if len(passed) == 0 {
		return nil, errors.New("systemd passed no sockets to this process")
	}
	files := passed[name]
	switch len(files) {
	case 0:
		names := slices.Sorted(maps.Keys(passed))
		return nil, fmt.Errorf("systemd passed no socket of this name, only: %s", strings.Join(names, ", "))
	case 1:
		return fileListener(files[0])
	}
	return nil, fmt.Errorf("systemd passed %d sockets of this name: give each a socket unit with its own FileDescriptorName=", len(files))
}

// passedAt tells which of the passed sockets is the one at path.
func passedAt(path string) (name string, ok bool) {
	for name, files := range passedSockets() {
		for _, f := range files {
			var address unix.Sockaddr
			err := withFD(f, func(fd int) (err error) {
				address, err = unix.Getsockname(fd)
				return err
			})
			if local, isUnix := address.(*unix.SockaddrUnix); err == nil && isUnix && local.Name == path {
				return name, true
			}
		}
	}
	return "", false
}

func fileListener(f *os.File) (socketListener, error) {
	var listening int
	err := withFD(f, func(fd int) (err error) {
		listening, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("passed file: %w", err)
	}
	if listening == 0 {
		return nil, errors.New("passed socket does not listen: it needs ListenStream= and Accept=no")
	}
	ln, err := listenerAt(f)
	if err != nil {
		return nil, fmt.Errorf("passed socket: %w", cause(err))
	}
	return ln, nil
}
