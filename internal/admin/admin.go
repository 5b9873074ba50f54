// Package admin is the admin server: the daemon's metrics, status and health by
// HTTP, and the client of it. It shows what it is given and decides nothing.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/status"
)

// A Daemon is what the server tells of. Its methods are called by many goroutines.
type Daemon interface {
	Status() *status.Page
	IsStopping() bool
}

// Options say what the server shows, and whom it tells when it breaks.
type Options struct {
	Daemon  Daemon
	Metrics http.Handler
	Log     *slog.Logger
	Broken  func(error) // called when it cannot serve any more
}

// A Server serves one address or none. Its methods are called by one goroutine.
type Server struct {
	opt     Options
	address string // "" is off
	l       *listen.Listener
	srv     *http.Server
	done    chan struct{} // closed when srv has ended
}

// New returns a Server that serves nothing: a Change gives it an address.
func New(o Options) *Server { return &Server{opt: o} }

// A Change is a new address that has been opened and is not yet served. Either
// Commit or Undo is called next.
type Change struct {
	server  *Server
	address string
	l       *listen.Listener // nil: none is wanted
	taken   bool             // l has the socket of the server
	none    bool             // nothing changes
}

// Listen opens address, unless it is the one that is served and can be reached; "" is
// none.
func (s *Server) Listen(ctx context.Context, address string) (Change, error) {
	change := Change{server: s, address: address}
	if address == s.address && (s.l == nil || !s.l.IsLost()) {
		change.none = true
		return change, nil
	}
	if address == "" {
		return change, nil
	}
	var err error
	switch {
	case s.l == nil:
		change.l, err = listen.Open(ctx, options(address))
	case s.l.IsAt(address): // by another name
		change.taken = true
		change.l, err = s.l.Dup(address)
	default:
		change.l, err = listen.Open(ctx, options(address), s.l)
	}
	return change, err
}

func options(address string) listen.Options { return listen.Options{Address: address, Mode: 0o660} }

// Undo closes what was opened.
func (c Change) Undo() {
	if c.l == nil {
		return
	}
	if c.taken {
		c.l.Disown()
	}
	c.l.Close()
}

// Commit ends the server at the old address and begins to serve the new one.
func (c Change) Commit() {
	if c.none {
		return
	}
	s := c.server
	if c.taken {
		s.l.Disown()
	}
	s.Close()
	s.address, s.l = c.address, c.l
	if c.l == nil {
		return
	}
	srv, done := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelInfo),
	}, make(chan struct{})
	s.srv, s.done = srv, done
	go func() {
		defer close(done)
		if err := srv.Serve(c.l); !errors.Is(err, http.ErrServerClosed) {
			s.opt.Broken(err)
		}
	}()
	s.opt.Log.Info("listening", "admin", c.address)
}

// Close ends the server that runs, if one does.
func (s *Server) Close() {
	if s.srv == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.srv.Shutdown(ctx) != nil {
		s.srv.Close()
	}
	<-s.done
	s.srv = nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.opt.Metrics)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.Encode(s.opt.Daemon.Status())
	})
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "healthy") })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if s.opt.Daemon.IsStopping() {
			plain(w, http.StatusServiceUnavailable, "stopping")
			return
		}
		plain(w, http.StatusOK, "ready")
	})
	return mux
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(text + "\n"))
}
