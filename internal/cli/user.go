package cli

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/fcgid/fcgid/internal/users"
)

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
