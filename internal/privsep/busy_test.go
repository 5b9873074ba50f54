package privsep

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/protocol"
)

// startBody is that of KindStartCGI for a pool, and of some size beside.
func startBody(pool string, size int) []byte {
	return append(appendString(appendUint(appendUint(nil, 1), 1), pool), make([]byte, size)...)
}

// A pool whose scripts cannot be looked at, as their file system hangs, keeps no other one from
// being served, and no program from being ended, however many and large its starts are.
func TestHungPoolHoldsUpNobody(t *testing.T) {
	for name, test := range map[string]struct{ starts, size int }{
		"many":  {3000, 0},
		"large": {300, 256 << 10},
		"huge":  {30, maxBody - 100},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newConns(t)
			client := NewClient(a)
			release := make(chan struct{})
			var running, asking sync.WaitGroup
			var hung atomic.Int64
			var bytes atomic.Int64
			running.Go(func() { client.Run() })
			running.Go(func() {
				Serve(b, func(m *Message) (*Message, error) {
					if strings.Contains(string(m.Body[:min(len(m.Body), 40)]), "hung") {
						hung.Add(1)
						bytes.Add(int64(len(m.Body)))
						<-release
					}
					return nil, nil
				})
			})
			var refused, answered atomic.Int64
			for range test.starts {
				asking.Go(func() {
					_, err := client.Ask(context.Background(), KindStartCGI, startBody("hung", test.size))
					var ref *protocol.Refusal
					switch {
					case err == nil:
						answered.Add(1)
					case errors.As(errorOf(err), &ref) && ref.HTTPStatus == 503 && strings.Contains(ref.Error(), "is busy"):
						refused.Add(1)
					default:
						t.Errorf("a start: %v", err)
					}
				})
			}
			polltest.Until(t, "all starts to hang or to be refused", func() bool { return hung.Load()+refused.Load() == int64(test.starts) })
			if refused.Load() == 0 || hung.Load() == 0 || bytes.Load() > 64<<20 {
				t.Errorf("%d hang with %d bytes, %d are refused", hung.Load(), bytes.Load(), refused.Load())
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for kind, body := range map[Kind][]byte{
				KindSignal: nil, KindReload: nil, KindCommit: nil, KindStartCGI: startBody("other", 300<<10), KindStartWorker: startBody("workers", 0),
			} {
				if _, err := client.Ask(ctx, kind, body); err != nil {
					t.Errorf("kind %d beside it: %v", kind, err)
				}
			}
			close(release)
			asking.Wait()
			if _, err := client.Ask(ctx, KindStartCGI, startBody("hung", test.size)); err != nil {
				t.Errorf("when nothing hangs any more: %v", err)
			}
			a.Close()
			running.Wait()
		})
	}
}

// Many pools that hang leave some room to each other one, and names that are no pool's take none of it.
func TestHungPoolsLeaveRoom(t *testing.T) {
	known := func(pool string) int {
		if strings.HasPrefix(pool, "pool") {
			return 10
		}
		return 0
	}
	adm := newAdmission(known)
	start := func(pool string, size int) bool {
		_, ok := adm.admit(&Message{Kind: KindStartCGI, Body: startBody(pool, size)})
		return ok
	}
	for i := range 10 {
		for range 2 * maxOfPool {
			start(fmt.Sprint("pool", i), 0)
		}
	}
	for i := range 10 * maxAtWork {
		start(fmt.Sprint("no", i), 0)
	}
	if most := maxAtWork + 20*reserved; adm.all.n > most {
		t.Errorf("%d are at work, and %d may be", adm.all.n, most)
	}
	for range reserved {
		if !start("pool-other", 1000) {
			t.Fatal("there is no room for another pool")
		}
	}
	if start("pool-other", 1000) {
		t.Error("there is more room than there may be")
	}
}
