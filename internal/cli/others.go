package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/users"
)

// A place is where a control socket is.
type place struct {
	path string
	// owner is who has to be at the other end, if that is known: of a socket in the private
	// folder of another user, that one.
	owner []uint32
}

// othersAt are the sockets in the private folders of other users that have the name of the one
// at path, and the users whose folders cannot be looked into. A folder or a socket that is not
// the user's alone is none: somebody else may have put it there.
func othersAt(path string) (found []place, hidden []string) {
	folders, _ := filepath.Glob(filepath.Join(os.TempDir(), "fcgid-*"))
	for _, folder := range folders {
		uid, err := strconv.ParseUint(strings.TrimPrefix(filepath.Base(folder), "fcgid-"), 10, 32)
		if err != nil || int(uid) == os.Geteuid() || !isOf(folder, fs.ModeDir, uint32(uid)) {
			continue
		}
		socket := filepath.Join(folder, filepath.Base(path))
		switch _, err := os.Lstat(socket); {
		case err == nil && isOf(socket, fs.ModeSocket, uint32(uid)):
			found = append(found, place{socket, []uint32{uint32(uid)}})
		case errors.Is(err, fs.ErrPermission):
			hidden = append(hidden, users.NameOf(uint32(uid)))
		}
	}
	return found, hidden
}

// isOf reports whether a file is of that type, and that user's alone to change.
func isOf(path string, is fs.FileMode, uid uint32) bool {
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Type() != is || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return ok && owner.Uid == uid
}

// isPrivate reports whether a path is in a folder that a daemon makes for its user.
func isPrivate(path string) bool {
	folder := filepath.Dir(path)
	return filepath.Dir(folder) == filepath.Clean(os.TempDir()) && strings.HasPrefix(filepath.Base(folder), "fcgid-")
}

// insteadOf is the place of the daemon of the target's file when that is another user's than
// the file says, as while it has a fault or its user has been changed: root, who has started
// the daemon, looks for it. A good file that names no user is of root's daemon.
//
// Any user can make such a folder, and so answer root in place of a daemon that does not run.
// That is all that they can: root only asks, sends nothing that is secret, and takes from the
// answer text that is cleaned before it is shown; the kernel says that it is the folder's owner
// who answers, and the command says whom it has asked. So it is done only where nobody else
// can be meant: root's own place is empty, and one user has that socket.
func (t *target) insteadOf(path string) (place, bool) {
	if os.Geteuid() != 0 || !isPrivate(path) {
		return place{}, false
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return place{}, false
	}
	if cfg, err := config.Load(t.file, nil); err == nil && cfg.User == "" {
		return place{}, false
	}
	found, _ := othersAt(path)
	if len(found) != 1 {
		return place{}, false
	}
	return found[0], true
}

// ofOthers tells where daemons of other users, started by hand, have their sockets when
// there is none where it was looked for.
func ofOthers(path string) string {
	if !isPrivate(path) {
		return ""
	}
	found, hidden := othersAt(path)
	var text strings.Builder
	for _, p := range found {
		fmt.Fprintf(&text, "; a daemon of %s has it at %s", users.NameOf(p.owner[0]), p.path)
	}
	if len(found) == 0 && len(hidden) > 0 {
		text.WriteString("; or it is another user's: there are daemons of " + strings.Join(hidden, ", ") + " here, who can ask, as root can")
	}
	return text.String()
}
