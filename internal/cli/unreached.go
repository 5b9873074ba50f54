package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

	"github.com/fcgid/fcgid/internal/status"
	"github.com/fcgid/fcgid/internal/users"
)

// absent is the error of a daemon that does not run.
type absent struct {
	text  string
	cause error // of the connection to its control socket
}

func (e *absent) Error() string { return e.text }
func (e *absent) Unwrap() error { return e.cause }

// unreached says what an error of the connection to a control socket means here, and what
// to do.
func (t *target) unreached(path string, err error) error {
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && t.control != "":
		return &absent{fmt.Sprintf("no daemon has its control socket at %s: there is no such file", path), err}
	case errors.Is(err, syscall.ECONNREFUSED) && t.control != "":
		return &absent{fmt.Sprintf("the daemon with its control socket at %s does not run any more", path), err}
	case errors.Is(err, fs.ErrNotExist):
		return t.absent("runs; -c FILE asks that of another file", "there is no "+path+": --control PATH, if it is elsewhere"+ofOthers(path), err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return t.absent("runs any more; -c FILE asks that of another file", "nobody listens at "+path, err)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w: only root and the daemon's user may%s", err, refusedBy(path))
	}
	return fmt.Errorf("ask the daemon at %s: %w", path, err)
}

func (t *target) absent(what, why string, cause error) error {
	return &absent{fmt.Sprintf("no daemon of %s %s (%s)", status.Printable(t.file), what, why), cause}
}

// isUnreached reports whether nobody could be asked at all.
func isUnreached(err error) bool {
	return errors.Is(err, errControlOff) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrPermission)
}

// unreachedEither is the error of who could be asked neither through the control socket
// nor through the admin server. That a user may not is what to tell them, or that there is
// nobody at either place.
func unreachedEither(control, adminServer error) error {
	var gone *absent
	switch {
	case errors.Is(control, fs.ErrPermission):
		return fmt.Errorf("%w; nor can the admin server be asked: %v", control, adminServer)
	case errors.As(control, &gone) && errors.Is(adminServer, syscall.ECONNREFUSED):
		return control
	}
	return adminServer
}

// refusedBy says whose the socket is, or the nearest folder on the way to it that lets
// nobody in, and how to ask as that user.
func refusedBy(path string) string {
	what := "the socket"
	for {
		info, err := os.Lstat(path)
		if err == nil {
			if what != "the socket" {
				what = "its folder " + status.Printable(path)
			}
			return whoMay(what, info)
		}
		if path == filepath.Dir(path) || !errors.Is(err, fs.ErrPermission) {
			return ""
		}
		what, path = "a folder", filepath.Dir(path)
	}
}

// whoMay is "" where it is not the owner that matters.
func whoMay(what string, info fs.FileInfo) string {
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() {
		return ""
	}
	who := users.NameOf(owner.Uid)
	as := "as root (sudo)"
	if owner.Uid != 0 {
		as = fmt.Sprintf("as root, or as %s (sudo -u %[1]s)", who)
	}
	return fmt.Sprintf(". You are %s, and %s is of %s with mode %#o: run this %s", users.NameOf(uint32(os.Geteuid())), what, who, info.Mode().Perm(), as)
}
