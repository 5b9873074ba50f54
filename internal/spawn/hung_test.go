package spawn_test

import (
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// What executes a program of one user waits for the file system; nobody else's programs do.
func TestHungExecHoldsUpNobody(t *testing.T) {
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("there is nothing that starts programs of others on this architecture")
	}
	dir := openFolder(t)
	one, other := &spawn.Identity{UID: 64301, GID: 64301}, &spawn.Identity{UID: 64302, GID: 64302}
	limits := []spawn.Rlimit{{Name: "core", Resource: unix.RLIMIT_CORE}}
	for name, box := range map[string]*spawn.Sandbox{
		"plain": nil, "limits": {Rlimits: limits}, "Landlock": {NoNewPrivs: true, Read: []string{"/"}}, "nice": {NoNewPrivs: true, Nice: 1},
	} {
		t.Run(name, func(t *testing.T) {
			file := dir + "/" + name
			release := runnertest.Leased(t, file)
			l := new(spawn.Local)
			var hung sync.WaitGroup
			var said strings.Builder
			// More than there are threads to start programs.
			const many = 8
			results := make(chan error, many)
			for range many {
				hung.Go(func() {
					results <- spawn.Run(t.Context(), l, &spawn.Command{Argv: []string{file}, Dir: "/", Identity: one, Sandbox: box, Aside: true}, io.Discard)
				})
			}
			polltest.Until(t, "all of them to wait", func() bool { return waiting(64301)+len(results) == many })
			err := spawn.Run(t.Context(), l, &spawn.Command{Argv: []string{"/bin/sh", "-c", "echo other; id -u; pwd"}, Dir: dir, Identity: other, Env: []string{"PATH=/usr/bin:/bin"}}, &said)
			if want := "other\n64302\n" + dir + "\n"; err != nil || said.String() != want {
				t.Errorf("another user's program: %v, %q", err, said.String())
			}
			if n := len(results); n > 0 {
				t.Errorf("%d of the first have not waited: %v", n, <-results)
			}
			release()
			hung.Wait()
			for range len(results) {
				if err := <-results; err != nil {
					t.Errorf("when it is released: %v", err)
				}
			}
		})
	}
}

// Who gives up a start does not wait for the file system.
func TestHungExecIsGivenUp(t *testing.T) {
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("there is nothing that starts programs of others on this architecture")
	}
	file := openFolder(t) + "/hangs"
	runnertest.Leased(t, file)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	result, l := make(chan error, 1), new(spawn.Local)
	go func() {
		_, err := l.Start(ctx, &spawn.Command{Argv: []string{file}, Dir: "/", Identity: &spawn.Identity{UID: 64303, GID: 64303}, Aside: true})
		result <- err
	}()
	polltest.Until(t, "it to wait", func() bool { return waiting(64303) == 1 })
	cause := errors.New("nobody wants it any more")
	cancel(cause)
	select {
	case err := <-result:
		if err != cause || l.Len() > 0 || waiting(64303) > 0 {
			t.Errorf("%v, and %d programs are left", err, waiting(64303))
		}
	case <-time.After(20 * time.Second): // the kernel ends the lease later
		t.Error("it is still waited for")
	}
}

// When all programs are killed, so are those that are being executed still, and those that are from
// then on.
func TestHungExecIsKilled(t *testing.T) {
	needRoot(t)
	if runtime.GOARCH != "amd64" {
		t.Skip("there is nothing that starts programs of others on this architecture")
	}
	file := openFolder(t) + "/hangs"
	runnertest.Leased(t, file)
	cmd := &spawn.Command{Argv: []string{file}, Dir: "/", Env: []string{}, Identity: &spawn.Identity{UID: 64304, GID: 64304}, Aside: true}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	runnertest.Must(t, err)
	defer null.Close()
	files := [3]int{int(null.Fd()), int(null.Fd()), int(null.Fd())}
	l, results := new(spawn.Local), make(chan error, 3)
	start := func() {
		_, err := l.Execute(context.Background(), cmd, files, [2]uint64{})
		results <- err
	}
	go start()
	go start()
	polltest.Until(t, "both to wait", func() bool { return waiting(64304) == 2 })
	l.Kill()
	go start()
	for range 3 {
		select {
		case err := <-results:
			if err == nil {
				t.Error("it was started")
			}
		case <-time.After(20 * time.Second): // the kernel ends the lease later
			t.Fatal("it is still waited for")
		}
	}
	if n := waiting(64304); n > 0 || l.Len() > 0 {
		t.Errorf("%d programs are left", n)
	}
}

// waiting is how many processes a user has.
func waiting(uid uint32) (n int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Sys().(*syscall.Stat_t).Uid == uid {
			n++
		}
	}
	return n
}
