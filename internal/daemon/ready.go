package daemon

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Ready is why nothing should be sent to the daemon, or to that pool of it, or not so many
// requests as room says; "" if there is no reason.
func (d *daemon) Ready(pool string, room int) (reason string, err error) {
	switch {
	case d.IsStopping():
		return "stopping", nil
	case !d.isConfigured(): // and the admin server serves already
		return "starting", nil
	case pool == "":
		return "", nil
	}
	return d.pools.Ready(pool, room)
}

// isConfigured reports whether a configuration is in force, and status and metrics say so.
func (d *daemon) isConfigured() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.lastReload.Time.IsZero()
}

// readyFile is the descriptor on which a supervisor (s6, dinit) waits to hear that the
// daemon serves; 0 is none. One that was not passed to the process is an error: what has
// its number may be a descriptor of our own.
func readyFile(fd int) (*os.File, error) {
	if err := CheckNotifyFD(fd); fd == 0 || err != nil {
		return nil, err
	}
	unix.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "notify-fd"), nil
}

// CheckNotifyFD is why a descriptor cannot be Options.NotifyFD, nil if it can.
func CheckNotifyFD(fd int) error {
	if fd == 0 {
		return nil
	}
	if err := checkReady(fd); err != nil {
		return fmt.Errorf("--notify-fd %d: %w", fd, err)
	}
	return nil
}

func checkReady(fd int) error {
	if fd < 3 {
		return errors.New("it must be 3 or more")
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return errors.New("it is not open")
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	switch kind := stat.Mode & unix.S_IFMT; {
	case kind == 0: // an epoll instance or the like
		return errors.New("it is not open")
	case flags&unix.O_ACCMODE == unix.O_RDONLY:
		return errors.New("it cannot be written to")
	}
	return nil
}

// tellReady writes the line that is waited for, and closes the descriptor. f may be nil.
func tellReady(f *os.File) error {
	if f == nil {
		return nil
	}
	_, err := f.Write([]byte("\n"))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("say on --notify-fd that the daemon serves: %w", err)
	}
	return nil
}
