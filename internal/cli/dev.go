package cli

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/daemon"
	"github.com/fcgid/fcgid/internal/devserver"
)

const devLong = `Tries CGI programs without a web server: an HTTP server that does what nginx
would do, and behind it a real pool on a private socket. Every executable file
below DIR is a program; with no DIR a few samples are served.

It is for your own machine: it runs what it is asked to run, for everybody who
can reach the address.`

func newDevCommand() *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:     "dev [DIR]",
		Short:   "Tries CGI programs without a web server",
		Long:    devLong,
		Example: "  fcgid dev\n  fcgid dev --http 127.0.0.1:3000 ./cgi-bin",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir := ""
			if len(args) > 0 {
				dir = args[0]
			}
			s, err := devserver.New(dir, address)
			if err != nil {
				return err
			}
			defer s.Close()
			return daemon.Run(daemon.Options{
				Load: s.Config,
				Beside: func(ctx context.Context, log *slog.Logger) error {
					return s.Serve(ctx, log, cmd.OutOrStdout())
				},
			})
		},
	}
	cmd.Flags().StringVar(&address, "http", "127.0.0.1:8080", "`address` of the HTTP server")
	return cmd
}
