package listen

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindPath listens on path, in place of a stale socket if one is there. Until
// setPermissions the file has mode's bits for the owner alone.
func bindPath(ctx context.Context, path string, mode fs.FileMode) (socketListener, *socketFile, error) {
	ln, err := listenPath(ctx, path, mode)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := removeStale(ctx, path); err != nil {
			return nil, nil, err
		}
		ln, err = listenPath(ctx, path, mode)
	}
	if err != nil {
		return nil, nil, pathError(path, err)
	}
	info, err := os.Lstat(path)
	if err == nil {
		err = checkSocket(path, info)
	}
	if err != nil {
		_ = ln.Close()
		return nil, nil, err
	}
	return ln, &socketFile{path: path, info: info}, nil
}

// listenPath binds with no permission for group and others: the owner may still
// change, and whoever connected before that would be in. fchmod(2) on the socket
// settles it before there is a file; bind(2) takes its mode, less the umask.
func listenPath(ctx context.Context, path string, mode fs.FileMode) (*net.UnixListener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return control(raw, func(fd int) error { return unix.Fchmod(fd, uint32(mode&0o700)) })
	}}
	ln, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	unixListener := ln.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false) // it would remove whatever has the name by then
	return unixListener, nil
}

// removeStale removes the socket at path if nobody listens on it.
func removeStale(ctx context.Context, path string) error {
	found, err := openSocketFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer found.Close() // until then no other file can have its inode number
	if name, ok := passedAt(path); ok {
		return fmt.Errorf("%w: systemd has passed this socket, listen on systemd:%s", ErrInUse, name)
	}
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		fallthrough
	case errors.Is(err, unix.EAGAIN): // its backlog is full
		return fmt.Errorf("%w: another process answers on it", ErrInUse)
	case errors.Is(err, unix.ECONNREFUSED):
		return (&socketFile{path: path, info: found.info}).remove()
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fmt.Errorf("%w: %w", ErrInUse, cause(err))
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
	return cause(err)
}

// A socketFile is the file of a Unix socket, known by device and inode number.
type socketFile struct {
	path string
	info fs.FileInfo
}

// stat is what the kernel tells of the file, nil of none.
func (f *socketFile) stat() *syscall.Stat_t {
	if f == nil {
		return nil
	}
	stat, _ := f.info.Sys().(*syscall.Stat_t)
	return stat
}

// remove unlinks the file, unless its path now leads to another or to none.
func (f *socketFile) remove() error {
	now, err := os.Lstat(f.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, f.info) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(f.path)
}

// setPermissions gives the file owner and group, then exactly mode; in between it
// is no more open than before and after. After an error it is as it was.
func (f *socketFile) setPermissions(mode fs.FileMode, owner, group string) error {
	uid, gid, err := lookupIDs(owner, group)
	if err != nil {
		return err
	}
	handle, err := openSocketFile(f.path)
	if err != nil {
		return err
	}
	defer handle.Close()
	if !os.SameFile(handle.info, f.info) {
		return fmt.Errorf("%s is another file than the socket bound there", f.path)
	}
	before, after := handle.info.Mode().Perm(), mode.Perm()
	if err := handle.chmod(before & after); err != nil {
		return err
	}
	if err := handle.chown(uid, gid); err != nil {
		return errors.Join(err, handle.chmod(before))
	}
	return handle.chmod(after)
}

// A socketHandle is one file, whatever its path comes to lead to meanwhile.
type socketHandle struct {
	*os.File // opened with O_PATH: has no Read, Write, Chmod
	info     fs.FileInfo
}

// openSocketFile returns a handle of the socket at path, which is neither followed
// if it is a symbolic link nor connected to. It must be closed.
func openSocketFile(path string) (*socketHandle, error) {
	file, err := os.OpenFile(path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil {
		err = checkSocket(path, info)
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &socketHandle{File: file, info: info}, nil
}

func checkSocket(path string, info fs.FileInfo) error {
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is no socket", path)
	}
	return nil
}

// chmod goes through /proc, since fchmod(2) refuses an O_PATH descriptor and
// fchmodat2(2) needs Linux 6.6.
func (h *socketHandle) chmod(mode fs.FileMode) error {
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", h.Fd()), uint32(mode)); err != nil {
		return fmt.Errorf("chmod %s %04o: %w", h.Name(), mode, err)
	}
	return nil
}

// chown leaves what is -1.
func (h *socketHandle) chown(uid, gid int) error {
	if uid == -1 && gid == -1 {
		return nil
	}
	if err := unix.Fchownat(int(h.Fd()), "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("chown %s %d:%d: %w", h.Name(), uid, gid, err)
	}
	return nil
}

// lookupIDs resolves names or numbers; "" is -1.
func lookupIDs(owner, group string) (uid, gid int, err error) {
	uid, err = lookupID(owner, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	if err != nil {
		return -1, -1, fmt.Errorf("owner %q: %w", owner, err)
	}
	gid, err = lookupID(group, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	if err != nil {
		return -1, -1, fmt.Errorf("group %q: %w", group, err)
	}
	return uid, gid, nil
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
