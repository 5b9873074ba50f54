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
			_, err := fmt.Fprintln(cmd.OutOrStdout(), versionLine())
			return err
		},
	}
}

// versionLine is what fcgid version and fcgid --version print.
func versionLine() string {
	return fmt.Sprintf("fcgid %s (commit %s, %s)", version.Version, version.Commit(), runtime.Version())
}
