package spawn_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/internal/polltest"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
	"github.com/fcgid/fcgid/internal/spawn"
)

// stopAll stops the processes of a user, and reports whether there are any.
func stopAll(uid uint32) (stopped bool) {
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), fmt.Sprintf("\nUid:\t%d\t", uid)) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		stopped = unix.Kill(pid, unix.SIGSTOP) == nil || stopped
	}
	return stopped
}

// A program that its user stops before it is executed is killed. Until then others are started,
// and afterwards garbage is collected that was waiting for it.
func TestStoppedBeforeItBegins(t *testing.T) {
	needRoot(t)
	spawn.Outlive(t)
	dir := openFolder(t)
	one, other := &spawn.Identity{UID: 64311, GID: 64311}, &spawn.Identity{UID: 64312, GID: 64312}
	for name, box := range map[string]*spawn.Sandbox{"plain": nil, "Landlock": {NoNewPrivs: true, Read: []string{"/"}}} {
		for _, threads := range []string{"team", "own"} {
			t.Run(name+" "+threads, func(t *testing.T) {
				if threads == "own" {
					spawn.OwnAllThreads(t)
				}
				file := filepath.Join(dir, name+threads)
				runnertest.Leased(t, file)
				l := new(spawn.Local)
				result := make(chan error, 1)
				go func() {
					_, err := l.Start(t.Context(), &spawn.Command{Argv: []string{file}, Dir: "/", Identity: one, Sandbox: box})
					result <- err
				}()
				polltest.Until(t, "the program to be stopped", func() bool { return stopAll(one.UID) })
				if err := spawn.Run(t.Context(), l, &spawn.Command{Argv: []string{"/bin/true"}, Dir: "/", Identity: other}, io.Discard); err != nil {
					t.Errorf("another user's program: %v", err)
				}
				spawn.Garbage()
				spawn.Collect()
				select {
				case err := <-result:
					if err == nil || !strings.HasSuffix(err.Error(), "stopped by a signal before it began") {
						t.Errorf("the program that was stopped: %v", err)
					}
				case <-time.After(20 * time.Second): // the kernel ends the lease later
					t.Error("the program that was stopped is not killed")
				}
				if n := waiting(one.UID); n > 0 || l.Len() > 0 {
					t.Errorf("%d processes, and %d programs, are left", n, l.Len())
				}
			})
		}
	}
}
