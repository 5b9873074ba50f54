package server

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/protocol"
)

// Who ends a request does not wait for the file of its body, which a disk may hold up for
// long, and with it the lock of that body: all requests of the connection would wait for it,
// and at max_conns each new connection. The program is told once that is free, by the cause.
func TestEndWaitsForNoFile(t *testing.T) {
	running, ended := make(chan *protocol.Request, 1), make(chan error, 1)
	s := startServer(t, nil, liveSettings(func(_ context.Context, req *protocol.Request) (uint32, error) {
		io.WriteString(req.Stdout, helloAnswer)
		running <- req
		_, err := io.Copy(io.Discard, req.Stdin)
		ended <- err
		return 0, err
	}))
	p := s.dial()
	p.send(begin(1, true), params(1))
	req := <-running
	body := req.Stdin.(*liveBody)
	body.mu.Lock() // as while its file is written
	killed := make(chan bool, 1)
	go func() {
		_, ok := s.Kill(req.Serial, errors.New("killed by a test"))
		killed <- ok
	}()
	select {
	case ok := <-killed:
		if !ok {
			t.Error("there is no request")
		}
	case <-time.After(10 * time.Second):
		t.Error("who ends the request waits for the lock of its body")
	}
	body.mu.Unlock()
	if err := <-ended; err == nil || err.Error() != "killed by a test" {
		t.Errorf("the program is told %v", err)
	}
	p.answer(1)
}
