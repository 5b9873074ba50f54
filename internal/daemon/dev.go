package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/fcgid/fcgid/internal/config"
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
			return dev(cmd, dir, address)
		},
	}
	cmd.Flags().StringVar(&address, "http", "127.0.0.1:8080", "`address` of the HTTP server")
	return cmd
}

// dev serves dir, or the samples, until a signal comes.
func dev(cmd *cobra.Command, dir, address string) error {
	private, err := os.MkdirTemp("", "fcgid-dev-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(private)
	dir, sample, err := devFolder(dir, private)
	if err != nil {
		return err
	}
	signals := catchSignals()
	defer signals.release()

	socket := filepath.Join(private, "fcgid.sock")
	cfg, err := devConfig(dir, socket, private)
	if err != nil {
		return err
	}
	d, err := newDaemon("", functions{}, cfg)
	if err != nil {
		return err
	}
	if err := d.configure(cmd.Context(), cfg); err != nil {
		return err
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}
	front := &http.Server{Handler: newDevFront(dial, dir, d.logs.Logger), ReadHeaderTimeout: 10 * time.Second, ErrorLog: zap.NewStdLog(d.logs.Logger)}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return errors.Join(fmt.Errorf("--http %s: %w", address, err), d.stopGracefully(signals))
	}
	printDevStart(cmd.OutOrStdout(), dir, l.Addr().String(), sample)
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := front.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.broken(err)
		}
	})
	defer serving.Wait()
	defer front.Close()
	return d.untilStopped(signals, func() (*config.Config, error) { return devConfig(dir, socket, private) })
}

// devFolder is the absolute name of what is served, and the path of a program in
// it that is sure to be there, if one is.
func devFolder(dir, private string) (folder, sample string, err error) {
	if dir == "" {
		folder = filepath.Join(private, "samples")
		return folder, "hello.sh", writeSamples(folder)
	}
	folder, err = filepath.Abs(dir)
	if err != nil {
		return "", "", err
	}
	info, err := os.Stat(folder)
	if err != nil {
		return "", "", err
	}
	if !info.IsDir() {
		return "", "", fmt.Errorf("%s is not a folder", dir)
	}
	return folder, "", nil
}

func printDevStart(w io.Writer, dir, address, sample string) {
	fmt.Fprintf(w, "Serving %s at http://%s/ (Ctrl-C stops it). Try:\n\n  curl -i http://%s/%s\n\n", dir, address, address, sample)
}

// devConfig is the configuration that a file would hold, read as one: so the
// defaults are those of any other pool.
func devConfig(dir, socket, private string) (*config.Config, error) {
	file := filepath.Join(private, "fcgid.yaml")
	text := fmt.Sprintf("log: {level: debug}\nadmin: {listen: \"\"}\nshutdown_timeout: 1s\npools: [{name: dev, listen: %q, process: {root: [%q]}}]\n", "unix:"+socket, dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return config.LoadAndCheck(file, nil, nil)
}
