package runner

import (
	"io"
	"os"
	"testing"
)

// Without a pidfd that can be waited for, Run waits all the same.
func TestAwaitExitWithoutPidfd(t *testing.T) {
	for name, spoil := range map[string]func(c *child){
		"none": func(c *child) { c.pidfd.Close(); c.pidfd = nil },
		"not pollable": func(c *child) {
			c.pidfd.Close()
			c.pidfd, _ = os.Open("/dev/null")
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := startChild(&command{argv: []string{"/bin/sh", "-c", "read x; exit 3"}, dir: "/", stdin: true})
			if err != nil {
				t.Fatal(err)
			}
			c.register()
			spoil(c)
			if c.hasExited() {
				t.Error("it has exited")
			}
			waited := make(chan struct{})
			go func() { c.awaitExit(); close(waited) }()
			c.stdin.Close()
			<-waited
			if !c.hasExited() {
				t.Error("it has not exited")
			}
			io.Copy(io.Discard, c.stdout)
			c.stdout.Close()
			c.stderr.Close()
			e, err := c.reap()
			if err != nil || e.appStatus() != 3 {
				t.Errorf("reap returned %+v, %v", e, err)
			}
		})
	}
}

// Nothing is signalled any more once the pid may be that of another program.
func TestNoSignalAfterReap(t *testing.T) {
	c, err := startChild(&command{argv: []string{"/bin/true"}, dir: "/"})
	if err != nil {
		t.Fatal(err)
	}
	c.register()
	c.stdout.Close()
	c.stderr.Close()
	c.pumps.Go(c.awaitExit)
	if _, err := c.reap(); err != nil {
		t.Fatal(err)
	}
	victim, err := startChild(&command{argv: []string{"/bin/sh", "-c", "read x; exit 4"}, dir: "/", stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	victim.register()
	c.pid = victim.pid // it was reused
	c.terminate(0)
	c.killGroup()
	var all Children
	all.add(c)
	all.Kill()
	victim.stdin.Close()
	victim.stdout.Close()
	victim.stderr.Close()
	victim.pumps.Go(victim.awaitExit)
	if e, err := victim.reap(); err != nil || e.appStatus() != 4 {
		t.Errorf("reap returned %+v, %v", e, err)
	}
}
