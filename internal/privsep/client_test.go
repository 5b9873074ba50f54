package privsep

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
)

// fill has a socket be full, whose other end receives nothing, of messages that are told. It
// returns how many.
func fill(t *testing.T, c *Conn) (n int) {
	t.Helper()
	rc, err := c.conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	message := appendHeader(nil, &Message{Kind: KindSignal}, false)
	rc.Write(func(fd uintptr) bool {
		for ; err == nil; n++ {
			_, err = unix.SendmsgN(int(fd), message, nil, nil, unix.MSG_DONTWAIT)
		}
		return true
	})
	if err != unix.EAGAIN {
		t.Fatal(err)
	}
	return n - 1
}

// A spawner that takes nothing, as it is stopped, holds up nobody for ever: not who has told it something,
// nor who asks. When it goes on, it gets what it was told, and nothing else.
func TestStoppedSpawnerHoldsUpNobody(t *testing.T) {
	a, b := newConns(t)
	client := NewClient(a)
	client.patience = 50 * time.Millisecond
	told := fill(t, a)
	var running, asking sync.WaitGroup
	running.Go(func() { client.Run() })
	returns(t, "what is told", func() {
		for range 3 {
			client.Tell(KindSignal, []byte("later"))
		}
	})
	for range 3 {
		asking.Go(func() {
			if _, err := client.Ask(context.Background(), KindReload, nil); !errors.Is(err, errDeaf) {
				t.Errorf("asked: %v", err)
			}
		})
	}
	returns(t, "a question without an answer", asking.Wait)
	var later, earlier, others atomic.Int64
	running.Go(func() {
		Serve(b, func(m *Message) (*Message, error) {
			switch {
			case m.Kind == KindReload:
				others.Add(1)
			case string(m.Body) == "later":
				later.Add(1)
			default:
				earlier.Add(1)
			}
			return nil, nil
		})
	})
	polltest.Until(t, "it to get what it was told", func() bool { return later.Load() == 3 && earlier.Load() == int64(told) })
	if _, err := client.Ask(t.Context(), KindReload, nil); err != nil || others.Load() != 1 {
		t.Errorf("when it goes on: %v, it has got %d questions", err, others.Load())
	}
	a.Close()
	running.Wait()
}

// Who gives up asking such a spawner does so at once.
func TestGivenUpBeforeMessage(t *testing.T) {
	a, _ := newConns(t)
	client := NewClient(a)
	client.patience = time.Hour
	fill(t, a)
	ctx, giveUp := context.WithCancelCause(t.Context())
	why := errors.New("why")
	var asking sync.WaitGroup
	for range 3 {
		asking.Go(func() {
			if _, err := client.Ask(ctx, KindReload, nil, 1); !errors.Is(err, why) {
				t.Errorf("given up: %v", err)
			}
		})
	}
	giveUp(why)
	returns(t, "a question that is given up", asking.Wait)
}

// Who gives up while a large question is on its way ends nobody's session.
func TestGivenUpAmidMessage(t *testing.T) {
	a, b := newConns(t)
	client := NewClient(a)
	var running sync.WaitGroup
	running.Go(func() { client.Run() })
	ctx, giveUp := context.WithCancelCause(t.Context())
	why, answered := errors.New("why"), make(chan error, 1)
	running.Go(func() {
		_, err := client.Ask(ctx, KindStartCGI, make([]byte, maxBody))
		answered <- err
	})
	first, rest := new(Message), new(Message)
	if isMore, err := b.receivePart(first, true); !isMore || err != nil {
		t.Fatal(isMore, err)
	}
	giveUp(why)
	rest.Kind, rest.ID = first.Kind, first.ID
	for isMore, err := true, error(nil); isMore; {
		if isMore, err = b.receivePart(rest, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-answered; err != why {
		t.Errorf("given up: %v", err)
	}
	if n := len(first.Body) + len(rest.Body); n != maxBody {
		t.Errorf("%d bytes have come", n)
	}
	running.Go(func() { Serve(b, func(*Message) (*Message, error) { return nil, nil }) })
	if _, err := client.Ask(t.Context(), KindReload, nil); err != nil {
		t.Errorf("the next question: %v", err)
	}
	a.Close()
	running.Wait()
}

// A spawner that takes a part of a question, and not the rest, is given up: it could not tell that from the next one.
func TestStoppedAmidMessage(t *testing.T) {
	a, _ := newConns(t)
	client := NewClient(a)
	client.patience = 50 * time.Millisecond
	var running sync.WaitGroup
	running.Go(func() { client.Run() })
	if _, err := client.Ask(context.Background(), KindStartCGI, make([]byte, maxBody)); !errors.Is(err, errDeaf) {
		t.Errorf("asked: %v", err)
	}
	returns(t, "the session", running.Wait)
	if _, err := client.Ask(context.Background(), KindReload, nil); !errors.Is(err, ErrGone) {
		t.Errorf("the next question: %v", err)
	}
}
