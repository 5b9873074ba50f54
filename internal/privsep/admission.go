package privsep

import (
	"errors"
	"sync"

	"github.com/fcgid/fcgid/internal/protocol"
)

// How much a spawner has at work at once. An answer may hang, as the file system that a pool's
// scripts are on may: each one is a goroutine then, a thread, three descriptors and what came
// with the question, and the other pools' programs are to be started and ended meanwhile.
// Beyond these numbers a question is refused.
const (
	maxOfPool      = 1024      // of one pool, or what it may have running, if that is more
	maxBytesOfPool = 32 << 20  // of bodies
	maxAtWork      = 2048      // of all pools
	maxBytesAtWork = 256 << 20 // likewise

	// Each pool has room for some however many others hang, if they are not large; and for one
	// of any size.
	reserved     = 64
	reservedBody = 64 << 10

	// Orders about programs are not refused. All end at once but those for which the daemon takes
	// no answer, and those that wait for a program's end: one of each program.
	maxOrders = 8192
)

var errBusy = &protocol.Refusal{HTTPStatus: 503, AppStatus: 503, Reason: errors.New("the process that starts programs is busy: too many starts of the pool hang, or of all pools")}

// refuseBusy is the answer to what there is no room for.
func refuseBusy(m *Message) (*Message, error) {
	if isOfPool(m.Kind) {
		return nil, refusalOf(errBusy)
	}
	return nil, errors.New("the process that starts programs is busy")
}

func isOfPool(k Kind) bool { return k >= KindResolve && k <= KindStartTracer }

// An admission keeps count of what is at work.
type admission struct {
	most   func(pool string) int // how many programs a pool may have; 0: there is no such pool
	orders chan struct{}

	mu    sync.Mutex // guards the fields below
	all   load
	pools map[poolKey]load
}

type load struct{ n, bytes int }

// A poolKey is a pool. The zero one is all that is of none.
type poolKey struct {
	isPool bool
	name   string
}

func newAdmission(most func(pool string) int) *admission {
	return &admission{most: most, orders: make(chan struct{}, maxOrders), pools: make(map[poolKey]load)}
}

// admit reports whether there is room for a question, and returns what is to be called when it
// was answered.
func (a *admission) admit(m *Message) (release func(), ok bool) {
	if m.Kind == KindSignal {
		a.orders <- struct{}{}
		return func() { <-a.orders }, true
	}
	key, most := poolKey{}, reserved
	if isOfPool(m.Kind) {
		if name := poolOf(m); a.most(name) > 0 {
			key, most = poolKey{true, name}, max(maxOfPool, a.most(name))
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now, size := a.pools[key], len(m.Body)
	isReserved := now.n < reserved && size <= reservedBody || now.n == 0
	fits := now.n < most && now.bytes+size <= maxBytesOfPool && a.all.n < maxAtWork && a.all.bytes+size <= maxBytesAtWork
	if !isReserved && !fits {
		return nil, false
	}
	a.addLocked(key, 1, size)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.addLocked(key, -1, -size)
	}, true
}

func (a *admission) addLocked(key poolKey, n, bytes int) {
	now := a.pools[key]
	now = load{now.n + n, now.bytes + bytes}
	if a.pools[key] = now; now.n == 0 {
		delete(a.pools, key)
	}
	a.all = load{a.all.n + n, a.all.bytes + bytes}
}

// poolOf is the name of the pool that a question is about, "" if it has none.
func poolOf(m *Message) string {
	d := decoder{b: m.Body}
	if m.Kind != KindResolve {
		d.uint() // handle
	}
	d.uint() // generation
	return d.string()
}
