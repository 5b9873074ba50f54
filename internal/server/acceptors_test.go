package server

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

var errBroken = errors.New("broken")

// A breakingListener is one whose Accept fails from some moment on.
type breakingListener struct {
	conns  chan net.Conn
	broken chan struct{}
	closed chan struct{}
}

func (l *breakingListener) Accept() (net.Conn, error) {
	select {
	case nc := <-l.conns:
		return nc, nil
	case <-l.broken:
		return nil, errBroken
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *breakingListener) Close() error {
	close(l.closed)
	return nil
}

func (l *breakingListener) Addr() net.Addr { return &net.UnixAddr{Name: "breaks", Net: "unix"} }

// When a listener breaks, Serve returns though some of those who accept wait for room.
func TestBrokenListenerAtMaxConns(t *testing.T) {
	withCPUs(t, 17) // two that accept
	// It is the first one that waits for room, and then the other one, or the other way round.
	for range 8 {
		bubble(t, func(t *testing.T) {
			settings := testSettings(untilDone)
			settings.Limits.MaxConns, settings.Grace = 1, time.Second
			l := &breakingListener{make(chan net.Conn), make(chan struct{}), make(chan struct{})}
			served := make(chan error, 1)
			go func() { served <- NewAddress(New(settings, Options{})).Serve(t.Context(), l) }()
			for range 2 {
				client, ours := net.Pipe()
				defer client.Close()
				l.conns <- ours
				go client.Write(get(1, true)) // what waits is not read
				synctest.Wait()
			}
			close(l.broken)
			select {
			case err := <-served:
				if !errors.Is(err, errBroken) {
					t.Error(err)
				}
			case <-time.After(time.Hour):
				t.Error("Serve has not returned")
			}
		})
	}
}
