//go:build e2e

package e2e

import (
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fcgid/fcgid/fcgi"
	"github.com/fcgid/fcgid/internal/runner/runnertest"
)

// A program that hangs while it is executed, as its owner can have it do, holds up neither the end of
// its request, nor a stop, nor the end of a daemon that is killed, and nothing is left of it.
func TestApartHungExecution(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("there is nothing that starts programs of others on this architecture")
	}
	const user = 64102
	for name, test := range map[string]struct {
		timeout string
		end     func(*testing.T, *apart)
		code    int
	}{
		"timeout":    {"300ms", func(_ *testing.T, a *apart) { a.signal(syscall.SIGTERM) }, 0},
		"stop":       {"0", func(_ *testing.T, a *apart) { a.signal(syscall.SIGTERM) }, 0},
		"second one": {"0", func(_ *testing.T, a *apart) { a.insist(syscall.SIGTERM) }, 1},
		"kill":       {"0", func(_ *testing.T, a *apart) { unix.Kill(a.served, unix.SIGKILL) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			a := serveApart(t)
			pools := strings.Replace(a.withPrograms(t), "timeout: 0", "timeout: "+test.timeout, 1)
			a.configure(pools)
			text, err := os.ReadFile(a.file)
			if err != nil {
				t.Fatal(err)
			}
			if test.code == 0 {
				write(t, a.file, strings.Replace(string(text), "shutdown_timeout: 10s", "shutdown_timeout: 100ms", 1))
			}
			a.order(t, "reload").is(t, "reload", 0)
			script := a.dir + "/cgi/hangs"
			runnertest.Leased(t, script)
			if err := os.Chown(script, user, user); err != nil {
				t.Fatal(err)
			}
			c, err := fcgi.Dial(t.Context(), "unix:@"+a.address+"-two")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			answered := make(chan struct{})
			go func() {
				defer close(answered)
				c.Do(t.Context(), &fcgi.Request{Params: params(script)})
			}()
			soon := func(what string, done <-chan struct{}) {
				t.Helper()
				select {
				case <-done:
				case <-time.After(30 * time.Second): // the kernel ends the lease later
					t.Error(what + " is still waited for")
				}
			}
			if test.timeout == "0" {
				await(t, "it to hang", func() bool { return len(programsOf(t, user)) > 0 })
			} else {
				soon("the answer", answered)
				await(t, "the program to be gone", func() bool { return len(programsOf(t, user)) == 0 })
			}
			test.end(t, a)
			soon("the end", a.done)
			if code := a.exitCode(); code != test.code || alive(a.served) {
				t.Errorf("exit status %d", code)
			}
			await(t, "nothing to be left", func() bool { return len(programsOf(t, user)) == 0 })
			<-answered
		})
	}
}
