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
