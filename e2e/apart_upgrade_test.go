//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

// What of the configuration and the program an upgrade takes is root's, and the user stays: else
// it is refused in words, and changes nothing.
func TestApartUpgradeRefused(t *testing.T) {
	t.Parallel()
	needRoot(t)
	u := newUpgradable(t, true, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
	pool := u.adapt(fmt.Sprintf("- {name: cgi, listen: 'unix:%s/s', process: {root: [%[1]s/cgi]}}\n", u.dir))
	old := u.running()
	for _, test := range []struct {
		name    string
		prepare func()
		code    int
		says    string
	}{
		{"a program that others may write", func() { u.program(`exec ` + binary + ` "$@"`); os.Chmod(u.etc+"/script", 0o777) }, 1, "could be changed by others than root"},
		{"a program in a folder of others", func() { script(t, u.dir+"/mine", "#!/bin/sh\n"); u.link(u.dir + "/mine") }, 1, "could be changed by others than root"},
		{"a file that others may write", func() { u.link(binary); os.Chmod(u.file, 0o666) }, 78, "could be changed by others than root"},
		{"another user", func() { os.Chmod(u.file, 0o644); u.daemon.configure(strings.ReplaceAll(pool, "nobody", "daemon")) }, 1, "user cannot change while the daemon runs"},
		{"no user", func() { u.daemon.configure(strings.ReplaceAll(pool, "nobody", `""`)) }, 1, "user cannot change while the daemon runs"},
		{"an unknown key", func() { u.daemon.configure(pool + "bad: 1\n") }, 78, "bad: unknown key"},
	} {
		test.prepare()
		u.upgrade().is(t, test.name, test.code, test.says, "the old daemon goes on")
		if now := u.running(); now != old {
			t.Fatalf("%s: process %d answers, not %d", test.name, now, old)
		}
		u.good("unix", u.dir+"/s", u.dir+"/cgi/hello.sh")
	}
	u.daemon.configure(pool)
	u.upgrade().is(t, "a good one", 0)
}

// A daemon of one process does not become two by an upgrade.
func TestUpgradeToApart(t *testing.T) {
	t.Parallel()
	needRoot(t)
	u := newUpgradable(t, false, "- {name: fn, listen: 'unix:DIR/s', function: {}}\n")
	old := u.running()
	u.configure(fmt.Sprintf("- {name: fn, listen: 'unix:%s/s', function: {}}\nuser: nobody\n", u.dir))
	u.upgrade().is(t, "upgrade", 1, "user cannot change while the daemon runs", "the old daemon goes on")
	if now := u.running(); now != old {
		t.Errorf("process %d answers, not %d", now, old)
	}
}

// A daemon that is killed amid an upgrade leaves nothing of that either, however deaf: neither what was
// started in its place, nor the programs of that.
func TestApartUpgradeLeavesNothing(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, deaf := range []string{"program", "spawner", "daemon"} {
		t.Run(deaf, func(t *testing.T) {
			t.Parallel()
			u := newUpgradable(t, true, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
			old := u.running()
			var left []int
			var done <-chan output
			if deaf == "program" {
				u.program("trap '' TERM; echo $$ >" + u.dir + "/next; sleep 600 & wait; sleep 600")
				done = u.upgradeLater()
				left = append(left, awaitPID(t, u.dir+"/next"))
			} else {
				u.configureHanging()
				done = u.upgradeLater()
				left = u.starting()
				left = append(left, children(left[0])...) // its worker, too
				stopped := left[0]
				if deaf == "daemon" {
					stopped = left[1]
				}
				if err := syscall.Kill(stopped, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
			}
			if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if code := u.exitCode(); code != 1 {
				t.Errorf("exit status %d", code)
			}
			if o := <-done; o.code == 0 {
				t.Errorf("the upgrade has succeeded: %+v", o)
			}
			awaitGone(t, left)
		})
	}
}

// Whichever of the four processes is killed, when the new daemon is not ready yet or when the old one
// has a request still: the upgrade fails and the old one goes on, or the new one goes on, or all
// end. Nothing is left, and nobody waits for ever.
func TestApartUpgradeKilled(t *testing.T) {
	t.Parallel()
	needRoot(t)
	const oldSpawner, oldDaemon, newSpawner, newDaemon = 0, 1, 2, 3
	for name, test := range map[string]struct {
		victim  int
		isReady bool
		stays   []int // of the four processes
	}{
		"old spawner, not ready": {oldSpawner, false, nil},
		"old daemon, not ready":  {oldDaemon, false, nil},
		"new spawner, not ready": {newSpawner, false, []int{oldSpawner, oldDaemon}},
		"new daemon, not ready":  {newDaemon, false, []int{oldSpawner, oldDaemon}},
		"old spawner, serving":   {oldSpawner, true, []int{newSpawner, newDaemon}},
		"old daemon, serving":    {oldDaemon, true, []int{newSpawner, newDaemon}},
		"new spawner, serving":   {newSpawner, true, nil},
		"new daemon, serving":    {newDaemon, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpgradable(t, true, "- {name: cgi, listen: 'unix:DIR/s', process: {root: [DIR/cgi]}}\n")
			_, running := u.busy()
			all := []int{u.Process.Pid, u.running()}
			var done <-chan output
			if test.isReady {
				u.upgrade().is(t, "upgrade", 0)
				all = append(all, u.main(), u.running())
			} else {
				u.configureHanging()
				done = u.upgradeLater()
				all = append(all, u.starting()...)
			}
			syscall.Kill(all[test.victim], syscall.SIGKILL)
			if done != nil {
				if o := <-done; o.code == 0 {
					t.Errorf("the upgrade has succeeded: %+v", o)
				}
			}
			if test.victim >= newSpawner && test.isReady {
				write(t, u.dir+"/go", "") // which the old one waits for
			}
			stays := make(map[int]bool)
			for _, i := range test.stays {
				stays[all[i]] = true
			}
			for _, pid := range all {
				if !stays[pid] {
					awaitGone(t, []int{pid})
				}
			}
			for pid := range stays {
				if !alive(pid) {
					t.Errorf("process %d of %v has ended", pid, all)
				}
			}
			if len(stays) > 0 {
				u.good("unix", u.dir+"/s", u.dir+"/cgi/hello.sh")
			}
			if isOldOver := !stays[all[oldDaemon]]; isOldOver && !(test.victim >= newSpawner && test.isReady) {
				awaitGone(t, []int{running})
			}
		})
	}
}
