package cli

import (
	"context"
	"log/slog"
	"os/exec"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/internal/daemon"
	"github.com/fcgid/fcgid/internal/devserver"
	"github.com/fcgid/fcgid/internal/pool"
)

const devLong = `Tries CGI programs, PHP and static files without a web server: an HTTP server
that does what nginx would do, and behind it real pools on private sockets. With no
DIR a few samples are served.

A file runs if it may be executed and is a program. Without the exec bit a script has
the interpreter of its kind (.php php-cgi, .py, .pl, .sh, .rb, as found in PATH). All
other files are sent as they are. A folder shows its index.php, index.html, … or what
is in it. What goes wrong is explained in the browser and here.

It is for your own machine: it runs what it is asked to run, for everybody who
can reach the address.`

func newDevCommand(functions pool.Functions) *cobra.Command {
	var o devserver.Options
	var open bool
	cmd := &cobra.Command{
		Use:   "dev [DIR]",
		Short: "Tries CGI programs, PHP and static files without a web server",
		Long:  devLong,
		Example: "  fcgid dev\n  fcgid dev --http 127.0.0.1:3000 ./cgi-bin\n  fcgid dev --router index.php ./wordpress\n" +
			"  fcgid dev --worker php-cgi ./public\n  fcgid dev --interpreter .lua=/usr/bin/lua ./site",
		Args: counted(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Dir = args[0]
			}
			o.Out, o.Functions = cmd.OutOrStdout(), functions.Added()
			s, err := devserver.New(o)
			if err != nil {
				return err
			}
			defer s.Close()
			if err := s.Listen(); err != nil {
				return err
			}
			var opened func(string)
			if open {
				opened = openBrowser
			}
			return daemon.Run(daemon.Options{
				Load: s.Config, Functions: functions, Ended: s.Ended,
				Beside: func(ctx context.Context, log *slog.Logger) error { return s.Serve(ctx, log, opened) },
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.HTTP, "http", "127.0.0.1:8080", "`address` of the HTTP server")
	flags.StringArrayVar(&o.Interpreters, "interpreter", nil, "`.ext=program` that runs scripts of a kind (repeatable)")
	flags.StringVar(&o.Worker, "worker", "", "`command` of a FastCGI program that is kept running: php-cgi for .php, any other for all that is no file")
	flags.StringVar(&o.Router, "router", "", "`script` that answers for all that is no file, as try_files does")
	flags.DurationVar(&o.Timeout, "timeout", time.Minute, "how long a program may take; 0 is no limit")
	flags.BoolVar(&open, "open", false, "open a browser")
	return cmd
}

// openBrowser shows a page to who sits here, if there is somebody.
func openBrowser(url string) {
	cmd := exec.Command("xdg-open", url)
	if cmd.Start() == nil {
		go cmd.Wait() // it ends by itself
	}
}
