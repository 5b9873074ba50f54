package spawn_test

import (
	"io"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/spawn"
)

// Programs with limits that several threads start at once are all started, also where a limiter
// does that.
func TestLimitedAtOnce(t *testing.T) {
	needRoot(t)
	t.Run("by threads of their own", startLimitedAtOnce)
	t.Run("by any thread", func(t *testing.T) {
		spawn.OwnAllThreads(t)
		startLimitedAtOnce(t)
	})
}

func startLimitedAtOnce(t *testing.T) {
	t.Helper()
	spawn.RefuseTrace(t) // for limits there is a limiter then
	limits := []spawn.Rlimit{{Name: "core", Resource: unix.RLIMIT_CORE}}
	l := new(spawn.Local)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 100 {
				cmd := &spawn.Command{Argv: []string{"/bin/true"}, Dir: "/", Identity: &spawn.Identity{UID: uint32(64301 + i), GID: 64301}, Sandbox: &spawn.Sandbox{Rlimits: limits}}
				if i%2 == 0 {
					cmd.Sandbox, cmd.Aside = nil, true
				}
				if err := spawn.Run(t.Context(), l, cmd, io.Discard); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}
