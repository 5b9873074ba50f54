package listen

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
)

// answerAll echoes the one byte that each client sends, until there is none any more.
func answerAll(l *Listener) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		clients.Go(func() {
			defer c.Close()
			b := make([]byte, 1) // io.Copy would make pipes that stay open
			if n, _ := c.Read(b); n > 0 {
				c.Write(b)
			}
		})
	}
}

// drainable are addresses of all kinds that are a process's own.
func drainable(t *testing.T) map[string]string {
	return map[string]string{
		"path": "unix:" + tempSocket(t), "abstract": abstractAddress(t),
		"tcp": "tcp:127.0.0.1:0", "any": "tcp:0.0.0.0:0", "v6": "tcp:[::1]:0",
	}
}

func openToDrain(t *testing.T, address string) *Listener {
	t.Helper()
	l, err := Open(t.Context(), Options{Address: address, Mode: 0o600})
	if strings.Contains(address, "::1") && err != nil {
		t.Skipf("this host has no IPv6 loopback: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// What the kernel has accepted gets its answer, whoever comes later is refused, and
// nobody is reset.
func TestDrainUnderLoad(t *testing.T) {
	checkNoFDLeak(t)
	addresses := drainable(t)
	delete(addresses, "any") // to the kernel as "tcp" is
	for name, address := range addresses {
		t.Run(name, func(t *testing.T) {
			answered := 0
			for range 60 {
				answered += drainUnderLoad(t, address)
			}
			if answered == 0 {
				t.Error("nobody was answered")
			}
		})
	}
}

func drainUnderLoad(t *testing.T, address string) (answered int) {
	l := openToDrain(t, address)
	served := make(chan error, 1)
	go func() { served <- answerAll(l) }()
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	var n atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for ctx.Err() == nil && askOnce(ctx, t, l.Addr()) {
				n.Add(1)
			}
		})
	}
	polltest.Until(t, "20 answers", func() bool { return n.Load() >= 20 })
	if err := l.Drain(); err != nil {
		t.Errorf("drain: %v", err)
	}
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after the last connection: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	enough()
	clients.Wait()
	return int(n.Load())
}

// askOnce reports whether it was answered. Not to be let in is no fault; to be let
// in and get no answer is. A client whose SYN is dropped would send another one a
// second later; ctx ends the wait.
func askOnce(ctx context.Context, t *testing.T, addr net.Addr) bool {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, addr.Network(), addr.String())
	if err != nil {
		refused := ctx.Err() != nil || errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, os.ErrNotExist)
		if !refused {
			t.Errorf("connect: %v", err)
		}
		return false
	}
	defer c.Close()
	b := []byte{'x'}
	_, err = c.Write(b)
	if err == nil {
		_, err = io.ReadFull(c, b)
	}
	if err != nil {
		t.Errorf("was connected and not answered: %v", err)
	}
	return err == nil
}

// Those that wait when nobody has called Accept yet are returned too.
func TestDrainReturnsWhatWaits(t *testing.T) {
	checkNoFDLeak(t)
	for name, address := range drainable(t) {
		t.Run(name, func(t *testing.T) {
			l := openToDrain(t, address)
			defer l.Close()
			for range 5 {
				dial(t, l)
			}
			for range 2 { // again is nothing new
				if err := l.Drain(); err != nil {
					t.Fatal(err)
				}
			}
			if path, isPath := strings.CutPrefix(address, "unix:/"); isPath {
				wantNoFile(t, "/"+path)
			}
			for range 5 {
				accept(t, l).Close()
			}
			for range 3 {
				if c, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
					t.Errorf("accept: %v, %v", c, err)
				}
			}
		})
	}
}

// Of a socket that another Listener has, too, nothing is taken away.
func TestDrainOfASharedSocket(t *testing.T) {
	checkNoFDLeak(t)
	for name, address := range drainable(t) {
		t.Run(name, func(t *testing.T) {
			first := openToDrain(t, address)
			dial(t, first)
			second, err := first.Dup(first.Options().Address)
			if err != nil {
				t.Fatal(err)
			}
			defer second.Close()
			first.Disown()
			done := serve(first)
			if err := first.Drain(); err != nil {
				t.Error(err)
			}
			if err := <-done; !errors.Is(err, net.ErrClosed) {
				t.Errorf("accept: %v", err)
			}
			dial(t, second)
			accept(t, second)
		})
	}
}

// A nudge wakes whoever waits in Accept, once, and loses no client.
func TestNudge(t *testing.T) {
	for _, address := range []string{"unix:" + t.TempDir() + "/s", "tcp:127.0.0.1:0"} {
		l, err := Open(context.Background(), Options{Address: address, Mode: 0o600})
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan error)
		go func() {
			for {
				c, err := l.Accept()
				if err == nil {
					c.Close()
				}
				accepted <- err
				if errors.Is(err, net.ErrClosed) {
					return
				}
			}
		}()
		for range 3 {
			if err := l.Nudge(); err != nil {
				t.Fatal(err)
			}
			if err := <-accepted; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: a nudged Accept returns %v", address, err)
			}
			c, err := net.Dial(l.Addr().Network(), l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if err := <-accepted; err != nil {
				t.Errorf("%s: the next Accept returns %v", address, err)
			}
			c.Close()
		}
		if err := l.Drain(); err != nil {
			t.Error(err)
		}
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: drained: %v", address, err)
		}
		if err := l.Nudge(); err != nil {
			t.Errorf("%s: nudged when it drains: %v", address, err)
		}
		l.Close()
		if err := l.Nudge(); err != nil {
			t.Errorf("%s: nudged when it is closed: %v", address, err)
		}
	}
}
