package fcgi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/runner/function"
	"github.com/fcgid/fcgid/internal/server"
)

// Defaults of a Server. Those of a pool of the daemon are the same.
const (
	defaultMaxConns        = 1024
	defaultMaxReqs         = 1024
	defaultQueue           = 1024
	defaultQueueTimeout    = 10 * time.Second
	defaultParams          = 256 << 10
	defaultBody            = 1 << 30
	defaultBodyMemory      = 64 << 10
	defaultReadTimeout     = 30 * time.Second
	defaultWriteTimeout    = time.Minute
	defaultShutdownTimeout = 30 * time.Second
)

// abandonAfter is how long Serve waits, at last, for handlers that do not return.
const abandonAfter = time.Second

// A Server answers FastCGI requests with a [HandlerFunc], several at once, on one
// connection too if the web server likes. It takes bodies as fast as they come and
// holds what a handler has not read yet, first in memory, then in an unlinked
// temporary file, so that no request waits for another.
//
// Only Handler has to be set. Of the other fields, 0 is the default that is
// named, and a negative value is no limit at all, if nothing else is said. They
// are not to be changed once Serve was called.
type Server struct {
	// Handler answers the requests.
	Handler HandlerFunc

	// MaxConns is how many connections may be open. One more makes room by another
	// that has had no request for a second, or waits. Default: 1024.
	MaxConns int
	// MaxReqs is how many handlers may run at once. A handler that has not
	// returned though its request has ended does not count. Default: 1024.
	MaxReqs int
	// NoMultiplex refuses a second request on a connection before the first has
	// ended. MaxConns, MaxReqs and this are what a web server is told that asks
	// with GET_VALUES.
	NoMultiplex bool
	// MaxQueue is how many requests may wait while MaxReqs run. One more is
	// answered with 503. Negative: none waits. Default: 1024.
	MaxQueue int
	// QueueTimeout is how long a request may wait. Then it is answered with 503.
	// Default: 10 s.
	QueueTimeout time.Duration

	// MaxParams is how many bytes the params of a request may have. One with more
	// is answered with 431. Default: 256 KiB.
	MaxParams int64
	// MaxBody is how many bytes may come on Stdin. More is answered with 413.
	// Default: 1 GiB.
	MaxBody int64
	// BodyMemory is how many bytes of a body are held in memory, for each
	// request, before a file is used. Negative: none. Default: 64 KiB.
	BodyMemory int64
	// BufferRequests calls a handler when all of its Stdin has come, so that a slow
	// upload holds none. By default it is called when the params are there, and an
	// answer leaves as it is written: nginx stops sending a body, and some web servers
	// break, when an answer comes before the body's end.
	BufferRequests bool

	// ReadTimeout is how long the params may take to come, and how long a body
	// may pause. Then the request is answered with 408. Default: 30 s.
	ReadTimeout time.Duration
	// WriteTimeout is how long a web server may take nothing of an answer. Then
	// it is taken for lost. Default: 60 s.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may be open without a request. Then
	// it is closed. Default: no limit.
	IdleTimeout time.Duration
	// Timeout is how long a handler may take. Then the request is answered with
	// 408, at once, and ctx ends; a handler that has not returned a second later
	// is logged. It does not count for MaxReqs, so a handler that never returns
	// costs memory each time. Default: no limit.
	Timeout time.Duration
	// IgnoreAbort lets handlers run to their end though nobody waits for it any more.
	IgnoreAbort bool
	// ShutdownTimeout is how long requests may go on once the context of Serve
	// has ended. Then they are answered with 503, and their contexts end.
	// Negative: no time. Default: 30 s.
	ShutdownTimeout time.Duration

	// Log takes what goes wrong. Nil is slog.Default, as a panic's stack must
	// not get lost because nobody thought of it; slog.New(slog.DiscardHandler)
	// logs nothing.
	Log *slog.Logger

	once  sync.Once // makes inner
	inner *server.Server
}

// Serve answers requests with h on connections of l until ctx ends, with the
// defaults of a [Server]. See [Server.Serve].
func Serve(ctx context.Context, l net.Listener, h HandlerFunc) error {
	s := &Server{Handler: h}
	return s.Serve(ctx, l)
}

// Serve accepts connections of l, of any kind, and answers their requests until
// ctx ends. Then it closes l, lets requests go on for ShutdownTimeout, ends those
// that are left, and returns nil when nothing that it has started is left.
//
// A Unix socket of net.Listen has the permissions that the umask leaves it: for a
// web server of another user it needs an os.Chmod or os.Chown. A program that is
// started with its socket as descriptor 0, as by spawn-fcgi, gets it by
// net.FileListener(os.Stdin).
//
// It returns an error when l breaks, and when there are handlers that do not
// return though their contexts have ended: four seconds after that it gives up
// and says how many there are.
//
// It may be called several times at once, with different listeners: the limits
// hold for all of them together.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if l == nil {
		return errors.New("serve: nil net.Listener")
	}
	if s.Handler == nil {
		l.Close()
		return errors.New("serve: Server has no Handler")
	}
	s.once.Do(s.init)
	return s.inner.Serve(ctx, l)
}

func (s *Server) init() {
	log := s.Log
	if log == nil {
		log = slog.Default()
	}
	s.inner = server.New(server.Settings{
		Runner: function.New(function.Options{Call: s.Handler.Run, Log: log}),
		Limits: server.Limits{
			MaxConns: orDefault(s.MaxConns, defaultMaxConns), MaxReqs: orDefault(s.MaxReqs, defaultMaxReqs), Multiplex: !s.NoMultiplex,
			Queue: orDefault(s.MaxQueue, defaultQueue), QueueTimeout: orDefault(s.QueueTimeout, defaultQueueTimeout),
			Params: orDefault(s.MaxParams, defaultParams), Body: orDefault(s.MaxBody, defaultBody),
			BodyMemory: orDefault(s.BodyMemory, defaultBodyMemory), RequestBuffering: s.BufferRequests,
			ReadTimeout: orDefault(s.ReadTimeout, defaultReadTimeout), WriteTimeout: orDefault(s.WriteTimeout, defaultWriteTimeout),
			IdleTimeout: orDefault(s.IdleTimeout, 0),
		},
		Timeout: orDefault(s.Timeout, 0), OnAbort: onAbort(s.IgnoreAbort),
		Grace: orDefault(s.ShutdownTimeout, defaultShutdownTimeout), Abandon: abandonAfter,
	}, server.Options{Log: log})
}

// orDefault is a limit as the server has it, where 0 is none.
func orDefault[T int | int64 | time.Duration](given, standard T) T {
	switch {
	case given < 0:
		return 0
	case given == 0:
		return standard
	}
	return given
}

func onAbort(ignore bool) server.OnAbort {
	if ignore {
		return server.AbortIgnore
	}
	return server.AbortKill
}
