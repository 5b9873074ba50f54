package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// bindPath listens at a path, in place of a stale socket if one is there.
func (b Local) bindPath(path string, o *Options) (fd int, file *File, err error) {
	owner, err := b.ids(o)
	if err != nil {
		return -1, nil, err
	}
	mode := b.firstMode(path, o.Mode)
	fd, err = bindUnix(path, mode, alone)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := removeStale(path); err != nil {
			return -1, nil, err
		}
		fd, err = bindUnix(path, mode, alone)
	}
	if err != nil {
		return -1, nil, pathError(path, err)
	}
	if file, err = findSocket(path); err == nil {
		err = file.setPermissions(o.Mode, owner)
		if err != nil {
			file.remove() // while the socket is open, no other file has its number
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, nil, err
	}
	return fd, file, nil
}

// firstMode is the mode that a file is made with: the final one where its owner and group are
// final, too, or none for group and others. Whoever connected before they are would be in.
func (b Local) firstMode(path string, mode fs.FileMode) uint32 {
	var folder unix.Stat_t
	if b.Owner != nil && unix.Stat(filepath.Dir(path), &folder) == nil && folder.Mode&unix.S_ISGID == 0 {
		return uint32(mode.Perm())
	}
	return uint32(mode & 0o700)
}

// removeStale removes the socket at path if nobody listens on it.
func removeStale(path string) error {
	found, err := openSocketFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer found.Close() // until then no other file can have its inode number
	if isStale, err := checkStale(path); !isStale {
		return err
	}
	return found.file.remove()
}

// checkStale reports whether nobody listens on the socket at path. That it is gone by now is no
// error.
func checkStale(path string) (isStale bool, err error) {
	switch err := tryConnect(path); {
	case err == nil, errors.Is(err, unix.EAGAIN): // its backlog is full
		return false, fmt.Errorf("%w: another process answers on it", ErrInUse)
	case errors.Is(err, unix.ECONNREFUSED):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, fmt.Errorf("%w: %w", ErrInUse, err)
	}
}

// tryConnect connects, and closes the connection.
func tryConnect(path string) error {
	fd, err := newSocket(unix.AF_UNIX, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return os.NewSyscallError("connect", unix.Connect(fd, &unix.SockaddrUnix{Name: path}))
}

// pathError names the folder if it is what err is about.
func pathError(path string, err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("%w: another process has just bound it", ErrInUse)
	}
	for _, errno := range []unix.Errno{unix.ENOENT, unix.ENOTDIR, unix.EACCES, unix.EROFS} {
		if errors.Is(err, errno) {
			return fmt.Errorf("folder %s: %w", filepath.Dir(path), errno)
		}
	}
	return err
}

// remove unlinks the file, unless its path now leads to another or to none. It is an error if it
// is no socket.
func (f *File) remove() error {
	now, err := findSocket(f.Path)
	if errors.Is(err, fs.ErrNotExist) || now != nil && !now.IsSame(f) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Unlink(f.Path); err != nil { // and never rmdir(2)
		return &os.PathError{Op: "unlink", Path: f.Path, Err: err}
	}
	return nil
}

// setPermissions gives the file owner and group, then exactly mode; in between it
// is no more open than before and after. After an error it is as it was.
func (f *File) setPermissions(mode fs.FileMode, owner Owner) error {
	handle, err := openSocketFile(f.Path)
	if err != nil {
		return err
	}
	defer handle.Close()
	if !handle.file.IsSame(f) {
		return fmt.Errorf("%s is another file than the socket bound there", f.Path)
	}
	before, after := handle.mode, uint32(mode.Perm())
	if handle.isOf(owner) && before == after {
		return nil
	}
	if err := handle.chmod(before & after); err != nil {
		return err
	}
	if err := handle.chown(owner); err != nil {
		return errors.Join(err, handle.chmod(before))
	}
	return handle.chmod(after)
}

// A socketHandle is one file, whatever its path comes to lead to meanwhile.
type socketHandle struct {
	*os.File // opened with O_PATH: has no Read, Write, Chmod
	file     *File
	mode     uint32
	owner    Owner
}

// openSocketFile returns a handle of the socket at path, which is neither followed
// if it is a symbolic link nor connected to. It must be closed.
func openSocketFile(path string) (*socketHandle, error) {
	file, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	var stat unix.Stat_t
	if err = unix.Fstat(int(file.Fd()), &stat); err == nil {
		err = checkSocket(path, &stat)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &socketHandle{File: file, file: newFile(path, &stat), mode: stat.Mode & 0o777, owner: Owner{int(stat.Uid), int(stat.Gid)}}, nil
}

// findSocket is the socket at a path.
func findSocket(path string) (*File, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(path, &stat); err != nil {
		return nil, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return newFile(path, &stat), checkSocket(path, &stat)
}

func checkSocket(path string, stat *unix.Stat_t) error {
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("%s exists and is no socket", path)
	}
	return nil
}

// isOf reports whether chown has nothing to do.
func (h *socketHandle) isOf(o Owner) bool {
	return (o.UID == -1 || o.UID == h.owner.UID) && (o.GID == -1 || o.GID == h.owner.GID)
}

// chmod goes through /proc, since fchmod(2) refuses an O_PATH descriptor and
// fchmodat2(2) needs Linux 6.6.
func (h *socketHandle) chmod(mode uint32) error {
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", h.Fd()), mode); err != nil {
		return fmt.Errorf("chmod %s %04o: %w", h.Name(), mode, err)
	}
	return nil
}

func (h *socketHandle) chown(o Owner) error {
	if h.isOf(o) {
		return nil
	}
	if err := unix.Fchownat(int(h.Fd()), "", o.UID, o.GID, unix.AT_EMPTY_PATH); err != nil {
		return chownError(h.Name(), o, err)
	}
	return nil
}

func chownError(path string, o Owner, err error) error {
	return fmt.Errorf("chown %s %d:%d: %w", path, o.UID, o.GID, err)
}

// LookupOwner resolves names or numbers; "" is -1.
func LookupOwner(owner, group string) (o Owner, err error) {
	o.UID, err = lookupID(owner, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	if err != nil {
		return o, fmt.Errorf("owner %q: %w", owner, err)
	}
	o.GID, err = lookupID(group, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	if err != nil {
		return o, fmt.Errorf("group %q: %w", group, err)
	}
	return o, nil
}

// lookupID takes a number that no name matches as it is, like chown(1).
func lookupID(name string, lookup func(name string) (id string, err error)) (int, error) {
	if name == "" {
		return -1, nil
	}
	id, lookupErr := lookup(name)
	if lookupErr != nil {
		id = name
	}
	n, err := strconv.ParseUint(id, 10, 32)
	if err == nil && n != 1<<32-1 { // which chown(2) takes for "leave it"
		return int(n), nil
	}
	if lookupErr != nil {
		return -1, lookupErr
	}
	return -1, fmt.Errorf("bad id %s", id)
}
