package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/fcgi"
)

const requestLong = `Request sends one FastCGI request to ADDR with the variables that a web
server would set, and prints the answer.

ADDR is unix:/path, unix:@abstract or tcp:host:port. Any FastCGI application
will do: fcgid, fcgiwrap, php-fpm, a worker of your own.

STDOUT goes to standard output, without the header unless -i is given, and
STDERR goes to standard error. Variables given by -p come last and win over
the standard ones.

Data is sent with CONTENT_TYPE application/x-www-form-urlencoded, and with
CONTENT_LENGTH if its size is known: that of a pipe is not.

With --role filter, the file named by --script is sent as DATA.

With --repeat, a table tells of all answers: how many a second, within which
time half, 90 and 99 percent of them had ended, the shortest, the longest, and
how many had which status.

The exit status is 0 when the request completed with appStatus 0, 2 when the
command line is wrong, 22 when --fail was given and the answer's status is 400
or more, and else 1.`

const requestExample = `  # run a CGI script and show its header
  fcgid request unix:/run/fcgid/cgi.sock --script /srv/cgi-bin/hello.cgi -i

  # send a form to php-fpm
  fcgid request unix:/run/php/php-fpm.sock --script /srv/www/form.php -d 'name=Ada'

  # upload a file
  fcgid request tcp:127.0.0.1:9000 --script /srv/cgi-bin/upload -X PUT -d @big.iso \
    -p CONTENT_TYPE=application/octet-stream -p PATH_INFO=/big.iso

  # call a function, or a page of a Go web application
  fcgid request unix:/run/fcgid/functions.sock --script fcgid.ping
  fcgid request unix:/run/app/app.sock -p REQUEST_URI=/hello/world

  # is it well, and how fast is it?
  fcgid request unix:/run/fcgid/php.sock --script /srv/www/health.php --fail
  fcgid request unix:/run/fcgid/php.sock --script /srv/www/index.php --repeat 100

  # ask for the limits
  fcgid request unix:/run/fcgid/cgi.sock --values`

type requestOptions struct {
	script, method, query, data, role string

	params                []string
	include, values, fail bool
	timeout               time.Duration
	repeat                int
}

// newRequestCommand returns the FastCGI client. Its errors are of type
// exitError, and it prints none itself.
func newRequestCommand() *cobra.Command {
	var o requestOptions
	cmd := &cobra.Command{
		Use:           "request ADDR [flags]",
		Short:         "Sends one FastCGI request, as a web server would",
		Long:          requestLong,
		Example:       requestExample,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usageArgs(counted(1, 1)),
		RunE:          func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	// Of the daemon on this machine; any other FastCGI application will do as well.
	cmd.ValidArgsFunction = (&target{file: defaultConfig}).completeAddresses
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exitError{exitUsage, err.Error()} })
	f := cmd.Flags()
	f.StringVar(&o.script, "script", "", "SCRIPT_FILENAME: `/abs/path` of a program, as the application sees it, or a function's name")
	f.StringVarP(&o.method, "method", "X", "", "REQUEST_METHOD (default GET, or POST with -d)")
	f.StringVar(&o.query, "query", "", "QUERY_STRING")
	f.StringArrayVarP(&o.params, "param", "p", nil, "one more variable, `NAME=VALUE` (repeatable)")
	f.StringVarP(&o.data, "data", "d", "", "request body: `DATA`, @file, or @- for standard input")
	f.StringVar(&o.role, "role", "responder", "responder, authorizer or filter")
	f.BoolVarP(&o.include, "include", "i", false, "show the header of the answer, as a web server would send it")
	f.BoolVar(&o.fail, "fail", false, "exit with 22, and print no body, when the answer's status is 400 or more")
	f.IntVar(&o.repeat, "repeat", 1, "send the request `N` times, one after the other, and print how long it took in place of the answers")
	f.BoolVar(&o.values, "values", false, "ask GET_VALUES for the limits and send no request")
	f.DurationVar(&o.timeout, "timeout", 0, "give up after this time, and two seconds more for the application to end the request; 0 is never")
	return cmd
}

func (o *requestOptions) run(cmd *cobra.Command, addr string) error {
	if _, _, err := parseDialAddress(addr); err != nil {
		return err
	}
	client := &fcgi.Client{Address: addr}
	if cmd.Flags().Changed("repeat") {
		return o.sendAgain(cmd, client)
	}
	req, closeFiles, err := o.request(cmd)
	if err != nil {
		return err
	}
	defer closeFiles()
	ctx, cancel := o.limit(cmd.Context())
	defer cancel()
	if o.values {
		return printValues(ctx, client, cmd.OutOrStdout())
	}
	a := &answer{cmd: cmd, out: cmd.OutOrStdout(), include: o.include, fail: o.fail}
	return a.send(ctx, client, req)
}

func printValues(ctx context.Context, client *fcgi.Client, w io.Writer) error {
	names := []string{fcgi.MaxConns, fcgi.MaxReqs, fcgi.MpxsConns}
	values, err := client.Values(ctx, names...)
	if err != nil {
		return exitError{exitFailure, err.Error()}
	}
	for _, name := range names {
		if value, ok := values[name]; ok {
			fmt.Fprintf(w, "%s=%s\n", name, value)
		}
	}
	return nil
}
