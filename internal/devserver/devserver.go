// Package devserver tries CGI programs without a web server: an HTTP server that
// does what nginx would do before a FastCGI application, and the samples that it
// serves when there is nothing else. What runs the programs is somebody else.
package devserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/fcgid/fcgid/internal/config"
)

// A Server is the folder that is served, a private folder with what that takes,
// and the HTTP server.
type Server struct {
	address string // of HTTP
	dir     string // whose programs are served
	sample  string // the path of a program that is sure to be there; "" if none is
	private string
}

// New returns a Server of the programs below dir, or of samples if that is "". It
// serves nothing yet. The caller closes it.
func New(dir, address string) (*Server, error) {
	private, err := os.MkdirTemp("", "fcgid-dev-")
	if err != nil {
		return nil, err
	}
	s := &Server{address: address, private: private}
	if err := s.choose(dir); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close removes what New has made.
func (s *Server) Close() error { return os.RemoveAll(s.private) }

// choose finds out what is served.
func (s *Server) choose(dir string) error {
	if dir == "" {
		s.dir, s.sample = filepath.Join(s.private, "samples"), "hello.sh"
		return writeSamples(s.dir)
	}
	folder, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	info, err := os.Stat(folder)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	s.dir = folder
	return nil
}

func (s *Server) socket() string { return filepath.Join(s.private, "fcgid.sock") }

// Config is the configuration of the pool behind the server, read from a file: so
// the defaults are those of any other pool.
func (s *Server) Config() (*config.Config, error) {
	file := filepath.Join(s.private, "fcgid.yaml")
	text := fmt.Sprintf("log: {level: debug}\nadmin: {listen: \"\", control: \"\"}\nshutdown_timeout: 1s\npools: [{name: dev, listen: %q, process: {root: [%q]}}]\n", "unix:"+s.socket(), s.dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return config.LoadAndCheck(file, nil, nil)
}

// Serve answers until ctx ends, with the pool of Config behind it. It tells a
// person on out where, once it does.
func (s *Server) Serve(ctx context.Context, log *slog.Logger, out io.Writer) error {
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return fmt.Errorf("--http %s: %w", s.address, err)
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.socket())
	}
	srv := &http.Server{
		Handler: newFront(dial, s.dir, log), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelInfo),
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		srv.Close()
	})
	address := l.Addr()
	fmt.Fprintf(out, "Serving %s at http://%s/ (Ctrl-C stops it). Try:\n\n  curl -i http://%s/%s\n\n", s.dir, address, address, s.sample)
	err = srv.Serve(l)
	if !stop() {
		<-closed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
