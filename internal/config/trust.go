package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/users"
)

// openTrusted opens a file that nobody but root can change or replace: it and all folders and
// links that lead to it are root's and writable by root alone. A folder further up may have
// the sticky bit instead, as /tmp does, since in one nobody can replace what is root's.
func openTrusted(path string) (*os.File, error) {
	links := maxLinks
	if err := trustPath(path, &links); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, withoutPath(err)
	}
	_ = f.SetReadDeadline(time.Now().Add(5 * time.Second)) // of a FIFO; a file has none
	var stat unix.Stat_t
	if err = unix.Fstat(int(f.Fd()), &stat); err == nil {
		err = trust(path, &stat)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// trustPath looks at all names of a path, and at where links lead.
func trustPath(path string, links *int) error {
	path = filepath.Clean(path)
	if path != "/" {
		if err := trustPath(filepath.Dir(path), links); err != nil {
			return err
		}
	}
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFLNK {
		return trust(path, &stat)
	}
	if stat.Uid != 0 {
		return untrusted(path, "link", &stat)
	}
	if *links--; *links < 0 {
		return fmt.Errorf("open: %w", unix.ELOOP)
	}
	to, err := os.Readlink(path)
	if err != nil {
		return withoutPath(err)
	}
	if !strings.HasPrefix(to, "/") {
		to = filepath.Join(filepath.Dir(path), to)
	}
	return trustPath(to, links)
}

// trust looks at one file or folder.
func trust(path string, stat *unix.Stat_t) error {
	isFolder := stat.Mode&unix.S_IFMT == unix.S_IFDIR
	what := "file"
	if isFolder {
		what = "folder"
	}
	if stat.Uid != 0 || stat.Mode&0o022 != 0 && !(isFolder && stat.Mode&unix.S_ISVTX != 0) {
		return untrusted(path, what, stat)
	}
	return nil
}

func untrusted(path, what string, stat *unix.Stat_t) error {
	return fmt.Errorf("%s %s could be changed by others than root, who relies on it (owner %s, mode %04o): chown root, chmod go-w",
		what, path, users.NameOf(stat.Uid), stat.Mode&0o7777)
}

// TrustFile is why others than root can change a file, or replace it by another one; nil if they
// cannot.
func TrustFile(path string) error {
	links := maxLinks
	return trustPath(path, &links)
}

// TrustFolder is why others than root can change what is in a folder, or replace it; nil if
// they cannot.
func TrustFolder(path string) error {
	links := maxLinks
	if err := trustPath(path, &links); err != nil {
		return err
	}
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return fmt.Errorf("folder %s: %w", path, err)
	}
	if stat.Mode&0o022 != 0 { // sticky: others can put files there
		return untrusted(path, "folder", &stat)
	}
	return nil
}
