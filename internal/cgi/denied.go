package cgi

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/users"
)

// Denied says, after "permission denied", to whom: as whose rights to files this thread has, which
// need not be the process's. It names the first folder on the way to an absolute path that lets
// that user not through, or else what is at the path, as far as that can be found out.
func Denied(name string) string {
	uid, _ := unix.SetfsuidRetUid(-1)
	to := " to user " + users.NameOf(uint32(uid))
	what, denies := "file", path.Clean(name)
	for i := 1; i < len(denies); i++ {
		if denies[i] == '/' && unix.Faccessat(unix.AT_FDCWD, denies[:i], unix.X_OK, unix.AT_EACCESS) != nil {
			what, denies = "folder", denies[:i]
		}
	}
	var st unix.Stat_t
	if unix.Stat(denies, &st) != nil {
		return to
	}
	if what == "file" && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		what = "folder"
	}
	return fmt.Sprintf("%s: the %s %s has mode %04o, owner %s and group %s", to, what, denies, st.Mode&0o7777, users.NameOf(st.Uid), users.GroupName(st.Gid))
}
