package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/admin"
	"github.com/fcgid/fcgid/internal/config"
)

type statusOptions struct {
	file, admin string
	json        bool
}

func newStatusCommand() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status [POOL]",
		Short: "Shows what a running daemon does",
		Long: `Shows the pools of a running daemon; of one POOL also its workers and its open
requests. It asks the daemon's admin server, whose address it takes from the
configuration file unless --admin gives it.`,
		Example: "  fcgid status\n  fcgid status php\n  fcgid status --admin unix:/run/fcgid/admin.sock --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pool := ""
			if len(args) > 0 {
				pool = args[0]
			}
			return o.run(cmd, pool)
		},
	}
	cmd.Flags().StringVarP(&o.file, "config", "c", defaultConfig, "configuration `file` that names the admin server")
	cmd.Flags().StringVar(&o.admin, "admin", "", "`address` of the admin server: tcp:host:port or unix:/path")
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON, as /status has it")
	return cmd
}

func (o *statusOptions) run(cmd *cobra.Command, pool string) error {
	address, err := o.address()
	if err != nil {
		return err
	}
	network, target, err := parseDialAddress(address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
	defer cancel()
	page, err := admin.FetchStatus(ctx, network, target)
	if err != nil {
		return fmt.Errorf("ask the daemon at %s: %w", address, err)
	}
	if pool != "" {
		if page.Pools, err = page.Named(pool); err != nil {
			return err
		}
	}
	out := cmd.OutOrStdout()
	if o.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(page)
	}
	return page.Print(out, pool != "")
}

// address is that of the admin server.
func (o *statusOptions) address() (string, error) {
	if o.admin != "" {
		return o.admin, nil
	}
	cfg, err := config.Load(o.file, nil)
	if faults, ok := errors.AsType[config.Faults](err); ok {
		return "", append(faults, config.Fault{Text: "without a configuration that can be read, say --admin ADDRESS"})
	}
	if err != nil {
		return "", err
	}
	if cfg.Admin.Listen == "" {
		return "", fmt.Errorf("%s turns the admin server off (admin.listen is empty)", o.file)
	}
	return cfg.Admin.Listen, nil
}
