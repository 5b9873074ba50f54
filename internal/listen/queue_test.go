package listen

import (
	"errors"
	"net"
	"testing"

	"github.com/fcgid/fcgid/internal/polltest"
)

// wantQueue waits: the last packet of a TCP handshake may come after Dial returned.
func wantQueue(t *testing.T, l *Listener, want uint32) {
	t.Helper()
	polltest.Until(t, "accept queue as long as clients wait", func() bool {
		n, err := l.AcceptQueue()
		if err != nil {
			t.Fatal(err)
		}
		return n == want
	})
}

func testAcceptQueue(t *testing.T, l *Listener) {
	t.Helper()
	for waiting := range uint32(4) {
		if waiting > 0 {
			dial(t, l)
		}
		wantQueue(t, l, waiting)
	}
	for waiting := uint32(3); waiting > 0; waiting-- {
		accept(t, l)
		wantQueue(t, l, waiting-1)
	}
}

func TestAcceptQueue(t *testing.T) {
	tests := map[string]string{
		"path":     "unix:" + tempSocket(t),
		"abstract": abstractAddress(t),
		"tcp":      "tcp:127.0.0.1:0",
	}
	for name, address := range tests {
		t.Run(name, func(t *testing.T) {
			checkNoFDLeak(t)
			neighbour := mustOpen(t, Options{Address: "unix:" + tempSocket(t), Mode: 0o600})
			defer neighbour.Close()
			dial(t, neighbour)
			l := mustOpen(t, Options{Address: address, Mode: 0o600})
			testAcceptQueue(t, l)
			l.Close()
			if _, err := l.AcceptQueue(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("AcceptQueue after Close: %v", err)
			}
		})
	}
}

func TestParseUnixDiagQueueOfNonsense(t *testing.T) {
	for _, b := range [][]byte{nil, make([]byte, 15), make([]byte, 16), append(make([]byte, 16), 9, 0, 4, 0), append(make([]byte, 16), 4, 0, 4, 0)} {
		if n, err := parseUnixDiagQueue(b); err == nil {
			t.Errorf("% x: queue %d, want an error", b, n)
		}
	}
}
