package cli

import (
	"context"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/admin"
	"github.com/fcgid/fcgid/internal/status"
)

func newRequestsCommand() *cobra.Command {
	var t target
	var filter status.RequestFilter
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "requests [POOL]",
		Short: "Shows the open requests of a running daemon",
		Long: `Shows the open requests of all pools, or of POOL, the oldest first: the number by
which fcgid kill knows it, what it waits for or does, its age, its program.`,
		Example: "  fcgid requests --older 30s --stage running\n  fcgid requests php --uri /export --json",
		Args:    counted(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				filter.Pool = args[0]
			}
			page, err := t.status(cmd.Context())
			if err != nil {
				return err
			}
			found, err := page.Open(filter)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, found)
			}
			return status.PrintRequests(cmd.OutOrStdout(), found)
		},
	}
	cmd.ValidArgsFunction = t.completePools
	t.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&filter.Stage, "stage", "", "only those in this `stage`: params, body, queued, running or ending")
	f.DurationVar(&filter.Older, "older", 0, "only those of this age and more")
	f.StringVar(&filter.URI, "uri", "", "only those whose URI has this `text` in it")
	f.StringVar(&filter.Script, "script", "", "only those whose script has this `text` in its name")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func printJSON(cmd *cobra.Command, value any) error {
	encoder := json.NewEncoder(cmd.OutOrStdout())
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// status asks the daemon what it does.
func (t *target) status(ctx context.Context) (*status.Page, error) {
	at, err := t.place()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	page, err := admin.FetchStatus(ctx, "unix", at.path, at.owner...)
	if err != nil {
		return nil, t.unreached(at.path, err)
	}
	return page, nil
}
