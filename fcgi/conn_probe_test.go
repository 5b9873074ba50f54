package fcgi

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// newProbedPeer is newPeer with a Conn that may ask; asks gets the
// application's end of each connection on which it does.
func newProbedPeer(t *testing.T) (c *Conn, p *peer, asks chan *peer) {
	c, p = newPeer(t)
	asks = make(chan *peer, 10)
	c.redial = func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		asks <- &peer{t, far, protocol.NewReader(far)}
		return near, nil
	}
	return c, p, asks
}

func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, asks := newProbedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		two := start(t.Context(), c, &Request{})
		three := start(t.Context(), c, &Request{})
		probe := <-asks
		probe.values("1")
		probe.gone()
		if sum := p.request() + p.request(); sum != 2+3 { // in any order
			t.Errorf("sum of ids %d", sum)
		}
		for id := range uint16(3) {
			p.endOf(id + 1)
		}
		for _, x := range []*call{one, two, three} {
			<-x.done
			if x.err != nil {
				t.Error(x.err)
			}
		}
		if len(asks) > 0 {
			t.Error("asked twice")
		}
	})
}

// Whatever else comes of the question, the second request waits for its turn,
// and nobody asks again.
func TestProbeNo(t *testing.T) {
	for name, answer := range map[string]func(*peer){
		"0":       func(p *peer) { p.values("0") },
		"empty":   func(p *peer) { p.next(); p.send(protocol.TypeGetValuesResult, 0, "") },
		"unknown": func(p *peer) { p.next(); p.write(protocol.AppendUnknownType(nil, protocol.TypeGetValues)) },
		"closed":  func(p *peer) { p.next(); p.conn.Close() },
		"silent":  func(p *peer) { p.next(); p.gone() },
		"deaf":    func(*peer) { time.Sleep(2 * probeTimeout) },
		"garbage": func(p *peer) { p.next(); p.write([]byte("HTTP")) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, p, asks := newProbedPeer(t)
				one := start(t.Context(), c, &Request{})
				p.wantRequest(1)
				two := start(t.Context(), c, &Request{})
				answer(<-asks)
				three := start(t.Context(), c, &Request{})
				time.Sleep(time.Minute)
				if got := known(c); got != mpxNo || len(asks) > 0 {
					t.Errorf("mpx %d, asks %d times", got, 1+len(asks))
				}
				for _, x := range []*call{one, two, three} {
					if x != one {
						p.wantRequest(1)
					}
					p.endOf(1)
					x.want(t, "", 1)
				}
			})
		})
	}
}

// The turn may come before the answer, and the Conn may be closed before it.
func TestProbeNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, asks := newProbedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		two := start(t.Context(), c, &Request{})
		probe := <-asks
		p.endOf(1)
		one.want(t, "", 1)
		p.wantRequest(1)
		p.endOf(1)
		two.want(t, "", 1)
		begin := time.Now()
		probe.next()
		c.Close()
		probe.gone()
		if took := time.Since(begin); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
}

// One that never shares does not ask, nor does one that waits for it.
func TestProbeNotWithClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, asks := newProbedPeer(t)
		keep := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		sole := start(t.Context(), c, &Request{Close: true})
		synctest.Wait()
		p.endOf(1)
		keep.want(t, "", 1)
		p.wantRequest(1)
		after := start(t.Context(), c, &Request{})
		synctest.Wait()
		if len(asks) > 0 {
			t.Error("asked")
		}
		p.endOf(1)
		sole.want(t, "", 1)
		after.wantError(t, net.ErrClosed)
	})
}

// What Values was told counts, also when the probe comes to another end later.
func TestProbeValuesKnowsBetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p, asks := newProbedPeer(t)
		one := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		ctx, cancel := context.WithCancelCause(t.Context())
		two := start(ctx, c, &Request{})
		probe := <-asks
		cancel(errEnough)
		two.wantError(t, errEnough)
		p.endOf(1)
		one.want(t, "", 1)
		told := make(chan struct{})
		go func() {
			defer close(told)
			p.values("1")
		}()
		if _, err := c.Values(t.Context(), MpxsConns); err != nil {
			t.Error(err)
		}
		<-told
		probe.values("0")
		synctest.Wait()
		if got := known(c); got != mpxYes {
			t.Errorf("mpx %d", got)
		}
	})
}

// An application that stops reading holds up nobody for longer than the grace,
// and the neighbours stay: what was sent of theirs may still be answered.
func TestShareStuckPeer(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			c, p := listenAndDial(t, network)
			c.abortGrace = 50 * time.Millisecond
			c.mpx = mpxYes
			early := start(t.Context(), c, &Request{})
			p.wantRequest(1)
			endless := start(t.Context(), c, &Request{Stdin: zeros{}})
			p.head() // and nothing more
			for range 3 {
				ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errEnough)
				start(ctx, c, &Request{Stdin: strings.NewReader("x")}).wantError(t, errEnough)
				cancel()
			}
			p.send(protocol.TypeStdout, 1, "still here")
			p.endOf(1)
			early.want(t, "still here", 1)
			if endless.isDone() {
				t.Errorf("the neighbour has ended: %v", endless.err)
			}
			c.Close()
			<-endless.done
			if endless.err == nil {
				t.Error("no error after Close")
			}
		})
	}
}

// The stuck request itself is aborted when the application reads again.
func TestShareAbortLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		two := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		ctx, cancel := context.WithCancelCause(t.Context())
		one := start(ctx, c, &Request{Stdin: zeros{}})
		p.head()
		synctest.Wait()
		cancel(errEnough)
		one.wantError(t, errEnough)
		if rec := p.next(); rec.Type != protocol.TypeStdin || len(rec.Content) == 0 {
			t.Errorf("got %v", rec.Type)
		}
		p.want(protocol.TypeAbortRequest, "")
		p.endOf(1)
		two.want(t, "", 1)
	})
}

// An ABORT_REQUEST of which a part was taken leaves a connection that is of no use.
func TestShareAbortTorn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := newSharedPeer(t)
		two := start(t.Context(), c, &Request{})
		p.wantRequest(1)
		ctx, cancel := context.WithCancelCause(t.Context())
		one := start(ctx, c, &Request{})
		p.wantRequest(2)
		go cancel(errEnough)
		if _, err := p.conn.Read(make([]byte, 3)); err != nil {
			t.Error(err)
		}
		one.wantError(t, errEnough)
		two.wantError(t, ErrNoEnd)
		if !strings.Contains(two.err.Error(), "request pipe pipe: ") || errors.Is(two.err, errEnough) {
			t.Errorf("got %v", two.err)
		}
	})
}

// listenAndDial is newSocketPeer over a network of choice.
func listenAndDial(t *testing.T, network string) (*Conn, *peer) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = t.TempDir() + "/s"
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := Dial(t.Context(), network+":"+ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		far.Close()
		c.Wait()
	})
	return c, &peer{t, far, protocol.NewReader(far)}
}
