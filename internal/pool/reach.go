package pool

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/cgi"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
)

// Unreached tells, for people, which folders and programs of pools that have a user are
// closed to that user, and what comes of it: root, who looks at a configuration, may go everywhere.
func Unreached(cfg *config.Config) (texts []string) {
	for i := range cfg.Pools {
		p := &cfg.Pools[i]
		if p.RunsAs == nil {
			continue
		}
		launch.Identity(p).Look(func() error {
			for _, r := range reached(p) {
				if err := unix.Faccessat(unix.AT_FDCWD, r.path, unix.X_OK, unix.AT_EACCESS); err == unix.EACCES {
					texts = append(texts, fmt.Sprintf("pool %s: its user %s cannot %s %s: %v%s; %s", p.Name, p.RunsAs.Name, r.verb, r.path, err, cgi.Denied(r.path), r.outcome))
				}
			}
			return nil
		})
	}
	return texts
}

// A need is a path that a pool's programs must have, and what becomes of requests without it.
type need struct{ verb, path, outcome string }

const (
	goTo = "go to"
	run  = "run"

	scriptsRefused = "its scripts are answered with 403"
	noWorker       = "no worker can be started, and requests get 503 after limits.queue_timeout"
	noDirectWorker = "no worker can be started, and nobody accepts connections until web servers give up"
)

func reached(p *config.Pool) (needs []need) {
	inside := func(verb, path, outcome string) {
		if path != "" {
			needs = append(needs, need{verb, filepath.Join("/", p.Sandbox.Chroot, path), outcome})
		}
	}
	roots := func(paths []string) {
		for _, path := range paths {
			needs = append(needs, need{goTo, path, scriptsRefused})
		}
	}
	if w := p.Worker; w != nil {
		outcome := noWorker
		if p.IsDirect() {
			outcome = noDirectWorker
		}
		inside(run, w.Command[0], outcome)
		inside(goTo, w.Dir, outcome)
		roots(w.Root)
	}
	if c := p.Process; c != nil {
		for _, in := range c.Interpreters {
			inside(run, in.Path, scriptsRefused)
		}
		inside(goTo, c.Dir, scriptsRefused)
		roots(c.Root)
	}
	return needs
}
