package fcgi

import (
	"context"
	"net"
	"time"
)

// probeTimeout is how long an application may take to say that it multiplexes.
const probeTimeout = time.Second

// A multiplexing is what is known of an application's FCGI_MPXS_CONNS (section 4.1).
type multiplexing uint8

const (
	mpxUnknown multiplexing = iota
	mpxAsked                // a probe is on its way
	mpxNo
	mpxYes
	mpxRefused // it has answered CANT_MPX_CONN, so nothing it says counts
)

// askOnce asks, unless somebody has or there is no address to ask at. It needs mu.
func (c *Conn) askOnce() {
	if c.mpx != mpxUnknown || c.redial == nil {
		return
	}
	c.mpx = mpxAsked
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	c.stopProbe = cancel
	c.own.Go(func() {
		defer cancel()
		answer := mpxNo
		if probe(ctx, c.redial) {
			answer = mpxYes
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.mpx == mpxAsked { // a call of Values may know better
			c.learn(answer)
		}
	})
}

// probe asks on a connection of its own: an application that closes it, or does
// not answer, does no harm to the other.
func probe(ctx context.Context, dial func(context.Context) (net.Conn, error)) bool {
	conn, err := dial(ctx)
	if err != nil {
		return false
	}
	c := NewConn(conn)
	defer c.Close()
	values, err := c.Values(ctx, MpxsConns)
	return err == nil && values[MpxsConns] == "1"
}

// learn needs mu.
func (c *Conn) learn(m multiplexing) {
	if c.mpx == mpxRefused {
		return
	}
	c.mpx = m
	c.admit()
}
