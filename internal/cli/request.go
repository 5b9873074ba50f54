package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fcgid/fcgid/fcgi"
)

const requestLong = `Request sends one FastCGI request to ADDR with the variables that a web
server would set, and prints the answer.

ADDR is unix:/path, unix:@abstract or tcp:host:port. Any FastCGI application
will do: fcgid, fcgiwrap, php-fpm, a worker of your own.

STDOUT goes to standard output, without the CGI header unless -i is given, and
STDERR goes to standard error. Variables given by -p come last and win over
the standard ones.

Data is sent with CONTENT_TYPE application/x-www-form-urlencoded, and with
CONTENT_LENGTH if its size is known: that of a pipe is not.

With --role filter, the file named by --script is sent as DATA.

The exit status is 0 when the request completed with appStatus 0, 2 when the
command line is wrong, and else 1.`

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

  # ask for the limits
  fcgid request unix:/run/fcgid/cgi.sock --values`

type requestOptions struct {
	script, method, query, data, role string

	params          []string
	include, values bool
	timeout         time.Duration
}

// newRequestCommand returns the FastCGI client. Its errors are of type
// exitError, and it prints none itself.
func newRequestCommand() *cobra.Command {
	var o requestOptions
	cmd := &cobra.Command{
		Use:           "request ADDR [flags]",
		Short:         "Send one FastCGI request, as a web server would",
		Long:          requestLong,
		Example:       requestExample,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageErrorf("got %d arguments, want ADDR alone", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return exitError{exitUsage, err.Error()} })
	f := cmd.Flags()
	f.StringVar(&o.script, "script", "", "SCRIPT_FILENAME: `/abs/path` of a program, as the application sees it, or a function's name")
	f.StringVarP(&o.method, "method", "X", "", "REQUEST_METHOD (default GET, or POST with -d)")
	f.StringVar(&o.query, "query", "", "QUERY_STRING")
	f.StringArrayVarP(&o.params, "param", "p", nil, "one more variable, `NAME=VALUE` (repeatable)")
	f.StringVarP(&o.data, "data", "d", "", "request body: `DATA`, @file, or @- for standard input")
	f.StringVar(&o.role, "role", "responder", "responder, authorizer or filter")
	f.BoolVarP(&o.include, "include", "i", false, "show the header of the answer")
	f.BoolVar(&o.values, "values", false, "ask GET_VALUES for the limits and send no request")
	f.DurationVar(&o.timeout, "timeout", 0, "give up after this time, and two seconds more for the application to end the request; 0 is never")
	return cmd
}

func (o *requestOptions) run(cmd *cobra.Command, addr string) error {
	if _, _, err := parseDialAddress(addr); err != nil {
		return err
	}
	req, closeFiles, err := o.request(cmd)
	if err != nil {
		return err
	}
	defer closeFiles()

	ctx := cmd.Context()
	if o.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("no end within %v", o.timeout))
		defer cancel()
	}
	client := &fcgi.Client{Address: addr}
	if o.values {
		return printValues(ctx, client, cmd.OutOrStdout())
	}
	return o.send(ctx, client, req, cmd)
}

// send does the request. It does not wait for a Read of Stdin that blocks,
// since the process ends after it.
func (o *requestOptions) send(ctx context.Context, client *fcgi.Client, req *fcgi.Request, cmd *cobra.Command) error {
	stdout := cmd.OutOrStdout()
	req.Stdout, req.Stderr = stdout, cmd.ErrOrStderr()
	cutter := &headerCutter{Body: stdout}
	cutter.Header = func(block []byte) error {
		_, err := parseHeader(block)
		if err == nil {
			return nil
		}
		cmd.PrintErrf("%s: no CGI header: %v\n", cmd.CommandPath(), err)
		_, err = stdout.Write(block)
		return err
	}
	if !o.include {
		req.Stdout = cutter
	}
	result, err := client.Do(ctx, req)
	refused := result.ProtocolStatus != fcgi.StatusRequestComplete
	if !o.include && (cutter.isInside() || err == nil && !refused) {
		err = errors.Join(err, cutter.finish())
	}
	switch {
	case err != nil:
		return exitError{exitFailure, err.Error()}
	case refused:
		return exitError{exitFailure, "protocolStatus " + result.ProtocolStatus.String()}
	case result.AppStatus != 0:
		return exitError{exitFailure, "appStatus " + strconv.FormatUint(uint64(result.AppStatus), 10)}
	}
	return nil
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
