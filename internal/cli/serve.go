package cli

import (
	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/daemon"
	"github.com/fcgid/fcgid/internal/pool"
)

func newServeCommand(functions pool.Functions) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Runs the daemon, in the foreground",
		Long: `Runs the daemon, in the foreground, with the pools of a configuration file.

Signals: HUP reads the file again; USR1 opens log files anew; USR2 starts the
program anew in place of this one, see fcgid upgrade; TERM, INT and QUIT stop
gracefully, a second one at once. Every global key of the file can be set by
a flag or by an environment variable such as FCGID_LOG_LEVEL.`,
		Example: "  fcgid serve -c /etc/fcgid/fcgid.yaml\n  FCGID_LOG_LEVEL=debug fcgid serve -c fcgid.yaml",
		Args:    noFile,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "-" {
				return usageErrorf("-c -: a reload could not read the standard input again; fcgid check can read it")
			}
			return daemon.Run(daemon.Options{
				File: file, Functions: functions,
				Load: func() (*config.Config, error) {
					return config.LoadAndCheck(file, cmd.Flags(), functions.Names())
				},
			})
		},
	}
	addConfigFlags(cmd.Flags(), &file)
	return cmd
}
