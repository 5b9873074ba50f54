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

// warnOfSandboxes tells what the machine lacks for the sandboxes of pools. What a daemon would
// refuse to start with is not told here.
func warnOfSandboxes(w io.Writer, cfg *config.Config) {
	for i := range cfg.Pools {
		p := &cfg.Pools[i]
		_, lacks, _ := launch.FitSandbox(new(spawn.Local), p, spawn.Umask())
		for _, l := range lacks {
			fmt.Fprintf(w, "warning: pool %s: %s\n", p.Name, l)
		}
	}
}

func hasSandbox(cfg *config.Config) bool {
	for i := range cfg.Pools {
		if cfg.Pools[i].Sandbox.IsConfined() {
			return true
		}
	}
	return false
}
