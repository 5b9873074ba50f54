package cli

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/status"
	"github.com/fcgid/fcgid/internal/top"
)

func newTopCommand() *cobra.Command {
	var o statusOptions
	var once bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "top [POOL]",
		Short: "Shows a running daemon full screen, live",
		Long: `Shows the pools of a running daemon on the whole terminal, again and again: rates,
latencies, who waits, workers. Enter opens a pool: its workers and open requests,
which can be killed; ? lists the keys. It goes on while the daemon is away.

It asks as fcgid status does. Orders (k, d, u, r) go by the control socket, so they
are for root and the daemon's user. NO_COLOR is heeded.`,
		Example: "  fcgid top\n  fcgid top php --interval 5s\n  fcgid top --once | mail -s fcgid root",
		Args:    counted(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if interval < 100*time.Millisecond {
				return usageErrorf("--interval %v is below 100ms", interval)
			}
			options := top.Options{Source: source{&o}, Interval: interval, Input: os.Stdin, Output: cmd.OutOrStdout(), Environ: os.Environ()}
			if len(args) > 0 {
				options.Pool = args[0]
			}
			// Said before the terminal is top's, and by one goroutine.
			o.place()
			o.tell = nil
			if once {
				return top.Once(cmd.Context(), options)
			}
			return top.Run(cmd.Context(), options)
		},
	}
	cmd.ValidArgsFunction = o.completePools
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&once, "once", false, "print one frame, also where the output is no terminal")
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "`time` between two looks, from which rates are made")
	return cmd
}

// A source is the daemon that top looks at.
type source struct{ o *statusOptions }

// Status asks the daemon what it does.
func (s source) Status(ctx context.Context) (*status.Page, error) { return s.o.page(ctx) }

// Do has the daemon carry out an order.
func (s source) Do(ctx context.Context, order status.Order) (*status.Reply, error) {
	return s.o.send(ctx, order)
}
