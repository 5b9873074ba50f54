package pool

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
)

// Unreached tells, for people, which folders and programs of pools that have a user are
// closed to that user: root, who looks at a configuration, may go everywhere.
func Unreached(cfg *config.Config) (texts []string) {
	for i := range cfg.Pools {
		p := &cfg.Pools[i]
		if p.RunsAs == nil {
			continue
		}
		launch.Identity(p).Look(func() error {
			for _, path := range reached(p) {
				if err := unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS); err == unix.EACCES {
					texts = append(texts, fmt.Sprintf("pool %s: its user %s cannot go to %s: %v", p.Name, p.RunsAs.Name, path, err))
				}
			}
			return nil
		})
	}
	return texts
}

// reached are the paths that a pool's programs must have.
func reached(p *config.Pool) (paths []string) {
	inside := func(path string) {
		if path != "" {
			paths = append(paths, filepath.Join("/", p.Sandbox.Chroot, path))
		}
	}
	if w := p.Worker; w != nil {
		inside(w.Command[0])
		inside(w.Dir)
		return append(paths, w.Root...)
	}
	if c := p.Process; c != nil {
		for _, in := range c.Interpreters {
			inside(in.Path)
		}
		inside(c.Dir)
		return append(paths, c.Root...)
	}
	return nil
}
