package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fcgid/fcgid/internal/config"
	"github.com/fcgid/fcgid/internal/listen"
	"github.com/fcgid/fcgid/internal/logs"
	"github.com/fcgid/fcgid/internal/status"
)

// A Peer is who has sent an order, as the kernel tells (SO_PEERCRED, unix(7)).
type Peer struct {
	UID uint32
	PID int32

	conn syscall.Conn
}

// ErrLeft is why an order is not carried out whose client has gone meanwhile: it was told
// that the order had failed, and may have given another one.
var ErrLeft = errors.New("who has ordered it waits for it no more, so it is not carried out")

// HasLeft reports whether nobody waits for the reply any more. Unlike the context of the
// order it is right at once: that ends when a goroutine has been told by the kernel, which
// after a stop of the process may be after the order was read, and its turn had come.
func (p Peer) HasLeft() bool { return p.conn != nil && listen.HasLeft(p.conn) }

// An Operator carries out what the control socket is asked for. Its methods are called
// by many goroutines.
type Operator interface {
	Status() *status.Page
	// Do carries out an order, and returns when that has come to its end or ctx has. The
	// peer has not left when it is called; before an order that had to wait for its turn is
	// begun, Do looks again.
	Do(ctx context.Context, by Peer, o status.Order) status.Reply
}

const (
	// maxOrders is how many clients the control socket has at once; more wait in the kernel.
	maxOrders = 64
	// clientTime is how long a client may take to send its order, and to take the reply.
	clientTime = 10 * time.Second
	// maxOrder is the size of an order.
	maxOrder = 1 << 20
)

// ControlOptions say what a Control has for life.
type ControlOptions struct {
	Daemon Operator
	Log    *slog.Logger
	Binder listen.Binder
}

// A Control is the server of the control socket: orders by HTTP, of root and of the
// daemon's own user. Its methods are called by one goroutine.
type Control struct {
	opt        ControlOptions
	clientTime time.Duration
	srv        *http.Server
	slots      chan struct{} // maxOrders
	closed     chan struct{} // closed when nobody is let in any more
	closer     *closer       // of srv
	closing    sync.Once
	l          *listen.Listener
	serving    sync.WaitGroup
}

// NewControl returns a Control that serves nothing yet.
func NewControl(o ControlOptions) *Control { return newControl(o, clientTime) }

func newControl(o ControlOptions, clientTime time.Duration) *Control {
	c := &Control{opt: o, clientTime: clientTime, slots: make(chan struct{}, maxOrders), closed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { c.reply(w, http.StatusOK, o.Daemon.Status()) })
	mux.HandleFunc("POST /orders", c.order)
	c.srv = &http.Server{
		Handler: c.guard(mux), ConnContext: withPeer,
		ReadHeaderTimeout: clientTime, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelInfo),
	}
	c.srv.SetKeepAlivesEnabled(false)
	c.closer = newCloser(c.srv)
	return c
}

// Listen serves at a path, and no more at the one before.
func (c *Control) Listen(ctx context.Context, path string) error {
	l, err := listen.OpenBy(ctx, c.opt.Binder, listen.Options{Address: "unix:" + path, Mode: config.ControlMode})
	if err != nil {
		return err
	}
	if c.l != nil {
		c.l.Close()
	}
	c.l = l
	c.serving.Go(func() {
		// It ends when the socket is closed; one that breaks takes no orders, and no request.
		if err := c.srv.Serve(slotted{l, c.slots, c.closed}); !errors.Is(err, net.ErrClosed) {
			c.opt.Log.Error("the control socket takes no more orders", "error", err)
		}
	})
	return nil
}

// Listener is what it listens on, or nil.
func (c *Control) Listener() *listen.Listener { return c.l }

// IsLost reports whether nobody can reach the socket by its name any more.
func (c *Control) IsLost() bool { return c.l.IsLost() }

// Close ends the serving, once those who wait have their replies, or after a moment.
// It may be called again, by any goroutine.
func (c *Control) Close() {
	c.closing.Do(func() {
		close(c.closed)
		if c.l != nil {
			c.l.Close()
		}
		c.serving.Wait()
		c.closer.end(c.srv)
	})
}

// slotted is a listener that lets in only as many clients as there are slots.
type slotted struct {
	*listen.Listener
	slots  chan struct{}
	closed chan struct{}
}

// Accept returns the next client once there is a slot for it.
func (s slotted) Accept() (net.Conn, error) {
	select {
	case s.slots <- struct{}{}:
	case <-s.closed:
		return nil, net.ErrClosed
	}
	conn, err := s.Listener.Accept()
	if err != nil {
		<-s.slots
		return nil, err
	}
	return &slottedConn{Conn: conn, free: sync.OnceFunc(func() { <-s.slots })}, nil
}

type slottedConn struct {
	net.Conn
	free func()
}

// Close frees the slot.
func (c *slottedConn) Close() error {
	defer c.free()
	return c.Conn.Close()
}

type peerKey struct{}

// withPeer keeps in a connection's context who is at its other end, if the kernel tells.
func withPeer(ctx context.Context, nc net.Conn) context.Context {
	unixConn, ok := nc.(*slottedConn).Conn.(syscall.Conn)
	if !ok || nc.LocalAddr().Network() != "unix" {
		return ctx
	}
	cred, err := listen.PeerOf(unixConn)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, Peer{UID: cred.Uid, PID: cred.Pid, conn: unixConn})
}

// guard lets root and the daemon's own user in, whatever the mode of the file has become.
func (c *Control) guard(next http.Handler) http.Handler {
	refusals := logs.Sampled(c.opt.Log)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		by, known := r.Context().Value(peerKey{}).(Peer)
		if !known || by.UID != 0 && by.UID != uint32(os.Geteuid()) {
			refusals.Warn("order refused", "uid", by.UID, "by_pid", by.PID, "error", "only root and the daemon's user may")
			who := "only root may, whose daemon it is"
			if uid := os.Geteuid(); uid != 0 {
				who = fmt.Sprintf("only root and the daemon's user may, uid %d", uid)
			}
			c.reply(w, http.StatusForbidden, status.Reply{Error: fmt.Sprintf("uid %d may not: %s", by.UID, who)})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// order reads an order and answers with what becomes of it.
func (c *Control) order(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(c.clientTime))
	var o status.Order
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxOrder))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&o); err != nil {
		c.reply(w, http.StatusBadRequest, status.Reply{Error: fmt.Sprintf("read the order: %v", err)})
		return
	}
	control.SetReadDeadline(time.Time{}) // it would end the context of an order that waits
	by := r.Context().Value(peerKey{}).(Peer)
	if by.HasLeft() {
		c.opt.Log.Warn("order refused", "verb", o.Verb, "uid", by.UID, "by_pid", by.PID, "error", ErrLeft)
		c.reply(w, http.StatusRequestTimeout, status.Reply{Error: ErrLeft.Error()})
		return
	}
	c.reply(w, http.StatusOK, c.opt.Daemon.Do(r.Context(), by, o))
}

// reply answers with JSON, to a client that takes it.
func (c *Control) reply(w http.ResponseWriter, code int, value any) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(c.clientTime))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(value)
}
