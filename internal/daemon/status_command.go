package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

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
	ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
	defer cancel()
	page, err := fetchStatus(ctx, address)
	if err != nil {
		return fmt.Errorf("ask the daemon at %s: %w", address, err)
	}
	if pool != "" {
		if page.Pools, err = page.named(pool); err != nil {
			return err
		}
	}
	out := cmd.OutOrStdout()
	if o.json {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(page)
	}
	return page.print(out, pool != "")
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

func fetchStatus(ctx context.Context, address string) (*statusPage, error) {
	network, target, err := parseDialAddress(address)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, target)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://fcgid/status", nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers %s", res.Status)
	}
	page := new(statusPage)
	if err := json.NewDecoder(res.Body).Decode(page); err != nil {
		return nil, fmt.Errorf("read its status: %w", err)
	}
	return page, nil
}

// named are the pools of a name: two, while one drains and another has taken over.
func (p *statusPage) named(name string) ([]poolStatus, error) {
	var names []string
	for _, pool := range p.Pools {
		names = append(names, pool.Name)
	}
	found := slices.DeleteFunc(slices.Clone(p.Pools), func(s poolStatus) bool { return s.Name != name })
	if len(found) == 0 {
		return nil, fmt.Errorf("no pool %q; there is %s", name, strings.Join(names, ", "))
	}
	return found, nil
}
