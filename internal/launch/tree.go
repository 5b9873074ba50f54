package launch

import (
	"log/slog"

	"github.com/fcgid/fcgid/internal/cgroup"
	"github.com/fcgid/fcgid/internal/spawn"
)

// Cgroups are what programs can have of the hierarchy. They are for one goroutine at a time.
type Cgroups struct {
	Log *slog.Logger

	tree *cgroup.Tree // nil while there is none
	lack string       // why, as it was told last
}

// Open opens what is delegated to this process, or looks again for what that was refused. It
// says what that is, but no reason twice in a row that there is none.
func (c *Cgroups) Open() (*cgroup.Tree, error) {
	if c.tree != nil {
		c.tree.LookAgain()
		return c.tree, nil
	}
	tree, err := cgroup.Open(cgroup.Options{Try: spawn.TryCgroup, Log: c.Log})
	if err != nil {
		if c.lack != err.Error() {
			c.Log.Info("programs have no cgroups: nothing bounds them by sandbox.memory, pids and cpu", "reason", err)
		}
		c.lack = err.Error()
		return nil, err
	}
	c.tree = tree
	c.Log.Info("programs have cgroups", "cgroup", tree.Path(), "controllers", tree.Has())
	return tree, nil
}

// Close removes them, when no program is left.
func (c *Cgroups) Close() {
	if c.tree != nil {
		c.tree.Close()
	}
}

// Kill ends all that is in them.
func (c *Cgroups) Kill() {
	if c.tree != nil {
		c.tree.Kill()
	}
}
