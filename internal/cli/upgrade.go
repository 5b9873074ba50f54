package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/status"
)

func newUpgradeCommand() *cobra.Command {
	var t target
	o := status.Order{Verb: status.VerbUpgrade}
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Replaces the daemon by a new one of the program that is installed now",
		Long: `Has a running daemon start the program that is installed now at the path which
it was started by. The new daemon gets all its sockets, with the connections that
wait in them, reads the configuration and starts its workers. When it is ready it
serves, and the old one ends with its last request: no connection is lost.

Exits 0 then, 78 if the new one finds the file wrong, and 1 if it does not start or
is not ready within --timeout: the message says why. The old one goes on then.`,
		Example: "  install -m 0755 fcgid /usr/local/bin/fcgid && fcgid upgrade",
		Args:    noFile,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := t.send(cmd.Context(), o)
			if err != nil {
				return withOutcome(err, "not upgraded, the old daemon goes on")
			}
			fmt.Fprintln(cmd.OutOrStdout(), reply.Text)
			return nil
		},
	}
	t.addFlags(cmd)
	cmd.Flags().DurationVar(&o.Timeout, "timeout", orderTimeout, "how long the new daemon may take to be ready; 0 is for ever")
	return cmd
}
