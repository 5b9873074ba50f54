package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
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
				err = printJSON(cmd, found)
			} else {
				err = status.PrintRequests(cmd.OutOrStdout(), found)
			}
			if unseen := unseenOf(page, filter.Pool); len(unseen) > 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "fcgid: not those of %s: workers with connections: direct take them past the daemon\n", strings.Join(unseen, ", "))
			}
			return err
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

// unseenOf are the pools, or the one of that name, whose requests the daemon does not see.
func unseenOf(page *status.Page, name string) (unseen []string) {
	for i := range page.Pools {
		if p := &page.Pools[i]; p.IsDirect() && (name == "" || name == p.Name) {
			unseen = append(unseen, status.Printable(p.Name))
		}
	}
	return unseen
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
