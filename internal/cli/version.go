package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/version"
)

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Prints version, commit and Go version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintf(cmd.OutOrStdout(), "fcgid %s (commit %s, %s)\n", version.Version, version.Commit(), runtime.Version())
			return nil
		},
	}
}
