package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/status"
)

func newReloadCommand() *cobra.Command {
	var t target
	o := status.Order{Verb: status.VerbReload}
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Has the daemon read its file again, and says what came of it",
		Long: `Has a running daemon read its configuration file again, waits until that is in
force and all workers are of it, and prints what has changed in each pool.

Exits 0 then, 78 if the file is wrong, and 1 if it is refused for another reason
or the workers have not been replaced within --timeout: the message says which.
What is refused changes nothing, and the daemon serves on.`,
		Example: "  fcgid reload\n  fcgid reload -c /etc/fcgid/shop.yaml --timeout 5m",
		Args:    noFile,
		RunE: func(cmd *cobra.Command, _ []string) error {
			reply, err := t.send(cmd.Context(), o)
			if err != nil {
				return withOutcome(err, "refused, the old configuration stays")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "reloaded %s\n", status.Printable(reply.Changes.File))
			if err := reply.Changes.Print(cmd.OutOrStdout()); err != nil {
				return err
			}
			return left(reply)
		},
	}
	t.addFlags(cmd)
	cmd.Flags().DurationVar(&o.Timeout, "timeout", orderTimeout, "how long to wait for workers to be replaced; 0 is for ever")
	return cmd
}

// diff is what a reload would change in the daemon that reads the file. The error may be why it
// would be refused.
func (t *target) diff(ctx context.Context) (*status.Changes, error) {
	reply, at, err := t.exchange(ctx, status.Order{Verb: status.VerbDiff})
	if err == nil && reply.Changes != nil {
		err = t.reads(at, reply.Changes.File)
	}
	if err == nil {
		err = refusedReload(reply)
	}
	if err != nil {
		return nil, err
	}
	return reply.Changes, nil
}

// refusedReload is why a reload would be refused, by the reply to VerbDiff.
func refusedReload(reply *status.Reply) error {
	const outcome = "a reload would be refused"
	switch {
	case len(reply.Faults) > 0:
		return exitError{exitConfig, strings.Join(reply.Faults, "\n") + "\n" + outcome}
	case reply.Error != "":
		return errors.New(outcome + ": " + reply.Error)
	}
	return nil
}
