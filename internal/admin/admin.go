// Package admin is the admin server: the daemon's metrics, status and health by
// HTTP, a page that shows them, and the client of it. It shows what it is given and decides nothing.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/logs"
	"github.com/fcgid/fcgid/internal/status"
)

// A Daemon is what the server tells of. Its methods are called by many goroutines, and
// each Page is the caller's.
type Daemon interface {
	Status() *status.Page
	// Ready is why nothing should be sent to the daemon, or to that pool of it if one is named;
	// "" if there is no reason. With a room, there is one if not so many requests more would run
	// at once. The error tells that there is no such pool.
	Ready(pool string, room int) (reason string, err error)
}

// Options say what the server shows, and whom it tells when it breaks.
type Options struct {
	Daemon  Daemon
	Metrics http.Handler
	Log     *slog.Logger
	Broken  func(error) // called when it cannot serve any more
	Binder  listen.Binder
}

// A Server serves one address or none. Its methods are called by one goroutine.
type Server struct {
	opt      Options
	settings atomic.Pointer[Settings]

	eventTime    time.Duration
	eventClients chan struct{} // maxEventClients

	l         *listen.Listener
	srv       *http.Server
	closer    *closer       // of srv
	endEvents func()        // has those who watch the page leave
	done      chan struct{} // closed when srv serves no more
}

// New returns a Server that serves nothing: a Change gives it an address.
func New(o Options) *Server {
	s := &Server{opt: o, eventTime: eventTime, eventClients: make(chan struct{}, maxEventClients)}
	s.settings.Store(new(Settings))
	return s
}

// A Change is new settings whose address has been opened and is not yet served. Either
// Commit or Undo is called next.
type Change struct {
	server   *Server
	settings Settings
	l        *listen.Listener // nil: none is wanted
	taken    bool             // l has the socket of the server
	stays    bool             // so has the server: what it serves stays
}

// Listen opens the address of settings, unless it is the one that is served and can be
// reached. After an error nothing has changed.
func (s *Server) Listen(ctx context.Context, settings Settings) (Change, error) {
	change := Change{server: s, settings: settings}
	o := listen.Options{Address: settings.Address, Mode: config.AdminMode, Allow: settings.Allow}
	if settings.Address == s.settings.Load().Address && (s.l == nil || !s.l.IsLost()) {
		change.stays = true
		if s.l == nil {
			return change, nil
		}
		return change, s.l.Apply(o)
	}
	if settings.Address == "" {
		return change, nil
	}
	var err error
	switch {
	case s.l == nil:
		change.l, err = listen.OpenBy(ctx, s.opt.Binder, o)
	case s.l.IsAt(settings.Address): // by another name
		change.taken = true
		if change.l, err = s.l.Dup(settings.Address); err == nil {
			err = change.l.Apply(o)
		}
	default:
		change.l, err = listen.OpenBy(ctx, s.opt.Binder, o, s.l)
	}
	if errors.Is(err, listen.ErrInUse) {
		err = fmt.Errorf(`%w; give this one another port, unix:/path, or "" for none`, err)
	}
	if err != nil {
		change.Undo()
	}
	return change, err
}

// Try is why Listen would fail, as far as that is known without opening anything. isNew is that it
// would begin to listen where it does not.
func (s *Server) Try(settings Settings) (isNew bool, err error) {
	o := listen.Options{Address: settings.Address, Mode: config.AdminMode, Allow: settings.Allow}
	switch {
	case settings.Address == "":
		return false, nil
	case s.l == nil:
		return listen.TryBy(s.opt.Binder, &o)
	case s.l.IsAt(settings.Address):
		return false, s.l.TryApply(&o)
	}
	return listen.TryBy(s.opt.Binder, &o, s.l)
}

// Undo closes what was opened, and lets in whom the old settings let in.
func (c Change) Undo() {
	if c.stays && c.server.l != nil {
		old := c.server.l.Options()
		old.Allow = c.server.settings.Load().Allow
		c.server.l.Apply(old)
	}
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
	s := c.server
	if c.stays {
		s.settings.Store(&c.settings)
		return
	}
	if c.taken {
		s.l.Disown()
	}
	s.Close()
	s.settings.Store(&c.settings)
	s.l = c.l
	if c.l == nil {
		return
	}
	refusals := logs.Sampled(s.opt.Log)
	c.l.OnRefused = func(client string, reason error) {
		refusals.Warn("connection refused", "client", client, "error", reason)
	}
	closing, endEvents := context.WithCancel(context.Background())
	srv, done := &http.Server{
		Handler:           s.handler(closing),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(s.opt.Log.Handler(), slog.LevelInfo),
	}, make(chan struct{})
	s.srv, s.closer, s.endEvents, s.done = srv, newCloser(srv), endEvents, done
	go func() {
		defer close(done)
		if err := srv.Serve(c.l); !errors.Is(err, net.ErrClosed) {
			s.opt.Broken(err)
		}
	}()
	s.opt.Log.Info("listening", "admin", c.settings.Address)
}

// Listener is what the server listens on, or nil.
func (s *Server) Listener() *listen.Listener { return s.l }

// Close ends the server that runs, if one does.
func (s *Server) Close() {
	if s.srv == nil {
		return
	}
	s.l.Close()
	<-s.done
	s.endEvents()
	s.closer.end(s.srv)
	for range maxEventClients { // all have ended when the places are ours
		s.eventClients <- struct{}{}
	}
	for range maxEventClients {
		<-s.eventClients
	}
	s.srv = nil
}

// handler answers until closing is done, after which nothing lasts.
func (s *Server) handler(closing context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.opt.Metrics)
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.Encode(s.page())
	})
	mux.HandleFunc("GET /{$}", showPage)
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) { s.events(closing, w, r) })
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "healthy") })
	mux.HandleFunc("GET /-/ready", s.ready)
	return s.guard(mux)
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	w.Write([]byte(text + "\n"))
}
