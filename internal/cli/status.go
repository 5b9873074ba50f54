package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/admin"
	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/status"
)

type statusOptions struct {
	target

	admin string
	json  bool
}

func newStatusCommand() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [POOL]",
		Short: "Shows what a running daemon does",
		Long: `Shows the pools of a running daemon; of one POOL also its workers and its open
requests. Root and the daemon's user ask through the control socket, also while
the configuration file is wrong. For others, and with --admin, it asks the admin
server, whose address it takes from the configuration file.`,
		Example: "  fcgid status\n  fcgid status php\n  fcgid status --admin unix:/run/fcgid/admin.sock --json",
		Args:    counted(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pool := ""
			if len(args) > 0 {
				pool = args[0]
			}
			return o.run(cmd, pool)
		},
	}
	cmd.ValidArgsFunction = o.completePools
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON, as /status has it")
	return cmd
}

// addFlags are those of commands that can also ask the admin server.
func (o *statusOptions) addFlags(cmd *cobra.Command) {
	o.target.addFlags(cmd)
	cmd.Flags().StringVar(&o.admin, "admin", "", "`address` of the admin server: tcp:host:port or unix:/path")
}

func (o *statusOptions) run(cmd *cobra.Command, pool string) error {
	page, err := o.page(cmd.Context())
	if err != nil {
		return err
	}
	if pool != "" {
		if page.Pools, err = page.Named(pool); err != nil {
			return err
		}
	}
	out := cmd.OutOrStdout()
	if o.json {
		return printJSON(cmd, page)
	}
	return page.Print(out, pool != "")
}

// page asks through the control socket, and the admin server where that cannot be done.
func (o *statusOptions) page(ctx context.Context) (*status.Page, error) {
	if o.admin != "" {
		return o.ask(ctx, o.admin)
	}
	page, unreached := o.status(ctx)
	if unreached == nil || o.control != "" || !isUnreached(unreached) {
		return page, unreached
	}
	address, err := o.address()
	if err == nil {
		page, err = o.ask(ctx, address)
	}
	if err == nil { // two that leave admin.listen alone have one address
		err = o.reads(strings.TrimPrefix(address, "tcp:"), page.File)
	}
	if err != nil {
		return nil, unreachedEither(unreached, err)
	}
	return page, nil
}

// ask asks an admin server.
func (*statusOptions) ask(ctx context.Context, address string) (*status.Page, error) {
	network, target, err := parseDialAddress(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	page, err := admin.FetchStatus(ctx, network, target)
	if err != nil {
		return nil, fmt.Errorf("ask the daemon at %s: %w", address, err)
	}
	return page, nil
}

// address is that of the admin server.
func (o *statusOptions) address() (string, error) {
	cfg, err := config.Load(o.file, nil)
	if faults, ok := errors.AsType[config.Faults](err); ok {
		return "", append(faults, config.Fault{Text: "without a configuration that can be read, say --control PATH or --admin ADDRESS"})
	}
	if err != nil {
		return "", err
	}
	if cfg.Admin.Listen == "" {
		return "", fmt.Errorf("%s turns the admin server off (admin.listen is empty)", o.file)
	}
	return cfg.Admin.Listen, nil
}
