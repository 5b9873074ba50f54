package cgi

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

var (
	errNotRegular = errors.New("not a regular file")
	// errMagic is ELOOP, as openat2(2) has it.
	errMagic = fmt.Errorf("its name leads through a link of /proc: %w", unix.ELOOP)
)

// realFile is realPath of a regular file.
func realFile(name string) (string, error) {
	real, mode, err := realPath(name)
	if err == nil && mode&unix.S_IFMT != unix.S_IFREG {
		err = errNotRegular
	}
	return real, err
}

// realPath is the name without symbolic links of what is at the absolute name,
// and its mode. The links of /proc that lead to other processes' files, such as
// /proc/PID/root, are not followed: what is behind them need not be what the
// name without links says, since that process may have mounted something there.
func realPath(name string) (real string, mode uint32, err error) {
	fd, err := openPath(name, unix.RESOLVE_NO_SYMLINKS)
	plain := err == nil && path.Clean(name) == name // the usual case
	if errors.Is(err, unix.ELOOP) {
		fd, err = openPath(name, unix.RESOLVE_NO_MAGICLINKS)
	}
	if isWithoutOpenat2(err) {
		fd, real, err = walk(name)
	}
	if err != nil {
		return "", 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "", 0, err
	}
	switch {
	case real != "":
		return real, st.Mode, nil
	case plain:
		return name, st.Mode, nil
	}
	real, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	return real, st.Mode, err
}

// openat2 is replaced by tests: not every kernel, or sandbox, has it.
var openat2 = unix.Openat2

func openPath(name string, resolve uint64) (int, error) {
	return openat2(unix.AT_FDCWD, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve})
}

// isWithoutOpenat2 reports whether err means that: Linux 5.5 and older, and
// sandboxes that do not know the call.
func isWithoutOpenat2(err error) bool { return err == unix.ENOSYS || err == unix.EPERM }

// maxLinks is how many symbolic links the kernel follows (path_resolution(7)).
const maxLinks = 40

// A walker resolves a name part by part, as the kernel does.
type walker struct {
	fd    int    // what has been reached
	real  string // its name, "" for the root
	rest  string // of the name
	links int
}

// walk is what openat2 does without magic links, and the name that was found.
func walk(name string) (fd int, real string, err error) {
	w := walker{fd: -1, rest: name}
	if err := w.restart(); err != nil {
		return -1, "", err
	}
	for w.rest != "" {
		var part string
		part, w.rest, _ = strings.Cut(w.rest, "/")
		if part == "" || part == "." {
			continue
		}
		if err := w.step(part); err != nil {
			unix.Close(w.fd)
			return -1, "", err
		}
	}
	if w.real == "" {
		w.real = "/"
	}
	return w.fd, w.real, nil
}

func (w *walker) restart() error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w.to(fd, "")
	return nil
}

func (w *walker) to(fd int, real string) {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
	w.fd, w.real = fd, real
}

func (w *walker) step(part string) error {
	fd, err := unix.Openat(w.fd, part, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		w.to(fd, strings.TrimSuffix(path.Join(w.real, "/", part), "/"))
		return err
	}
	defer unix.Close(fd)
	return w.follow(fd)
}

func (w *walker) follow(link int) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(link, &fs); err != nil {
		return err
	}
	if fs.Type == unix.PROC_SUPER_MAGIC {
		return errMagic
	}
	if w.links++; w.links > maxLinks {
		return unix.ELOOP
	}
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link, "", target)
	if err != nil {
		return err
	}
	w.rest = string(target[:n]) + "/" + w.rest
	if strings.HasPrefix(w.rest, "/") {
		return w.restart()
	}
	return nil
}
