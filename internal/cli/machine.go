package cli

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/launch"
	"github.com/fcgid/fcgid/internal/spawn"
)

// printMachine is a table of what of a sandbox this machine and account can do.
func printMachine(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "sandbox\tthis machine, as this user")
	for _, m := range spawn.LookAtMachine().Table() {
		fmt.Fprintf(table, "%s\t%s\n", m.Key, m.Can)
	}
	return table.Flush()
}

// checkSandboxes warns of what the machine lacks for the sandboxes of pools. The error is
// what the daemon would refuse to start with.
func checkSandboxes(w io.Writer, cfg *config.Config) error {
	for i := range cfg.Pools {
		p := &cfg.Pools[i]
		_, lacks, err := launch.FitSandbox(new(spawn.Local), p, spawn.Umask())
		if err != nil {
			return config.Faults{cfg.FaultAt(fmt.Sprintf("pools[%d].sandbox", i), err.Error())}
		}
		for _, l := range lacks {
			fmt.Fprintf(w, "warning: pool %s: %s\n", p.Name, l)
		}
	}
	return nil
}

func hasSandbox(cfg *config.Config) bool {
	for i := range cfg.Pools {
		if cfg.Pools[i].Sandbox.IsConfined() {
			return true
		}
	}
	return false
}
