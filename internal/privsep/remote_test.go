package privsep

import (
	"context"
	"sync"
	"testing"

	"github.com/fcgid/fcgid/internal/spawn"
)

// A start that is refused while nobody waits for it any more has ended.
func TestRefusedWhenGivenUp(t *testing.T) {
	a, b := newConns(t)
	client := NewClient(a)
	r := NewRemote(client)
	var running sync.WaitGroup
	running.Go(func() { client.Run() })
	cancels := make(chan context.CancelFunc, 1)
	running.Go(func() {
		Serve(b, func(m *Message) (*Message, error) {
			if m.Kind == KindStartWorker {
				(<-cancels)()
			}
			return nil, &Refusal{[]byte("no")}
		})
	})
	for range 300 {
		ctx, giveUp := context.WithCancel(context.Background())
		cancels <- giveUp
		pool := &remotePool{Remote: r, name: "p"}
		if _, _, err := pool.start(ctx, KindStartWorker, new(spawn.IO), func(b []byte) []byte { return b }); err == nil {
			t.Fatal("it was started")
		}
		giveUp()
	}
	a.Close()
	b.Close()
	returns(t, "the end of what was given up", r.Gone)
	running.Wait()
}
