package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/admin"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
)

// control is the daemon's control socket. Its place is the one that was found at the
// start, for good: an order must not cut off the connection that it came by.
type control struct {
	daemon *daemon
	path   string // "" is none
	chosen bool   // somebody has named the place
	server *admin.Control
	isOpen bool
}

func newControl(d *daemon, cfg *config.Config, by listen.Binder) *control {
	c := &control{daemon: d, path: cfg.Admin.ControlPath(d.opt.File), chosen: !cfg.Admin.IsControlAuto()}
	if c.isPrivate() {
		by = nil // no other process has to do with that folder
	}
	c.server = admin.NewControl(admin.ControlOptions{Daemon: d, Log: d.logs.Logger, Binder: by})
	return c
}

// isPrivate reports whether the socket is in this user's private folder.
func (c *control) isPrivate() bool {
	return !c.chosen && filepath.Dir(c.path) == config.PrivateFolder()
}

// open begins to take orders. If nobody has named a place, and the one by default cannot
// be had, the daemon runs without a control socket. That another daemon listens there is
// always an error.
func (c *control) open(ctx context.Context) error {
	if c.path == "" {
		return nil
	}
	err := c.listen(ctx)
	switch {
	case err == nil:
		c.isOpen = true
		c.daemon.logs.Info("listening", "control", c.path)
		return nil
	case c.chosen || errors.Is(err, listen.ErrInUse):
		return fmt.Errorf("control socket (admin.control): %w", err)
	}
	c.daemon.logs.Warn("no control socket, so fcgid reload and the like do not work: see admin.control", "error", err)
	return nil
}

// listen opens the socket. In the private folder, that is made first. The daemon whose
// socket is the last one there removes it, maybe just now: then it is made again.
func (c *control) listen(ctx context.Context) (err error) {
	isPrivate := c.isPrivate()
	for range 10 {
		if isPrivate {
			if err := makePrivate(filepath.Dir(c.path)); err != nil {
				return err
			}
		}
		err = c.server.Listen(ctx, c.path)
		if !isPrivate || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return err
}

// makePrivate makes a folder in which nobody else can put a socket. One that somebody
// else has made is none.
func makePrivate(folder string) error {
	if err := os.Mkdir(folder, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	var stat unix.Stat_t
	err := unix.Lstat(folder, &stat)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // gone again: to listen fails for that
	case err != nil:
		return fmt.Errorf("folder %s: %w", folder, err)
	case stat.Mode&unix.S_IFMT != unix.S_IFDIR, stat.Uid != uint32(os.Geteuid()), stat.Mode&0o022 != 0:
		return fmt.Errorf("folder %s is not one of this user's alone", folder)
	}
	return nil
}

// restore opens the socket again if somebody has removed its file.
func (c *control) restore(ctx context.Context) {
	if !c.isOpen || !c.server.IsLost() {
		return
	}
	if err := c.listen(ctx); err != nil {
		c.daemon.logs.Error("the file of the control socket is gone", "control", c.path, "error", err)
		return
	}
	c.daemon.logs.Warn("the file of the control socket was gone, so there is another one", "control", c.path)
}

// close takes no more orders; those that are being carried out get their replies. It
// may be called again.
func (c *control) close() {
	c.server.Close()
	if c.isOpen && c.isPrivate() {
		os.Remove(filepath.Dir(c.path)) // unless another daemon has its socket there
	}
}
