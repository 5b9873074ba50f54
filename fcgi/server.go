package fcgi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/fcgid/fcgid/internal/runner/function"
	"github.com/fcgid/fcgid/internal/server"
)

// Defaults of a Server. Those of a pool of the daemon are the same.
const (
	defaultMaxConns   = 1024
	defaultMaxReqs    = 1024
	defaultQueue      = 1024
	defaultParams     = 256 << 10
	defaultBody       = 1 << 30
	defaultBodyMemory = 64 << 10
)

// forever is a time that nobody waits for to pass.
const forever time.Duration = 1 << 62

// abandonAfter is how long Serve waits, at last, for handlers that do not return.
const abandonAfter = time.Second

// A Server answers FastCGI requests with a [Handler], several at once, on one
// connection too if the web server likes. It takes bodies as fast as they come and
// holds what a handler has not read yet, first in memory, then in an unlinked
// temporary file, so that no request waits for another.
//
// The zero Server is ready. As in net/http, a time of 0 or less is no limit; a number
// or size of 0 is the default that is named, and a negative one no limit, if nothing
// else is said. Fields are not to be changed once Serve was called.
type Server struct {
	// Handler answers the requests. Nil is HTTP(nil), which is http.DefaultServeMux.
	Handler Handler

	// MaxConns is how many connections may be open. One more makes room by another
	// that has had no request for a second, or waits. Default: 1024.
	MaxConns int
	// MaxReqs is how many handlers may run at once. The place of one is free when its
	// request ends, and taken again if it has not returned a second later. Default: 1024.
	MaxReqs int
	// NoMultiplex refuses a second request on a connection before the first has
	// ended. MaxConns, MaxReqs and this are what a web server is told that asks
	// with GET_VALUES.
	NoMultiplex bool
	// MaxQueue is how many requests may wait while MaxReqs run. One more is
	// answered with 503. Negative: none waits. Default: 1024.
	MaxQueue int
	// QueueTimeout is how long a request may wait. Then it is answered with 503.
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
	// may pause. Then the request is answered with 408.
	ReadTimeout time.Duration
	// WriteTimeout is how long a web server may take nothing of an answer. Then
	// it is taken for lost.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may be open without a request. Then
	// it is closed.
	IdleTimeout time.Duration
	// Timeout is how long a handler may take. Then the request is answered with
	// 408, at once, and ctx ends; a handler that has not returned a second later
	// is logged. [TimeoutHandler] is the same for one handler.
	Timeout time.Duration
	// IgnoreAbort lets handlers run to their end though nobody waits for it any more.
	IgnoreAbort bool
	// ShutdownTimeout is how long requests may go on once the context of Serve
	// has ended. Then they are answered with 503, and their contexts end.
	// Negative: no time.
	ShutdownTimeout time.Duration

	// BaseContext, if not nil, returns the context that those of all requests on a
	// listener are derived from: they have its values, and end with an [ErrShutdown]
	// when it does. By default they have the values of Serve's context.
	BaseContext func(net.Listener) context.Context
	// ConnContext, if not nil, returns the context for a new connection, derived from
	// ctx. What it adds is there in the context of each request on the connection.
	ConnContext func(ctx context.Context, c net.Conn) context.Context

	// Log takes what goes wrong. Nil is slog.Default, as a panic's stack must
	// not get lost because nobody thought of it; slog.New(slog.DiscardHandler)
	// logs nothing.
	Log *slog.Logger

	once  sync.Once // makes inner
	inner *server.Server
}

// Serve answers requests on connections of l with h, until l is closed: what
// net/http/fcgi has under this name. A nil l is descriptor 0, and a nil h is
// http.DefaultServeMux. It has the times of a pool of the daemon: 30 s for
// [Server.ReadTimeout], 60 s for WriteTimeout, 10 s for QueueTimeout and 30 s for
// ShutdownTimeout. A [Server] has others, and ends with a context.
func Serve(l net.Listener, h http.Handler) error {
	s := &Server{
		Handler: HTTP(h), QueueTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: time.Minute, ShutdownTimeout: 30 * time.Second,
	}
	return s.Serve(context.Background(), l)
}

// Serve accepts connections of l, of any kind, and answers their requests until
// ctx ends. Then it closes l, lets requests go on for ShutdownTimeout, ends those
// that are left, and returns nil when nothing that it has started is left.
//
// [Listen] makes a listener whose connections are all served when it stops. A nil l is
// descriptor 0, a socket that the program was started with, as by spawn-fcgi. A Unix
// socket of net.Listen has the permissions that the umask leaves it: for a web server
// of another user it needs an os.Chmod.
//
// It returns an error when l breaks, and when there are handlers that do not
// return though their contexts have ended: four seconds after that it gives up
// and says how many there are.
//
// It may be called several times at once, with different listeners: the limits
// hold for all of them together.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if l == nil {
		var err error
		if l, err = net.FileListener(os.Stdin); err != nil {
			return fmt.Errorf("serve descriptor 0: %w (a nil net.Listener is for a program that was started with its socket there)", err)
		}
	}
	s.once.Do(s.init)
	base := context.WithoutCancel(ctx)
	if s.BaseContext != nil {
		if base = s.BaseContext(l); base == nil {
			panic("fcgi: BaseContext returned a nil context")
		}
	}
	address := server.NewAddress(s.inner)
	address.Context = func(c net.Conn) context.Context {
		if s.ConnContext == nil {
			return base
		}
		ctx := s.ConnContext(base, c)
		if ctx == nil {
			panic("fcgi: ConnContext returned a nil context")
		}
		return ctx
	}
	return address.Serve(ctx, l)
}

func (s *Server) init() {
	log, h, grace := s.Log, s.Handler, s.ShutdownTimeout
	if log == nil {
		log = slog.Default()
	}
	if h == nil {
		h = HTTP(nil)
	}
	if grace == 0 {
		grace = forever
	}
	s.inner = server.New(server.Settings{
		Runner: function.New(function.Options{Call: callOf(h), Log: log}), InPlace: true,
		Limits: server.Limits{
			MaxConns: orDefault(s.MaxConns, defaultMaxConns), MaxReqs: orDefault(s.MaxReqs, defaultMaxReqs), Multiplex: !s.NoMultiplex,
			Queue: orDefault(s.MaxQueue, defaultQueue), QueueTimeout: max(0, s.QueueTimeout),
			Params: orDefault(s.MaxParams, defaultParams), Body: orDefault(s.MaxBody, defaultBody),
			BodyMemory: orDefault(s.BodyMemory, defaultBodyMemory), RequestBuffering: s.BufferRequests,
			ReadTimeout: max(0, s.ReadTimeout), WriteTimeout: max(0, s.WriteTimeout), IdleTimeout: max(0, s.IdleTimeout),
		},
		Timeout: max(0, s.Timeout), OnAbort: onAbort(s.IgnoreAbort),
		Grace: max(0, grace), Abandon: abandonAfter,
	}, server.Options{Log: log})
}

// orDefault is a limit as the server has it, where 0 is none.
func orDefault[T int | int64](given, standard T) T {
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
