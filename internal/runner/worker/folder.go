package worker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const folderPrefix = "fcgid-workers-"

// longestName is no shorter than the name of any socket in a folder.
const longestName = "4294967295"

// A folder is where the sockets of a Pool's workers are; nobody else can enter it. As
// long as there is who has made it, it is locked.
type folder struct {
	path string
	lock *os.File // the folder itself
}

// makeFolder makes one in a folder, where sockets can be made.
func makeFolder(in string) (*folder, error) {
	for {
		f, err := tryFolder(in)
		if err == nil && f == nil {
			continue // RemoveDead was faster than the lock
		}
		if err == nil {
			if err = f.try(); err != nil {
				f.remove()
			}
		}
		if err != nil {
			return nil, fmt.Errorf("make a folder for workers' sockets: %w", err)
		}
		return f, nil
	}
}

// TryFolder is why no Pool could have a folder in one, "" is os.TempDir: one is made, and removed.
func TryFolder(in string) error {
	f, err := makeFolder(in)
	if err == nil {
		err = f.remove()
	}
	return err
}

// tryFolder returns nil if somebody has taken the folder away before it was locked.
func tryFolder(in string) (*folder, error) {
	path, err := os.MkdirTemp(in, folderPrefix)
	if err != nil {
		return nil, err
	}
	lock, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	// Where folders cannot be locked, none is taken for dead either.
	taken := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == unix.EWOULDBLOCK
	mine, err := lock.Stat()
	now, nowErr := os.Lstat(path)
	if taken || err != nil || nowErr != nil || !os.SameFile(mine, now) {
		lock.Close()
		return nil, nil
	}
	return &folder{path, lock}, nil
}

// try finds out whether sockets can be made there: a path may be too long for one.
func (f *folder) try() error {
	path := filepath.Join(f.path, longestName)
	fd, err := listenUnix(path)
	if err != nil {
		return err
	}
	return errors.Join(os.Remove(path), unix.Close(fd))
}

// remove removes the folder, which has to be empty, if it is still there.
func (f *folder) remove() error {
	err := os.Remove(f.path)
	f.lock.Close()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveDead removes the folders that Pools of processes which were killed have left
// in a folder, "" is os.TempDir, and returns their names. It touches none of another
// user, none that a living process has made, and nothing in them but sockets.
func RemoveDead(in string) (removed []string, err error) {
	if in == "" {
		in = os.TempDir()
	}
	entries, err := os.ReadDir(in)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for folders of workers' sockets: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), folderPrefix) {
			continue
		}
		path := filepath.Join(in, e.Name())
		switch isDead, removeErr := removeIfDead(path); {
		case removeErr != nil:
			err = errors.Join(err, fmt.Errorf("remove the folder %s of a process that is gone: %w", path, removeErr))
		case isDead:
			removed = append(removed, path)
		}
	}
	return removed, err
}

func removeIfDead(path string) (isDead bool, err error) {
	f, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return false, nil // it has gone, or is another user's
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
		return false, nil
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return false, nil
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Type() != fs.ModeSocket {
			return false, nil // it is somebody's who has given it a name like ours
		}
	}
	for _, e := range entries {
		if err := unix.Unlinkat(int(f.Fd()), e.Name(), 0); err != nil {
			return false, fmt.Errorf("remove %s: %w", e.Name(), err)
		}
	}
	return true, os.Remove(path)
}
