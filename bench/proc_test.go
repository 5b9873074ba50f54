package main

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// A program ends with all that it has started, though they do not heed TERM.
func TestEndEndsTheGroup(t *testing.T) {
	becomeSubreaper()
	p, err := start(t.TempDir(), exec.Command("sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for len(descendants(p.pid())) == 0 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	children := descendants(p.pid())
	if len(children) != 1 {
		t.Fatalf("children: %v", children)
	}
	p.end()
	for alive(children[0]) && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if p.err == nil || alive(children[0]) {
		t.Errorf("it ended by %v, its child lives: %v", p.err, alive(children[0]))
	}
}

func alive(pid int) bool {
	s, err := readStat(pid)
	return err == nil && s.state != 'Z'
}

func TestUsage(t *testing.T) {
	before := usageOf(os.Getpid())
	s, err := readStat(os.Getpid())
	if err != nil || s.parent != os.Getppid() || s.threads < 1 || s.rss < 1<<20 {
		t.Fatalf("%+v %v", s, err)
	}
	begin, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for now := begin; now < begin+20*time.Millisecond; {
		if now, err = cpuTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if used := usageOf(os.Getpid()).minus(before); used.daemon < 20*time.Millisecond {
		t.Errorf("%+v", used)
	}
}

func TestReadyTellsWhatItPrinted(t *testing.T) {
	p, err := start(t.TempDir(), exec.Command("sh", "-c", "echo no such luck; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	err = p.ready(t.Context(), "unix", t.TempDir()+"/none")
	if err == nil || err.Error() != "/usr/bin/sh has ended (exit status 3): no such luck" && err.Error() != "/bin/sh has ended (exit status 3): no such luck" {
		t.Error(err)
	}
}
