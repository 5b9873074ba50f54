package server

import (
	"net"
	"testing"
	"time"
)

// A drain that waits for a connection alone, whose Runners have all returned, does not give them
// up: none is left.
func TestDrainWithoutRunners(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nc, peer := net.Pipe()
		defer peer.Close()
		a := NewAddress(New(testSettings(hello), Options{}))
		c := newConn(a, nc)
		a.conns[c] = true
		drained := make(chan error, 1)
		go func() { drained <- a.drain(0, time.Second) }()
		time.Sleep(time.Minute) // of the bubble
		if len(drained) > 0 {
			t.Fatalf("it is given up: %v", <-drained)
		}
		a.mu.Lock()
		delete(a.conns, c)
		a.closeIfGoneLocked()
		a.mu.Unlock()
		if err := <-drained; err != nil {
			t.Error(err)
		}
	})
}
