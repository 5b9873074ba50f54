package cli

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/users"
)

// lookAs takes on the rights of --user. Who the file says the daemon is does not start it: root
// does, and each part of it is looked at with the eyes of who has to do with it.
func (o *checkOptions) lookAs(cmd *cobra.Command) error {
	if o.user == "" {
		return nil
	}
	if as, err := users.Find(o.user); err == nil && o.file != "-" && os.Geteuid() == 0 && as.UID != 0 {
		cfg, err := config.Load(o.file, cmd.Flags())
		if err == nil && cfg.User != "" {
			if daemon, err := users.Find(cfg.User); err == nil && daemon.UID == as.UID {
				fmt.Fprintf(cmd.ErrOrStderr(), "note: %s says that root starts the daemon and it becomes %s (user): checked so, logs as %[2]s, sockets as root makes them, programs as the users of their pools\n", o.file, as.Name)
				return nil
			}
		}
	}
	return become(o.user)
}

// become gives this process the rights of a user, by name or number, and of the groups
// that the user is in.
func become(name string) error {
	u, err := users.Find(name)
	if err != nil {
		return fmt.Errorf("--user: %w", err)
	}
	if int(u.UID) == os.Geteuid() {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("--user %s: only root can look with the eyes of another user", name)
	}
	all, err := u.Groups()
	if err != nil {
		return fmt.Errorf("--user: %w", err)
	}
	groups := make([]int, 0, len(all))
	for _, gid := range all {
		groups = append(groups, int(gid))
	}
	if err := errors.Join(syscall.Setgroups(groups), syscall.Setgid(int(u.GID)), syscall.Setuid(int(u.UID))); err != nil {
		return fmt.Errorf("--user %s: %w", name, err)
	}
	return nil
}
