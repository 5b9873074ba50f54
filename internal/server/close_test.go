package server

import (
	"net"
	"path/filepath"
	"testing"
)

// A kept connection is closed by a drain, but not when its next request has
// arrived and was not read: its client cannot know that it has to go elsewhere.
func TestDrainLooksForARequestThatHasArrived(t *testing.T) {
	for _, network := range []string{"unix", "tcp", "embedded"} {
		for _, arrived := range []bool{false, true} {
			client, accepted := connected(t, network)
			c := newConn(NewAddress(New(testSettings(hello), Options{})), accepted)
			c.table.used = true
			if arrived {
				if _, err := client.Write(begin(1, true)); err != nil {
					t.Fatal(err)
				}
			}
			c.table.drain()
			if got := c.in.until.Load() != 0; got != arrived {
				t.Errorf("%s: a request has arrived: %v; is waited for: %v", network, arrived, got)
			}
			if _, err := accepted.Read(make([]byte, 1)); (err == nil) != arrived {
				t.Errorf("%s: a request has arrived: %v; read: %v", network, arrived, err)
			}
		}
	}
}

// What a client still sends of a request that is answered does not cost it the answer to
// a later one, after which the connection is closed: it is read.
func TestCloseAfterAnotherWasAnsweredEarly(t *testing.T) {
	s := listen(t, "unix", liveSettings(hello))
	p := s.connect()
	p.send(begin(1, true), params(1))
	p.wantAnswer(1, helloAnswer, 0)
	p.send(get(2, false))
	p.wantAnswer(2, helloAnswer, 0)
	p.wantClosed()
	if _, err := p.nc.Write(part(1, "late")); err != nil {
		t.Errorf("the connection is closed for what is still to come: %v", err)
	}
	p.nc.Close()
}

// A request of which all has come keeps nothing open, though it was answered before.
func TestCloseAfterTheRestHasCome(t *testing.T) {
	for name, rest := range map[string][]byte{"end": append(part(1, "late"), part(1, "")...), "abort": abort(1), "again": get(1, true)} {
		t.Run(name, func(t *testing.T) {
			s := listen(t, "unix", liveSettings(hello))
			p := s.connect()
			p.send(begin(1, true), params(1))
			p.wantAnswer(1, helloAnswer, 0)
			p.send(rest)
			if name == "again" {
				p.wantAnswer(1, helloAnswer, 0)
			}
			p.send(get(2, true))
			p.wantAnswer(2, helloAnswer, 0)
			s.Server.mu.Lock()
			defer s.Server.mu.Unlock()
			for c := range s.Server.conns {
				c.table.mu.Lock()
				if n := len(c.table.trailing); n != 0 {
					t.Errorf("%d requests are to come", n)
				}
				c.table.mu.Unlock()
			}
			p.nc.Close()
		})
	}
}

// An embedding has a socket's methods, but is another type.
type embedding struct{ *net.TCPConn }

// connected is a connection from both sides.
func connected(t *testing.T, network string) (client, accepted net.Conn) {
	t.Helper()
	transport, address := "tcp", "127.0.0.1:0"
	if network == "unix" {
		transport, address = network, filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(transport, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial(transport, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); accepted.Close() })
	if network == "embedded" {
		accepted = embedding{accepted.(*net.TCPConn)}
	}
	return client, accepted
}
